"""What a result means, as plain values: the facts that the page and the console both tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hasten.budget import parse_budget
from hasten.errors import HastenError
from hasten.report.words import NOT_MEASURED, Scale, known, millis, scatter, size, times
from hasten.trial import Quality, Result, Trial

MARKS = {"met": "–", "nothing_faster": "–", "undecided": "✗"}  # of what is not certified
BADGES = {"met": "Unchanged answers, no test", "nothing_faster": "The original stays", "undecided": "No certificate"}
GRADED = {"guaranteed": "proven inside", "statistical": "tested inside", "none": "unchanged"}
CERTIFIED = {
    "guaranteed": "Proven on unseen samples", "statistical": "Tested on unseen samples", "none": "Unchanged answers",
}  # fmt: skip
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


def bound(result: Result, seen: Quality) -> str:
    """``drop 0.14 points, at most 0.60 with 95 % confidence``."""
    marks = scale(result)
    if not known(seen.upper):
        return f"drop {marks.drop(seen.drop)}"
    return (
        f"drop {marks.drop(seen.drop)}, at most {marks.drop(seen.upper, unit=False)} "
        f"with {result.confidence * 100:g} % confidence"
    )


@dataclass(frozen=True)
class Grade:
    """One grade of certificate: its name, its bound in words, what it assumes, and whether it is inside the budget."""

    name: str
    bound: str
    condition: str
    inside: bool


def grades(result: Result, seen: Quality) -> list[Grade]:
    """Both bounds of a tested candidate, the weaker assumption last; one where they are the same."""
    marks, rank = scale(result), ("none", "statistical", "guaranteed").index(seen.certificate)
    bounds = (seen.upper, seen.guaranteed_upper)
    some, sure = (f"at most {marks.drop(b)}" if known(b) else "no bound" for b in bounds)
    like = f"if unseen samples are like these {seen.n:,}"
    guaranteed = Grade("guaranteed", sure, "whatever was not seen", rank == 2)
    if some == sure and rank != 1:
        return [guaranteed]
    return [Grade("statistical", some, like, rank >= 1), guaranteed]


def hidden(seen: Quality) -> str:
    """``these 168 samples cannot exclude a total loss in up to 1.8 % of samples``."""
    return f"these {seen.n:,} cannot exclude a total loss in up to {seen.hidden_share * 100:.2g} % of samples"


def noise(result: Result) -> str:
    """The machine's own scatter, as the search found it."""
    return scatter(result.noise.low, result.noise.high)
