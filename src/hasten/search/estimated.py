"""What is handed over without a certificate: a candidate that is clearly faster, with an estimate inside the budget."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log

from hasten.measure.quality import needed_samples
from hasten.search.finalists import CLEARLY
from hasten.search.objective import better, bytes_count, gain
from hasten.search.run import Run
from hasten.search.wording import moved_within
from hasten.trial import Estimated, Quality, Trial

LEAST_COMPARED = 2  # samples: of a single one only the divergence is reported


def estimate(trial: Trial) -> Quality | None:
    """The accuracy of a candidate as far as it was measured: on the confirm split, else on the search split."""
    return trial.confirm or trial.search


def uncertified(run: Run) -> list[str]:
    """Candidates that run, have no certificate, and have an estimate inside the budget."""
    found = []
    for key, trial in run.trials.items():
        seen = estimate(trial)
        if key == run.given or trial.status != "ok" or seen is None or (trial.confirm and trial.confirm.met):
            continue
        if trial.timing is not None and isfinite(seen.drop) and seen.drop <= run.budget.max_drop:
            found.append(key)
    return found


def worth(run: Run, key: str, over: float) -> float:
    """The expected logarithm of the gain over ``over``, when a candidate outside the budget gains nothing."""
    seen = estimate(run.trials[key])
    return seen.chance * log(gain(run, key) / over) if seen else 0.0


def clearly_faster(run: Run, certified: str) -> list[str]:
    """Uncertified candidates that are clearly faster than ``certified``, the most promising first."""
    over = max(1.0, gain(run, certified))
    faster = [key for key in uncertified(run) if gain(run, key) >= CLEARLY * over]
    return sorted(faster, key=lambda k: (-worth(run, k, over), -gain(run, k)))


def estimated(run: Run, winner: str) -> Estimated | None:
    """The candidate for ``out/estimated/`` after the final timing, which it was part of; None where there is none."""
    for key in clearly_faster(run, winner):
        timed = run.trials[key].timing
        if timed is not None and timed.final and (timed.low > 1 or bytes_count(run)):
            return described(run, run.trials[key])
    return None


def described(run: Run, trial: Trial) -> Estimated:
    """A candidate with its estimate, and with what would settle whether it is inside the budget."""
    seen = estimate(trial)
    assert seen is not None
    samples = "labelled" if run.evaluator.metric.needs_labels else "unlabelled"
    more = needed_samples(seen, run.proof if seen.split == "confirm" else run.budget)
    return Estimated(
        trial=trial,
        chance=seen.chance,
        needed_samples=more,
        needed="labelled" if samples == "labelled" else "unlabelled",
        sentence="; ".join([*_gain(run, trial), *_cost(run, trial, seen), _settled(more, samples, seen)]),
    )


def _gain(run: Run, trial: Trial) -> list[str]:
    timed = trial.timing
    assert timed is not None
    speed = f"{trial.candidate.label} is {timed.speedup:.2f}× faster [{timed.low:.2f}, {timed.high:.2f}]"
    size = f", {gain(run, trial.candidate.key):.2f}× {better(run)}" if bytes_count(run) else ""
    return [f"{speed}{size} and has no certificate"]


def _cost(run: Run, trial: Trial, seen: Quality) -> Sequence[str]:
    """The estimate, its interval and the chance of being inside; from a single sample the divergence alone."""
    moved = f"its answers diverge by {trial.harm:.3g} from the float network's" if trial.harm is not None else ""
    if seen.n < LEAST_COMPARED:
        return [f"one sample allows no estimate of its drop{f', {moved}' if moved else ''}"]
    drop = f"estimated {moved_within(seen.drop, seen.lower, seen.upper)} on {seen.n:,} {_counted(run)}"
    return [f"{drop}, inside {run.budget} with a chance of {seen.chance:.0%}"]


def _counted(run: Run) -> str:
    return "answers" if run.evaluator.store.sequential else "samples"


def _settled(more: int | None, samples: str, seen: Quality) -> str:
    if more is None or seen.n < LEAST_COMPARED:
        return f"more {samples} samples would settle it"
    return f"about {more:,} more {samples} samples would settle it"
