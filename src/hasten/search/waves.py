"""A wave of candidates: first timings, answers, a race; what was left out comes back when others fail."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from hasten.search import forms, next_step
from hasten.search.field import SCREEN_ROUNDS, Run, recipe_key
from hasten.search.finalists import clearly_inside, finalists, looks_inside
from hasten.search.first_timing import NOTHING, Span
from hasten.search.loading import ready
from hasten.search.objective import better, bytes_count, first_span, gain, given_span, quick_ms, rested_ms, span
from hasten.search.objective import slowed_by_pauses as slowed
from hasten.search.screening import affordable, hopelessly_slow, out_of_time, outrun, race, screen, too_slow
from hasten.trial import Candidate

HELD = 2  # of a wave between its first timing and its turn; the others are loaded again


def first_timings(run: Run, candidates: Sequence[Candidate], until: float = inf) -> list[Candidate]:
    """Build, load and time one after the other, in the order of expected gain a second; fastest first.

    Only the fastest stay in memory. What the time does not allow is not begun.
    """
    able, left = list[Candidate](), [c for c in forms.fitting(candidates, run) if c.key not in run.trials]
    done, total = 0, len(left)
    while left:
        action = next_step.in_order(next_step.actions(left, speeds(run), costs(run, left)), run.best)[0]
        left.remove(action.candidate)
        if run.over(until) or (run.seconds < inf and not run.affords(action.seconds)):
            took = f"it takes about {action.seconds:.0f} s, and the search's time was up"
            out_of_time(run, [action.candidate], took if not run.over(until) else "the search's time was up")
            continue
        run.say("trial", action.candidate.label, done, total)
        done += 1
        if ready(run, action.candidate) and not hopelessly_slow(run, action.candidate, NOTHING):
            able = sorted([*able, action.candidate], key=lambda c: quick_ms(run, c.key))
            run.retire(c.key for c in able[HELD:])
    return able


def speeds(run: Run) -> list[tuple[Candidate, float]]:
    """The speed-up of everything timed so far."""
    known = ((t.candidate, quick_ms(run, k)) for k, t in run.trials.items())
    return [(c, run.usual_ms / ms) for c, ms in known if run.usual_ms and ms < inf and c.steps]


def costs(run: Run, left: Sequence[Candidate]) -> next_step.Costs:
    """Seconds of a load, a first timing and builds: as seen, else guessed."""
    seen = dict[str, float]()
    for trial in run.trials.values():
        made = run.artefacts.get(recipe_key(trial.candidate), {})
        kind = next_step.kind_of(trial.candidate)
        seen[kind] = max(seen.get(kind, 0.0), float(made.get("seconds", 0.0)))
    samples = len(run.splits.calibrate)
    guess = {k: next_step.build_guess(k, run.usual_ms, samples) for k in {next_step.kind_of(c) for c in left}}
    return next_step.Costs(run.trials[run.given].seconds, 8 * run.usual_ms / 1000 + 0.3, {**guess, **seen})


def try_all(run: Run, candidates: Sequence[Candidate], tuned: str, until: float = inf) -> None:
    """Build, load, screen and race one wave of candidates; keep the few that can still win."""
    candidates = forms.fitting(candidates, run)
    wave: list[str] = []
    to_beat = NOTHING if bytes_count(run) else reigning(run, tuned)
    for done, candidate in enumerate(candidates):
        if run.over(until) or too_long(run, candidate):
            out_of_time(run, [c for c in candidates[done:] if c.key not in run.trials])
            break
        run.say("trial", candidate.label, done, len(candidates))
        fast = quick_enough(run, candidate, to_beat) and not outdone(run, candidate) and ready(run, candidate)
        if fast and screen(run, candidate) is not None:
            wave.append(candidate.key)
    race_beside(run, wave, tuned)
    drop_losers(run, tuned)


def too_long(run: Run, candidate: Candidate) -> bool:
    """Would its answers to the search samples take longer than there is time?"""
    ms = min(quick_ms(run, candidate.key), run.usual_ms or inf)
    return run.seconds < inf and ms < inf and not run.affords(affordable(run, 1) * ms / 1000)


def quick_enough(run: Run, candidate: Candidate, to_beat: Span) -> bool:
    """Not behind ``to_beat`` at a first timing, which is made where that was not done yet."""
    if quick_ms(run, candidate.key) == inf:
        return ready(run, candidate) and not hopelessly_slow(run, candidate, to_beat)
    return not too_slow(run, candidate, to_beat)


def outdone(run: Run, candidate: Candidate) -> bool:
    """Leave out what another beats clearly that looks inside the budget and does no more harm, or clearly is inside.

    A faster one that does more harm is no reason: it may fail the proof, and this one pass.
    """
    if bytes_count(run):
        return False
    mine = run.trials[candidate.key].harm or 0.0
    others = [
        k for k, t in run.trials.items() if t.status == "ok" and not t.candidate.lossless and looks_inside(run, k)
    ]
    no_worse = {k for k in others if (run.trials[k].harm or 0.0) <= mine}
    safer = [k for k in others if k in no_worse or clearly_inside(run, k)]
    best = min(safer, key=lambda k: rested_ms(run, k), default=None)
    if best is None or not rested(run, candidate.key).behind(rested(run, best)):
        return False
    whose = "by one that does no more harm" if best in no_worse else "by one that is clearly inside the budget"
    outrun(run, candidate, rested_ms(run, best), whose)
    return True


def rested(run: Run, key: str) -> Span:
    """The interval of the first timing, as pauses between requests slow it."""
    return first_span(run, key).slowed(slowed(run, key))


def reigning(run: Run, tuned: str) -> Span:
    """The interval of the best lossless setting, on the scale of first timings."""
    return given_span(run) if tuned == run.given else span(run, tuned)


def race_beside(run: Run, keys: Sequence[str], tuned: str) -> None:
    """Race with the best lossless setting among them: what an earlier race said of it may not hold any more."""
    if keys:
        race(run, [*keys, tuned] if tuned != run.given else keys, SCREEN_ROUNDS)


def drop_losers(run: Run, tuned: str) -> None:
    """Leave out what is slower than the best lossless setting. Who may still win is loaded again when it races."""
    floor = run.trials[tuned].timing.low if tuned != run.given and run.trials[tuned].timing else 1.0  # type: ignore[union-attr]
    alive = [k for k, t in run.trials.items() if t.status == "ok" and not t.candidate.lossless]
    for key in alive:
        timed = run.trials[key].timing
        if timed is not None and timed.high < floor and not bytes_count(run):
            text = f"{timed.speedup:.2f}×, slower than the best lossless setting"
            run.update(key, status="slower", reason=text)
    run.retire(k for k in run.loaded if k != run.given)
    promising = [run.trials[k] for k in finalists(run)]
    best = max((gain(run, t.candidate.key) for t in promising), default=1.0)
    if best > run.best:
        run.best = best
        label = next(t.candidate.label for t in promising if gain(run, t.candidate.key) == best)
        run.say("best", f"{label}: {best:.2f}× {better(run)}, looks inside the budget")


def come_back(run: Run, tuned: str) -> None:
    """Try again what a first timing left out beside others that have failed since."""
    if bytes_count(run) or run.over():
        return
    best = best_that_holds(run, tuned)
    back = [
        t.candidate
        for t in run.trials.values()
        if t.status == "slower" and not t.candidate.lossless and t.timing is None and t.quick_ms is not None
        and not first_span(run, t.candidate.key).behind(best)
    ]  # fmt: skip
    for candidate in back:
        run.update(candidate.key, status="ok", reason="")
    if back:
        run.say("note", f"{len(back)} left out by a first timing come back: what was faster has failed")
        try_all(run, sorted(back, key=lambda c: quick_ms(run, c.key)), tuned)


def best_that_holds(run: Run, tuned: str) -> Span:
    """The interval of the fastest that looks inside the budget; of the best lossless setting where none does."""
    able = [k for k, t in run.trials.items() if t.status == "ok" and not t.candidate.lossless and looks_inside(run, k)]
    return min((span(run, k) for k in able), key=lambda s: s.middle, default=reigning(run, tuned))
