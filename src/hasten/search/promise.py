"""The promise: how long a run takes in all, made when the network has answered once, and kept from then on."""

from __future__ import annotations

import time
from math import inf
from statistics import median

from hasten.machine import cores
from hasten.measure.proportions import required_n
from hasten.measure.sizing import FLIPS
from hasten.measure.timing import milliseconds
from hasten.search import forms, pace, policy, space
from hasten.search.baseline import does_not_run
from hasten.search.field import Run
from hasten.search.loading import baseline
from hasten.search.objective import quick_ms
from hasten.worker import CallFailed, WorkerDied

LEAST_TESTED = 600  # samples of a test, where there are so many
TEST_SECONDS = 3.0  # a test of fast calls takes more samples
POWER = 0.9  # of a test, for which it takes samples


def promise(run: Run, seconds: float | None) -> None:
    """Fix the time of the whole run and announce it; None chooses the time by the network's latency."""
    if seconds == inf:
        return
    try:
        first = median(milliseconds(baseline(run), run.work, 1))
    except (WorkerDied, CallFailed) as fault:
        raise does_not_run(fault) from fault
    run.usual_ms, run.asked = first, seconds or 0.0
    run.opening = time.monotonic() - run.clock
    if seconds is None:
        smallest = pace.ending(seen(run, first), 0.0).seconds
        run.seconds = run.opening + pace.auto_seconds(first, smallest, compiled(run))
    else:
        run.seconds = seconds
    divide(run, first)
    run.say("note", words(run, first))


def divide(run: Run, ms: float) -> None:
    """Set when candidates are no longer tried, for calls of ``ms``."""
    if run.seconds < inf:
        run.deadline = run.clock + pace.search_seconds(seen(run, ms), run.seconds)


def seen(run: Run, ms: float) -> pace.Seen:
    """The costs of this network as far as they are known."""
    most = len(run.splits.confirm)
    if run.evaluator.metric.kind == "binary" and 0 < run.budget.max_drop < 1:
        needed = required_n(FLIPS, run.budget.max_drop, 0.0, run.proof.alpha, POWER)
        most = min(most, max(LEAST_TESTED, int(1000 * TEST_SECONDS / ms), needed))
    return pace.Seen(ms, run.trials[run.given].seconds, most)


def after_test(run: Run) -> pace.Seen:
    """The same for what comes after the test."""
    return pace.Seen(run.usual_ms, run.trials[run.given].seconds, 0)


def in_time(run: Run, key: str, ids: list[int]) -> list[int]:
    """As many of ``ids``, drawn at random, as a test of a candidate can take before the smallest final timing."""
    if run.seconds == inf or not run.usual_ms:
        return ids
    new = sum(i not in run.evaluator.baseline_rows for i in ids) / max(len(ids), 1)
    each = new * run.usual_ms + min(run.usual_ms, quick_ms(run, key))
    rest = run.left() - pace.ending(after_test(run), 0.0).seconds
    fit = max(1, int(1000 * max(rest, 0.0) / each))
    if fit < len(ids):
        run.say("note", f"the time that is left allows a test on {fit:,} more samples, not {len(ids):,}")
    return ids[:fit]


def compiled(run: Run) -> int:
    """How many float networks the engines here compile ahead of time."""
    several = space.lossless(run.engines, cores(), None)
    return sum(bool(forms.baked(c)) and forms.form_of(c.engine, (), run.forms) is not None for c in several)


def words(run: Run, ms: float) -> str:
    """What the time buys."""
    trying = run.deadline - run.clock
    told = f"{ms:.3g} ms a call: this takes {run.seconds:.0f} s in all"
    if trying >= run.seconds:
        return f"{told}, too little for a test; candidates are only timed (--time sets another time)"
    rest, samples = run.seconds - trying, seen(run, ms).tested
    tests = f"test the best on {samples:,} samples and time it again" if samples else "time the best again"
    return f"{told}, {trying:.0f} s to try candidates, then {rest:.0f} s to {tests} (--time changes it)"


def end(run: Run) -> pace.Ending | None:
    """A final timing beside which the time left allows a test; None where even the smallest does not fit."""
    if run.seconds == inf:
        return pace.Ending(*pace.SIZES[0], 0.0, 0.0)
    found = pace.ending(after_test(run), run.left() * (1 - float(policy.END_SHARE)))
    return found if found.seconds <= run.left() else None


def final_size(run: Run) -> pace.Ending:
    """The final timing that the time left allows, or the smallest."""
    if run.seconds == inf:
        return pace.Ending(*pace.SIZES[0], 0.0, 0.0)
    return pace.ending(after_test(run), run.left())


def from_rest_fits(run: Run, sides: int, rounds: int) -> bool:
    """Is there time for a race from sleeping threads before the smallest test and final timing?"""
    if run.seconds == inf:
        return True
    race = pace.race_seconds(sides, rounds, run.usual_ms, pace.REST_SECONDS)
    return race + pace.ending(seen(run, run.usual_ms), 0.0).seconds <= run.left()
