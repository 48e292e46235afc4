"""Add samples to a result: measure them on both networks, and certify what the old and the new evidence allow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Any

from hasten import artefacts, claims
from hasten.adding import GROUPED, Opened, measured
from hasten.errors import InputError, UsageError
from hasten.evidence import Evidence, read_evidence, with_labels
from hasten.measure import betting
from hasten.measure.added import earlier, weighed
from hasten.protocols import Listener
from hasten.read_result import copy_network
from hasten.reproduce import BETTING
from hasten.result_files import ESTIMATED, ITS_OUT, TO_LABEL, read_manifest, read_report
from hasten.samples.load import check_exists
from hasten.search.folder import RunFolder
from hasten.search.wording import moved
from hasten.trial import Quality, Result

NAMED = "give samples with labels: --data PATH, inputs alone: --unlabelled PATH, or labels: --labels-from to_label.csv"


@dataclass(frozen=True)
class Added:
    """What the caller of ``prove`` adds."""

    data: object = None
    unlabelled: object = None
    labels_from: str | Path | None = None


def prove(out: Path, added: Added, given: claims.Given, folder: RunFolder, listen: Listener) -> dict[str, Any]:
    """Measure the added samples, judge with them, and write the folder anew; nothing is written where one is refused.

    Raises:
        UsageError, InputError: the folder, or what is added, does not fit; the old result stays.
    """
    opened = open_result(out)
    if added.data is None and added.unlabelled is None and added.labels_from is None:
        raise UsageError("nothing is added", help=NAMED)
    evidence = opened.evidence
    before = evidence.n
    labelled = 0
    if added.labels_from is not None:
        evidence, labelled = with_labels(evidence, Path(added.labels_from))
    for data, has_labels in ((added.data, True), (added.unlabelled, False)):
        if data is not None:
            part = RunFolder(folder.path / ("labelled" if has_labels else "unlabelled"))
            part.path.mkdir()
            evidence = measured(replace(opened, evidence=evidence), data, has_labels, given, part, listen)
    result, told = judge(opened, evidence)
    _write(opened, result, evidence, folder)
    return {**told, "added": evidence.n - before, "labels": labelled}


def open_result(out: Path) -> Opened:
    """The result folder, unchanged since it was written, and its network that lacks a guaranteed certificate.

    Raises:
        UsageError: it is no result of a search, or more samples cannot raise its grade. InputError: it was changed.
    """
    manifest = read_manifest(out)
    if manifest.made_by != "optimize" or manifest.question is None:
        raise UsageError(f"{out} holds an applied recipe, which claims nothing", help=ITS_OUT)
    if wrong := claims.changed(out, manifest):
        cause = f"changed or missing: {', '.join(wrong)[:300]}"
        raise InputError(f"{out} is not as hasten wrote it", cause=cause, help="run hasten optimize again")
    result = read_report(out)
    evidence = read_evidence(out)
    if not raisable(result):
        cause = f"its verdict is {result.verdict}, and it keeps no faster network without a guarantee"
        raise UsageError(f"more samples cannot raise the grade of {out}", cause=cause, help="run hasten optimize again")
    if manifest.state:
        raise UsageError(f"{out} cannot be proven further", cause=GROUPED, help="run hasten optimize on all samples")
    place = out / ESTIMATED if result.estimated else out
    trial = result.estimated.trial if result.estimated else result.winner
    if evidence.candidate not in ("", trial.candidate.key):
        raise InputError(f"the evidence in {out} is about another network", help="run hasten optimize again")
    return Opened(out=out, place=place, manifest=manifest, result=result, trial=trial, evidence=evidence)


def check_unlabelled(unlabelled: object, out: object) -> None:
    """Refuse, before a search starts, unlabelled inputs that nobody could use after it.

    Raises:
        UsageError: no folder keeps the evidence. InputError: there is no such file.
    """
    if unlabelled is not None and out is None:
        raise UsageError("unlabelled inputs need a folder for the evidence", help="name one: --out out")
    if isinstance(unlabelled, str | Path):
        check_exists(Path(unlabelled))


def raisable(result: Result) -> bool:
    """True where the result holds a network that changes answers and has no guaranteed certificate."""
    won = result.verdict == "met" and not result.winner.candidate.lossless and result.certificate != "guaranteed"
    return won or result.estimated is not None


def judge(opened: Opened, evidence: Evidence) -> tuple[Result, dict[str, Any]]:
    """The result with what its evidence allows, and the same in words and numbers."""
    seen, weights = weighed(evidence)
    log_wealth = betting.log_wealth(seen, evidence.limit, weights)
    proven = log_wealth >= log(1 / opened.level)
    bound = betting.upper(seen, weights, opened.level)
    advice, labels, samples = "", None, None
    if not proven:
        labels = _labels(opened, evidence, seen, weights)
        samples = betting.more_needed(seen, evidence.limit, weights, opened.level)
        advice = _advice(evidence, labels, samples)
    quality = _quality(opened, evidence, seen, bound, log_wealth, proven=proven)
    sentence = _sentence(opened, evidence, seen, bound, proven=proven, advice=advice)
    told = {
        "answer": "proven" if proven else "not proven", "certificate": "", "sentence": sentence, "samples": evidence.n,
        "changed": len(evidence.changed), "bound": bound if evidence.n else None, "to_label": evidence.unknown,
        "labels_needed": labels, "samples_needed": samples,
    }  # fmt: skip
    result = _updated(opened, quality, sentence, samples, proven=proven)
    return result, {**told, "certificate": result.certificate}


def _labels(opened: Opened, evidence: Evidence, seen: betting.Losses, weights: betting.Floats) -> int | None:
    """About how many labels of ``to_label.csv`` would settle it, from how earlier changes went."""
    before = earlier(evidence)
    lost, same, gained = (
        sum(one.label is not None and one.loss == loss for one in evidence.changed) for loss in (1.0, 0.0, -1.0)
    )
    if before is not None:
        lost, gained = lost + int(before.counts[2]), gained + int(before.counts[0])
    whole = lost + same + gained + 3  # one of each is added, as a flat prior does
    shares = {"lost": (lost + 1) / whole, "gained": (gained + 1) / whole}
    return betting.labels_needed(seen, evidence.unknown, evidence.limit, weights, opened.level, **shares)


def _advice(evidence: Evidence, labels: int | None, samples: int | None) -> str:
    if labels is not None:
        return f"about {labels:,} labels of the {evidence.unknown:,} inputs in {TO_LABEL} would settle it"
    if samples is not None:
        return f"about {samples:,} more samples would settle it"
    first = f"labels of the {evidence.unknown:,} inputs in {TO_LABEL}, and " if evidence.unknown else ""
    return f"it takes {first}more labelled samples"


def _quality(
    opened: Opened, evidence: Evidence, seen: betting.Losses, bound: float, log_wealth: float, *, proven: bool
) -> Quality:
    """The old estimate, or once proven the bound of the added samples with their mean loss."""
    old = opened.trial.confirm or opened.trial.search
    assert old is not None
    if not proven:
        return old
    shift = opened.budget.max_drop if opened.budget.kind == "relative" else 0.0
    scale = 1 / old.baseline if opened.budget.kind == "relative" and old.baseline > 0 else 1.0
    drop, most = seen.mean * scale + shift, bound * scale + shift
    return replace(
        old, split="confirm", n=seen.n, drop=drop, value=old.baseline - drop, lower=min(old.lower, drop), upper=most,
        p_value=min(1.0, exp(-max(0.0, log_wealth))), method=BETTING, met=True, flips=None, certificate="guaranteed",
        guaranteed_upper=most, guaranteed_method=BETTING, hidden_share=1 - opened.level ** (1 / seen.n),
        level=opened.level,
    )  # fmt: skip


def _sentence(
    opened: Opened, evidence: Evidence, seen: betting.Losses, bound: float, *, proven: bool, advice: str
) -> str:
    timed = opened.trial.timing
    speed = f"{timed.speedup:.2f}× faster [{timed.low:.2f}, {timed.high:.2f}]" if timed else "faster"
    budget = f"budget {opened.budget}, {evidence.n:,} added samples"
    if opened.budget.kind == "relative":
        held = "the drop is inside" if proven else "the drop is not yet shown to be inside"
        bounded = f"{held} the {budget}"
    elif proven:
        known = moved(seen.mean) if not evidence.unknown else "drop"
        bounded = (
            f"{known}{',' if not evidence.unknown else ''} at most {bound * 100:.2f} points, guaranteed ({budget})"
        )
    else:
        bounded = f"drop at most {bound * 100:.2f} points ({budget})"
    if proven:
        return f"{speed}; {bounded}"
    state = "and has a statistical certificate" if opened.place == opened.out else "and has no certificate"
    return f"{opened.trial.candidate.label} is {speed} {state}; {bounded}; {advice}"


def _updated(opened: Opened, quality: Quality, sentence: str, samples: int | None, *, proven: bool) -> Result:
    """The result with the proven network in the winner's place, or with the estimate in other words."""
    result, trial = opened.result, replace(opened.trial, confirm=quality, reason="")
    if proven:
        able = replace(result.provable, n_confirm=max(1, result.provable.n_confirm))
        trials = tuple(trial if t.candidate.key == trial.candidate.key else t for t in result.trials)
        return replace(
            result, verdict="met", sentence=sentence, winner=trial, trials=trials, provable=able, estimated=None,
            needed_samples=None,
        )  # fmt: skip
    if result.estimated is None:
        return result
    told = replace(result.estimated, sentence=sentence, needed_samples=samples)
    if result.verdict != "undecided":
        return replace(result, estimated=told)
    return replace(result, estimated=told, sentence=sentence, needed_samples=samples)


def _write(opened: Opened, result: Result, evidence: Evidence, folder: RunFolder) -> None:
    """Write the folder anew, in one step; its networks are copies whose digests were compared."""
    old = opened.manifest
    promoted = opened.place != opened.out and result.estimated is None
    places = {"winner": opened.place if promoted else opened.out}
    if result.estimated is not None:
        places["estimated"] = opened.place
    copies = {}
    for name, place in places.items():
        manifest = read_manifest(place)
        if wrong := copy_network(place, manifest, folder.path / "copies" / name):
            raise InputError(f"{place} changed while it was read", cause=", ".join(wrong)[:300], help="try again")
        copies[name] = folder.path / "copies" / name / manifest.network
    kept = ("outputs", "shapes", "command", "batch", "state", "question")
    artefacts.write(
        opened.out, result=result, artefact=copies["winner"], inputs=old.inputs, splits=old.splits,
        extra={name: getattr(old, name) for name in kept}, force=False, building=folder.building,
        estimated=copies.get("estimated"), evidence=evidence,
    )  # fmt: skip
