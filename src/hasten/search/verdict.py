"""The verdict in words: what was won, which certificate it has, and what one would take."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from hasten.measure.quality import needed_samples
from hasten.search.confirm import IDENTICAL
from hasten.search.field import Run
from hasten.search.objective import better, bytes_count, gain
from hasten.search.wording import at_most, moved
from hasten.trial import Estimated, Quality, Trial, Verdict


def decide(run: Run, winner: str, estimated: Estimated | None) -> tuple[Verdict, str, int | None]:
    """Verdict, sentence, and for ``undecided`` about how many more samples would settle it."""
    if winner != run.given:
        return "met", won(run.trials[winner], run), None
    if estimated is not None:
        return "undecided", estimated.sentence, estimated.needed_samples
    near = nearest(run)
    if near is None and run.made_up:
        return "nothing_faster", f"nothing {better(run)} with the same answers was found", None
    if near is None:
        return "nothing_faster", f"nothing {better(run)} than the network as given was found inside {run.budget}", None
    quality = near.confirm or near.search
    assert quality is not None
    assert near.timing is not None
    if quality.drop > run.budget.max_drop:
        text = f"{near.candidate.label} is {near.timing.speedup:.2f}× but loses {quality.drop * 100:.2f} points"
        return "nothing_faster", f"nothing faster inside {run.budget}: {text}", None
    more = needed_samples(quality, run.proof if quality.split == "confirm" else run.budget)
    told = f"about {more:,} more samples" if more else "more samples"
    text = f"{near.candidate.label} is {near.timing.speedup:.2f}×, {moved(quality.drop)}"
    return "undecided", f"{text}; a certificate inside {run.budget} takes {told}", more


def won(trial: Trial, run: Run) -> str:
    """``"2.41× faster [2.36, 2.47]; drop 0.12 points, at most 0.61 with 95 % confidence (budget 1%)"``."""
    timing, quality = trial.timing, trial.confirm
    assert timing is not None
    assert quality is not None
    speed = f"{timing.speedup:.2f}× faster [{timing.low:.2f}, {timing.high:.2f}]"
    if bytes_count(run):
        speed = f"{gain(run, trial.candidate.key):.2f}× {better(run)}, {speed}"
    if quality.method == IDENTICAL:
        return f"{speed}; the answers are unchanged on {quality.n} {'made-up inputs' if run.made_up else 'samples'}"
    sure = f"with {run.budget.confidence * 100:g} % confidence"
    return f"{speed}; {at_most(quality.drop, quality.upper)} {sure} (budget {run.budget}){condition(quality)}"


def condition(quality: Quality) -> str:
    """What a statistical bound assumes, and what is guaranteed without it; empty where the bound is guaranteed."""
    if quality.certificate != "statistical":
        return ""
    known = isfinite(quality.guaranteed_upper)
    else_ = f"at most {quality.guaranteed_upper * 100:.2f} in any case" if known else "no bound holds in any case"
    hidden = f"{quality.hidden_share * 100:.2g} % of unseen samples may lose more unnoticed"
    return f", if no unseen sample loses more than the worst of these; {else_}, and {hidden}"


def tell_the_others(run: Run, kept: Sequence[str]) -> None:
    """Every candidate that is not among ``kept`` gets a reason, even where nothing is wrong with it."""
    for key, trial in run.trials.items():
        if trial.status == "ok" and not trial.reason and key not in (*kept, run.given):
            run.update(key, reason=why_not(run, trial))


def why_not(run: Run, trial: Trial) -> str:
    """Why a candidate that works was not chosen."""
    if trial.timing is not None and trial.timing.low <= 1:
        return "not faster than the network as given"
    if _drop(trial) <= run.budget.max_drop and trial.confirm is not None and trial.confirm.met:
        return "inside the budget with a certificate, but no faster than the one chosen"
    if trial.search is not None and _drop(trial) > run.budget.max_drop:
        return "looks over the budget on the search samples, so that it was not tested"
    if trial.timing is None and not trial.candidate.lossless:
        return "not raced: others promised more, or the time was up"
    return "others are faster" if trial.candidate.lossless else "others are faster at no more risk"


def nearest(run: Run) -> Trial | None:
    """The fastest candidate that beat the network as given and failed only for want of evidence or points."""
    near = [
        t
        for t in run.trials.values()
        if t.timing and t.timing.low > 1 and (t.confirm or t.search) and not t.candidate.lossless
    ]
    inside = [t for t in near if _drop(t) <= run.budget.max_drop]
    return max(inside or near, key=lambda t: t.timing.speedup if t.timing else 0.0, default=None)


def _drop(trial: Trial) -> float:
    quality = trial.confirm or trial.search
    return quality.drop if quality else float("inf")
