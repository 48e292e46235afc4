"""What a result means, as plain values: the facts that the page and the console both tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from hasten.budget import parse_budget
from hasten.errors import HastenError
from hasten.measure.sequential import worn_alpha
from hasten.report.words import NOT_MEASURED, Scale, count, known, millis, scatter, size, times
from hasten.trial import Quality, Result, Trial

ORDER = ("ok", "rejected", "slower", "unsupported", "crashed", "timeout", "skipped")
FATES = {"rejected": "over the budget", "unsupported": "not supported here", "timeout": "too slow to answer"}
COUNTED = {"rejected": "over the budget", "unsupported": "not supported here", "timeout": "timed out"}
MARKS = {"met": "–", "nothing_faster": "–", "undecided": "✗"}  # of what is not certified
BADGES = {"met": "Unchanged answers, no proof", "nothing_faster": "The original stays", "undecided": "Not certified"}
HEADLINES = {"met": "Faster, inside the budget", "nothing_faster": "Nothing faster", "undecided": "Undecided"}


@dataclass(frozen=True)
class Row:
    """One line of the before-and-after table; ``change`` is empty where there is nothing to compare."""

    name: str
    before: str
    after: str
    change: str = ""


@dataclass(frozen=True)
class Factor:
    """One stage on the way from the network as given to the winner. Latencies in milliseconds on one scale."""

    name: str
    how: str
    speedup: float | None
    step: float | None  # the gain over the stage before
    milliseconds: float | None


def title(result: Result) -> str:
    """The network's file name, without the way to it; with its folder where the name alone says nothing."""
    *folders, name = [p for p in result.model.replace("\\", "/").split("/") if p] or [result.model]
    plain = name.rpartition(".")[0].lower() in ("model", "saved_model", "network") or name == "saved_model"
    return f"{folders[-1]}/{name}" if plain and folders else name


def quality(trial: Trial) -> Quality | None:
    """The best evidence there is: the confirm split, else the search split."""
    return trial.confirm or trial.search


def scale(result: Result) -> Scale:
    """How this result's scores are written."""
    of_metric = Scale.of(result.metric, _before_score(result))
    return replace(of_metric, relative=result.budget.startswith("rel:"))


def _before_score(result: Result) -> float | None:
    for trial in (result.winner, result.as_given, result.tuned, *result.trials):
        seen = quality(trial)
        if seen is not None and known(seen.baseline):
            return seen.baseline
    return None


def budget_drop(result: Result) -> float | None:
    """The budget as a drop, in the unit of every ``Quality.drop``; None where it cannot be said."""
    try:
        return parse_budget(result.budget, result.confidence).max_drop
    except HastenError:
        return None


def budget_words(result: Result) -> str:
    """The budget in words: ``1.00 points``, ``99% of the score``."""
    kind, _, share = result.budget.rpartition(":")
    if kind in ("rel", "agree"):
        return f"keep {share} of the {'score' if kind == 'rel' else 'answers'}"
    limit = budget_drop(result)
    return result.budget if limit is None else scale(result).drop(limit)


def baseline_ms(result: Result) -> float | None:
    """The median latency of the network as given, in milliseconds, from the run that timed the winner if possible."""
    for trial in (result.winner, result.as_given, result.tuned):
        if trial.timing is not None and known(trial.timing.baseline_ms):
            return trial.timing.baseline_ms
    return result.noise.baseline_ms if known(result.noise.baseline_ms) else None


def latency(result: Result, trial: Trial) -> float | None:
    """A trial's latency in milliseconds on the common scale: the baseline's median over the paired speed-up.

    Medians of different runs drift with the machine; ratios inside one run do not.
    """
    before = baseline_ms(result)
    if before is None:
        return None
    if trial.timing is None or not known(trial.timing.speedup) or trial.timing.speedup <= 0:
        return before if trial.candidate.key == result.as_given.candidate.key else None
    return before / trial.timing.speedup


def changed(result: Result) -> bool:
    """True when the winner is not the network as given."""
    return result.winner.candidate.key != result.as_given.candidate.key


def comparison(result: Result) -> list[Row]:
    """Before and after, one row a quantity."""
    given, winner, marks = result.as_given, result.winner, scale(result)
    seen = quality(winner)
    before, after = baseline_ms(result), latency(result, winner)
    rows = [
        Row("Median latency", millis(before), millis(after), _ratio(before, after, "faster")),
        Row(
            f"Score ({result.metric})",
            marks.score(seen.baseline if seen else _before_score(result)),
            marks.score(seen.value) if seen else marks.score(None if changed(result) else _before_score(result)),
            _moved(marks, seen.drop) if seen and known(seen.drop) else "",
        ),
        Row("Model size", size(given.bytes), size(winner.bytes), _ratio(given.bytes, winner.bytes, "smaller")),
        Row(
            "Peak memory while serving",
            size(given.peak_bytes),
            size(winner.peak_bytes),
            _ratio(given.peak_bytes, winner.peak_bytes, "smaller"),
        ),
    ]
    loads = [t.timing.load_seconds if t.timing else None for t in (given, winner)]
    if any(known(s) for s in loads):
        start, end = (millis(s * 1000) if s is not None else NOT_MEASURED for s in loads)
        rows.append(Row("Time to load", start, end, _ratio(loads[0], loads[1], "faster")))
    rows.append(Row("Runs in", engine(given), engine(winner)))
    return rows


def _moved(marks: Scale, drop: float) -> str:
    """A drop as a change for better or worse."""
    told = marks.drop(abs(drop))
    return "the same" if not float(f"{drop:.4f}") else f"{told} {'worse' if drop > 0 else 'better'}"


def _ratio(before: float | None, after: float | None, better: str) -> str:
    if before is None or after is None or not (known(before) and known(after)) or before <= 0 or after <= 0:
        return ""
    if 0.995 < before / after < 1.005:
        return "the same"
    worse = {"faster": "slower", "smaller": "larger"}[better]
    return f"{times(before / after)} {better}" if before > after else f"{times(after / before)} {worse}"


def engine(trial: Trial) -> str:
    """The engine with its settings: ``openvino (precision=f32, threads=1)``."""
    settings = ", ".join(f"{k}={v}" for k, v in trial.candidate.settings.items())
    return trial.candidate.engine + (f" ({settings})" if settings else "")


def recipe(trial: Trial) -> str:
    """Steps and engine in one line."""
    return " → ".join([*(str(s) for s in trial.candidate.steps), engine(trial)])


def name(trial: Trial) -> str:
    """A candidate's label, or its recipe."""
    return trial.candidate.label or recipe(trial)


def factors(result: Result) -> list[Factor]:
    """As given, tuned without any change of the arithmetic, and the winner: where the gain comes from."""
    found, previous = [], 1.0
    for title, trial in (("as given", result.as_given), ("lossless", result.tuned), ("lossy", result.winner)):
        spent = latency(result, trial)
        before = baseline_ms(result)
        speedup = before / spent if before and spent else None
        how = name(trial)
        if title == "as given":
            speedup, spent, how = 1.0, before, engine(trial)
        if title == "lossless" and trial.candidate.key == result.as_given.candidate.key:
            speedup, spent, how = 1.0, before, "no lossless setting was faster"
        if title == "lossy" and trial.candidate.key == result.tuned.candidate.key:
            how = "no change of the arithmetic"
        step = speedup / previous if speedup else None
        found.append(Factor(title, how, speedup, step, spent))
        previous = speedup or previous
    return found


def over(result: Result, trial: Trial) -> bool:
    """True when the best evidence there is lies outside the budget."""
    seen, limit = quality(trial), budget_drop(result)
    return seen is not None and limit is not None and known(seen.drop) and seen.drop > limit


def slower(trial: Trial) -> bool:
    """True when the candidate is shown to be slower than the network as given."""
    return trial.timing is not None and trial.timing.high < 1


def tone(result: Result, trial: Trial) -> str:
    """How a fate is coloured: its status, or what became clear without one."""
    if trial.candidate.key == result.winner.candidate.key:
        return "won" if result.verdict != "undecided" or not changed(result) else "doubt"
    if trial.status != "ok":
        return trial.status
    return "rejected" if over(result, trial) else "slower" if slower(trial) else "ok"


def fate(result: Result, trial: Trial) -> str:
    """One or two words on what became of a candidate."""
    if trial.candidate.key == result.winner.candidate.key:
        return "★ kept" if not changed(result) else "★ chosen" if result.verdict == "met" else "best, not proven"
    if trial.status != "ok":
        return FATES.get(trial.status, trial.status)
    if trial.confirm is not None:
        return "proven inside" if trial.confirm.met else "not proven"
    if trial.candidate.key == result.as_given.candidate.key:
        return "as given"
    if slower(trial):
        return "slower"
    return "exact" if trial.candidate.lossless else "looks over the budget" if over(result, trial) else "looks inside"


def ordered(result: Result) -> list[Trial]:
    """Every candidate: the winner, then the confirmed, then by fate, fastest first."""

    def rank(trial: Trial) -> tuple[bool, bool, int, float]:
        fate = ORDER.index(trial.status) if trial.status in ORDER else len(ORDER)
        speedup = trial.timing.speedup if trial.timing and known(trial.timing.speedup) else 0.0
        return trial.candidate.key != result.winner.candidate.key, trial.confirm is None, fate, -speedup

    return sorted(result.trials, key=rank)


def near_misses(result: Result, limit: int = 3) -> list[str]:
    """The fastest candidates that were not chosen, each with why, and then how many fell out otherwise."""
    marks = scale(result)
    lost = [
        t for t in result.trials if t.candidate.key not in (result.winner.candidate.key, result.as_given.candidate.key)
    ]
    timed = [t for t in lost if t.timing and t.timing.speedup > 1 and t.status in ("ok", "rejected", "slower")]
    told = sorted(timed, key=lambda t: -(t.timing.speedup if t.timing else 0))[:limit]
    lines, best = [], result.winner.timing
    for trial in told:
        assert trial.timing is not None
        seen = quality(trial)
        raced = best is not None and best.final and not trial.timing.final and trial.timing.speedup > best.speedup
        line = f"{name(trial)} {times(trial.timing.speedup)}{' in a short race' if raced else ''}"
        if (trial.status == "rejected" or over(result, trial)) and seen and known(seen.drop):
            line += f" but a drop of {marks.drop(seen.drop)}"
            line += f" (up to {marks.drop(seen.upper, unit=False)})" if known(seen.upper) else ""
        elif trial.reason or changed(result):
            line += f": {trial.reason or 'others are faster'}"
        lines.append(line)
    rest = Counter(COUNTED.get(t.status, t.status) for t in lost if t not in told and t.status != "ok")
    return lines + ([", ".join(f"{n:,} {status}" for status, n in rest.most_common())] if rest else [])


def bound(result: Result, seen: Quality) -> str:
    """``drop 0.14 points, at most 0.60 with 95 % confidence``."""
    marks = scale(result)
    if not known(seen.upper):
        return f"drop {marks.drop(seen.drop)}"
    return (
        f"drop {marks.drop(seen.drop)}, at most {marks.drop(seen.upper, unit=False)} "
        f"with {result.confidence * 100:g} % confidence"
    )


def noise(result: Result) -> str:
    """The machine's own scatter, as the search found it."""
    return scatter(result.noise.low, result.noise.high)


def look(result: Result) -> str:
    """``look 2 at the confirm samples: each bound at 99.24 %, so that all looks together keep 95 % confidence``."""
    level = 1 - worn_alpha(1 - result.confidence, result.looks)
    return (
        f"look {result.looks} at the confirm samples: each bound at {level * 100:.4g} %, "
        f"so that all looks together keep {result.confidence * 100:g} % confidence"
    )


UNPROVEN = (
    "Nothing is proven: there were too few samples, or none, to keep some that the search does not see. "
    "Only what changes no arithmetic was tried, and its answers were compared."
)


def _elsewhere() -> list[str]:
    """Where the speed holds."""
    return [
        "The speed holds on this machine, with these versions and settings; on another, run hasten verify first.",
        "Latency is one request after another in a warm process; a server under load may behave differently.",
    ]


def _better(result: Result) -> list[str]:
    """A score that rises by more than chance is either luck of rounding or samples that know each other."""
    seen = result.winner.confirm
    if seen is None or not known(seen.upper) or seen.upper >= 0:
        return []
    return [
        "The score rose by more than chance explains. Coarser arithmetic can do that by accident; so can samples that "
        "the splits share under other names. Look for near-copies, and give them one value of --groups."
    ]


def proof(result: Result) -> str:
    """How many of the confirm samples the proof took, where it was not all of them; else empty."""
    seen = result.winner.confirm or next((t.confirm for t in result.trials if t.confirm), None)
    if seen is None or seen.split != "confirm" or not 0 < seen.n < result.provable.n_confirm:
        return ""
    return (
        f"The proof took {seen.n:,} of the {result.provable.n_confirm:,}, drawn at random: "
        "how many was fixed beforehand, from how much changed on the search samples."
    )


def limits(result: Result) -> list[str]:
    """What the proof does not say, in plain words."""
    if not result.provable.n_confirm:
        return [UNPROVEN, *_elsewhere()]
    wrong = 1 - result.confidence
    one_in = f"1 time in {round(1 / wrong)}" if 0 < wrong < 1 else "never"
    lines = [
        *_better(result),
        "The accuracy holds for data like yours: samples drawn as the confirm split was. "
        "If what you serve drifts away from it, measure again.",
        f"If the winner really lost more than the budget, a test like this one would still pass it at most {one_in}.",
        *_elsewhere(),
    ]
    if result.looks > 1:
        lines.append(
            f"These samples have now answered {count(result.looks, 'question')}; each one more is tested harder, "
            "so that nobody is told yes by luck in the end. Fresh samples start again."
        )
    seen = quality(result.winner)
    if seen is not None and seen.metric == "agreement":
        lines.append(
            "There were no labels: agreement with the original network says nothing about who of the two is right."
        )
    return lines
