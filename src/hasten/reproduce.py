"""The claims of a result, measured anew: its answers, its speed, its size, against the network that it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from hasten import replies
from hasten.budget import parse_budget
from hasten.example import PACKAGES
from hasten.machine import machine
from hasten.measure.evaluate import NewNaN
from hasten.measure.quality import assess
from hasten.measure.speed import margin_of
from hasten.measure.timing import interleave, timing
from hasten.protocols import Door, Listener
from hasten.read_result import Served, load_served
from hasten.report import story
from hasten.report.words import scatter, size
from hasten.result_files import Asked, Check
from hasten.search import answers
from hasten.search.baseline import measure_baseline, noise_floor
from hasten.search.confirm import judged, unchanged
from hasten.search.field import Run
from hasten.search.folder import RunFolder
from hasten.search.forms import artefact_bytes
from hasten.search.loading import baseline, fresh_worker
from hasten.search.prepare import prepare
from hasten.search.question import Question, digest, told_of
from hasten.search.wording import moved
from hasten.sessions import Session, widened
from hasten.trial import Quality, Result, Timing
from hasten.worker import CallFailed, Worker, WorkerDied

VERIFY_RESTARTS, VERIFY_ROUNDS = 4, 5
SESSIONS_DIFFER = 1.1  # by so much at most, on a shared machine (3 to 10 % were measured)
BETTING = "betting"  # the method of a bound from samples that ``prove`` added
BUSIER = 2  # times the noise of the search: worth a word
AS_GIVEN = "the result is the network as given: it claims no gain, and nothing was timed"
QUIET = "check again while the machine is quiet"


@dataclass(frozen=True, kw_only=True)
class Original:
    """What the search was asked about: the network, the data, and the question."""

    model: Path
    data: object
    asked: Asked
    metric: str | Callable[..., Any] | None
    trust: bool


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found here and now."""

    quality: Quality
    spoilt: str  # an output that is not shown to be kept, in words
    speed: Timing | None  # None where the result is the network as given
    noise: Timing | None
    bytes: tuple[int, int]  # of the original's file and of the result's
    peaks: tuple[int, int]  # bytes in memory, likewise


def again(
    result: Result, original: Original, network: Served, folder: RunFolder, listen: Listener,
    earlier: tuple[Session, ...] = (),
) -> tuple[list[Check], Timing | None]:  # fmt: skip
    """Measure the result against the original, as the search did at its end; a check for each claim, and the speed.

    ``earlier`` are the speeds of sessions before this one.
    """
    run, _, _ = prepare(question_of(result, original), folder, listen, look=result.looks)
    try:
        if not_the_same := [*_same_data(run, result), *same_metric(run, result, original.asked)]:
            return not_the_same, None
        found = _measured(run, result, network)
    except (WorkerDied, CallFailed, NewNaN) as fault:
        return [Check("claims", False, str(fault))], None
    finally:
        run.close()
    return [
        _accuracy(result, found.quality, found.spoilt),
        *_bytes(result, original.asked, found),
        *versions(result),
        _timed(result, found, original.asked.objective, earlier),
    ], found.speed


def _timed(result: Result, found: Measured, objective: str, earlier: tuple[Session, ...]) -> Check:
    """The check of the speed; a result that is the network as given claims none, and is not timed against itself."""
    if found.speed is None or found.noise is None:
        return Check("speed", True, AS_GIVEN)
    return speed(result, found.speed, found.noise, objective, earlier)


def question_of(result: Result, original: Original) -> Question:
    """The question of the search, asked about what ``original`` holds."""
    asked = original.asked
    return Question(
        model=original.model,
        data=original.data,
        budget=parse_budget(result.budget, result.confidence, asked.certificate),
        metric=original.metric,
        output=asked.output,
        output_kinds=asked.output_kinds,
        ignored=asked.ignored,
        labels=asked.labels,
        groups=asked.groups,
        state=asked.state,
        preprocess=asked.preprocess,
        columns=asked.columns,
        lower_is_better=asked.lower_is_better,
        also=tuple(asked.also),
        batch=asked.batch,
        threads=asked.threads,
        objective=asked.objective,
        per_tensor=asked.per_tensor,
        seed=asked.seed,
        served_by=asked.served_by,
        door=Door(trust=original.trust, module=asked.module, signature=asked.signature),
    )


def _same_data(run: Run, result: Result) -> list[Check]:
    if run.evaluator.store.digest == result.data_sha256:
        return []
    return [Check("data", None, "these are not the samples of this result", "give the data of the run: --data PATH")]


def same_metric(run: Run, result: Result, asked: Asked) -> list[Check]:
    """A check that could not be made, where the metric here is not the one of the result."""
    metric = run.evaluator.metric
    if metric.name != result.metric:
        text = f"the result was judged by {result.metric!r:.80}, and here {metric.name!r:.80} is chosen"
        return [Check("metric", None, text, "check with the version of hasten that made the result")]
    if asked.metric_sha256 is not None and digest(told_of(metric)) != asked.metric_sha256:
        text = f"the function {metric.name!r:.80} is not the one of the run: its file, or what it holds, has changed"
        return [Check("metric", None, text, "give the function of the run: metric=")]
    return []


def _measured(run: Run, result: Result, network: Served) -> Measured:
    ids = _answered(run, result)
    measure_baseline(run, ids)
    given = baseline(run)
    changed_network = story.changed(result)
    noise = noise_floor(run) if changed_network else None
    with Worker(name=network.name) as worker:
        load_served(worker, network, run.names)
        lossless = result.winner.candidate.lossless
        tallies = answers.started(run)
        rows, changed = judged(run, worker, ids, tallies, lossless=lossless)
        lacking = answers.lacking(run, tallies, ids, run.proof.alpha)
        taken = raced(run, network) if changed_network else None
        peaks = (replies.memory(given), replies.memory(worker))
    known, groups = run.evaluator.known(ids), run.evaluator.groups(ids)
    quality = assess(run.evaluator.metric, run.proof, known, rows, split="confirm", groups=groups)
    original = next(run.forms[f] for f in (run.origin.format, "onnx") if f in run.forms)
    return Measured(
        quality=unchanged(quality) if lossless and not changed else quality,
        spoilt=f"output {lacking}" if lacking else "",
        speed=taken,
        noise=noise,
        bytes=(artefact_bytes(original), artefact_bytes(network.path)),
        peaks=peaks,
    )


def raced(run: Run, network: Served) -> Timing:
    """The speed-up from processes that are started several times, as the search told it.

    Raises:
        WorkerDied, CallFailed: one of both does not run to the end.
    """
    blocks: dict[str, list[float]] = {"baseline": [], "result": []}
    for attempt in range(VERIFY_RESTARTS):
        candidate = run.trials[run.given].candidate
        with fresh_worker(run, candidate, keep=False) as given, Worker(name=network.name) as worker:
            load_served(worker, network, run.names)
            sides = {"baseline": given, "result": worker}
            series = interleave(sides, run.work, rounds=VERIFY_ROUNDS, seed=run.seed + attempt, rested=True)
        for fault in series.lost.values():
            raise fault
        for name, found in series.blocks.items():
            blocks[name] += found
    return timing(blocks["baseline"], blocks["result"], restarts=VERIFY_RESTARTS)


def _answered(run: Run, result: Result) -> list[int]:
    """The samples that a claim about the answers rests on: the confirm split, or those that an estimate is from."""
    seen = result.winner.confirm or result.winner.search
    ids = run.splits.confirm
    if not len(ids) or (seen is not None and seen.split == "search"):
        ids = run.splits.search
    estimate = result.verdict == "undecided" and seen is not None and not run.evaluator.store.sequential
    return [int(i) for i in (ids[: seen.n] if estimate and seen is not None else ids)]


def _accuracy(result: Result, quality: Quality, spoilt: str) -> Check:
    text = f"{moved(quality.drop)}, {_bounds(quality)} (budget {result.budget})"
    if result.winner.confirm is not None and result.winner.confirm.method == BETTING:
        agrees = quality.lower <= parse_budget(result.budget, result.confidence).max_drop and not spoilt
        return Check("accuracy", agrees, f"{text}; the certificate rests on samples that were added later")
    claimed = result.verdict == "met" or result.winner.candidate.lossless  # else nothing is said of its answers
    if result.verdict == "undecided" and story.changed(result):
        inside = quality.drop <= parse_budget(result.budget, result.confidence).max_drop
        return Check("estimate", inside and not spoilt, f"{text}; {spoilt}" if spoilt else text)
    return Check("accuracy", bool((quality.met and not spoilt) or not claimed), f"{text}; {spoilt}" if spoilt else text)


def _bounds(quality: Quality) -> str:
    """Both bounds, with what each assumes."""
    safe = quality.guaranteed_upper
    sure = f"at most {safe * 100:.2f} whatever was not seen" if isfinite(safe) else "no bound whatever was not seen"
    like = f"at most {quality.upper * 100:.2f} if unseen samples are like these {quality.n:,}"
    return f"{like}, {sure}, up to {quality.hidden_share * 100:.2g} % of samples hidden"


def _bytes(result: Result, asked: Asked, found: Measured) -> list[Check]:
    """For the objectives that count bytes: the result has fewer than the original."""
    if asked.objective not in ("size", "memory"):
        return []
    before, after = found.bytes if asked.objective == "size" else found.peaks
    text = f"{size(after)}, the original has {size(before)}"
    return [Check(asked.objective, after < before or result.verdict != "met", text)]


def versions(result: Result) -> list[Check]:
    """The claims are about the runtimes of the search; with others they are checked, and not the same claims."""
    then, here = result.machine.versions, machine().versions
    names = {PACKAGES.get(t.candidate.engine, t.candidate.engine) for t in (result.winner, result.as_given)}
    other = sorted(name for name in names if name in then and then[name] != here.get(name))
    if not other:
        return []
    text = ", ".join(
        f"{name} was {then[name]:.40} in the search and is {here.get(name, 'missing')} here" for name in other
    )
    return [Check("versions", None, text, f"pip install {' '.join(f'{name}=={then[name]:.40}' for name in other)}")]


def speed(
    result: Result, found: Timing, noise: Timing, objective: str = "latency", earlier: tuple[Session, ...] = ()
) -> Check:
    """The speed-up found now beside the one claimed and earlier ones, and what this machine can tell apart."""
    now, then = (margin_of(one.low, one.high) for one in (noise, result.noise))
    claimed = result.winner.timing
    interval = f" [{claimed.low:.2f}, {claimed.high:.2f}]" if claimed else ""
    parts = [
        f"{found.speedup:.2f}× [{found.low:.2f}, {found.high:.2f}], claimed {result.speedup:.2f}×{interval}",
        *_compared(found, claimed),
        *_over_sessions(found, claimed, earlier),
        f"noise {scatter(noise.low, noise.high)}, {story.noise(result)} in the search",
        *["the machine is busier now"] * (now > BUSIER * then),
        *dict.fromkeys((*noise.flags, *found.flags)),
    ]
    ok = _fast_enough(result, found, objective)
    return Check("speed", ok, "; ".join(parts), QUIET if ok is None else "")


def _over_sessions(found: Timing, claimed: Timing | None, earlier: tuple[Session, ...]) -> list[str]:
    """The interval that holds what the search and every session found; told from the second session on."""
    if claimed is None or not earlier:
        return []
    low, high = widened(claimed.low, claimed.high, earlier)
    low, high = min(low, found.speedup), max(high, found.speedup)
    return [f"over the search and {len(earlier) + 1} sessions [{low:.2f}, {high:.2f}]"]


def _compared(found: Timing, claimed: Timing | None) -> list[str]:
    if claimed is None:
        return []
    if found.high < claimed.low:
        return ["less than claimed"]
    return ["more than claimed"] if found.low > claimed.high else ["as claimed"]


def _fast_enough(result: Result, found: Timing, objective: str) -> bool | None:
    """As fast as claimed; None where this machine cannot tell now, or is slower by no more than sessions differ."""
    claimed = result.winner.timing
    if claimed is None or (result.verdict != "met" and not story.changed(result)):
        return True
    if objective in ("size", "memory"):
        return found.high >= 1
    if found.high < 1 or found.high * SESSIONS_DIFFER < claimed.low:
        return False
    return True if found.low > 1 and found.high >= claimed.low else None
