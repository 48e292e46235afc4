"""What became of each candidate, in a word or a line."""

from __future__ import annotations

from collections import Counter

from hasten.report.story import GRADED, budget_drop, changed, name, quality, scale
from hasten.report.words import known, times
from hasten.trial import Result, Trial

ORDER = ("ok", "rejected", "slower", "unsupported", "crashed", "timeout", "skipped")
FATES = {"rejected": "over the budget", "unsupported": "not supported here", "timeout": "too slow to answer"}
COUNTED = {"rejected": "over the budget", "unsupported": "not supported here", "timeout": "timed out"}


def over(result: Result, trial: Trial) -> bool:
    """True when the best evidence there is lies outside the budget."""
    seen, limit = quality(trial), budget_drop(result)
    return seen is not None and limit is not None and known(seen.drop) and seen.drop > limit


def slower(trial: Trial) -> bool:
    """True when the candidate is shown to be slower than the network as given."""
    return trial.timing is not None and trial.timing.high < 1


def is_estimated(result: Result, trial: Trial) -> bool:
    """True for the candidate that is handed over as an estimate."""
    return result.estimated is not None and trial.candidate.key == result.estimated.trial.candidate.key


def tone(result: Result, trial: Trial) -> str:
    """How a fate is coloured: its status, or what became clear without one."""
    if trial.candidate.key == result.winner.candidate.key:
        return "won" if result.verdict != "undecided" or not changed(result) else "doubt"
    if is_estimated(result, trial):
        return "doubt"
    if trial.status != "ok":
        return trial.status
    return "rejected" if over(result, trial) else "slower" if slower(trial) else "ok"


def fate(result: Result, trial: Trial) -> str:
    """One or two words on what became of a candidate."""
    if trial.candidate.key == result.winner.candidate.key:
        return "★ kept" if not changed(result) else "★ chosen" if result.verdict == "met" else "best, no certificate"
    if is_estimated(result, trial):
        return "★ estimated"
    if trial.status != "ok":
        return FATES.get(trial.status, trial.status)
    if trial.confirm is not None:
        return GRADED[trial.confirm.certificate] if trial.confirm.met else "no certificate"
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
    kept = (result.winner, result.as_given, *([result.estimated.trial] if result.estimated else []))
    lost = [t for t in result.trials if t.candidate.key not in [k.candidate.key for k in kept]]
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
