"""The end: the test, then a fresh timing of what passed it; nothing slower is returned."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from hasten.measure.speed import LEAST_PAIRS, LEAST_RESTARTS, MARGIN, restart_interval
from hasten.measure.timing import timing
from hasten.search.afresh import final_timing
from hasten.search.confirm import count_look, prove
from hasten.search.estimated import clearly_faster
from hasten.search.field import CONTENDERS, RESTED_ROUNDS, Run
from hasten.search.finalists import CLEARLY, MOST_FINALISTS, finalists, front, looks_inside, measured
from hasten.search.objective import AWAKE, better, bytes_count, gain, promised
from hasten.search.screening import race
from hasten.search.weigh_up import weighed_up
from hasten.trial import Quality, Timing

GRADE_WORTH = 0.9  # of the speed: what a guaranteed certificate may cost
MOST_ESTIMATED = 2  # in the final timing without a certified candidate; else one
CHOICE_SHARE, CHOICE_ROUNDS = 4, 6  # the choice takes a quarter of the restarts, each of more rounds
LEAST_TOLD = 8  # pairs behind a told speed-up
AS_FAST = 0.97  # the first calls after a pause may lose no more than what two runs of the same network differ by


def from_rest(run: Run, tuned: str) -> None:
    """Race those that may be proven as the final timing will, from sleeping threads, so that the right ones are.

    One of another engine is among them where it may be faster so: engines differ in how their threads wake.
    """
    able = [k for k in front(run) if looks_inside(run, k)][:CONTENDERS]
    able += [k for k in of_each_engine(run) if k not in able][:1]
    if len(able) > 1:
        race(run, [tuned, *able] if tuned != run.given else able, RESTED_ROUNDS, rested=True)


def of_each_engine(run: Run) -> list[str]:
    """The fastest on each engine of those that look inside the budget and may be the fastest of all after pauses."""
    best: dict[str, str] = {}
    for key in sorted((k for k in measured(run) if looks_inside(run, k)), key=lambda k: -gain(run, k)):
        best.setdefault(run.trials[key].candidate.engine, key)
    most = max((gain(run, k) for k in best.values()), default=0.0)
    return [k for k in best.values() if AWAKE * gain(run, k) >= most]


def confirm_stage(run: Run, tuned: str) -> tuple[str, list[Quality]]:
    """The proof. Returns the key of the fastest that passed, else of the best lossless setting, and all looks."""
    order = finalists(run) if len(run.splits.confirm) else []  # what was searched on certifies nothing
    winner, looks = run.given, list[Quality]()
    run.retire(k for k in run.loaded if k not in (run.given, *order))  # the final timing starts everything afresh
    if order:
        count_look(run, order)
        winner, looks = prove(run, order)
    if winner == run.given and tuned != run.given:
        winner, more = prove_lossless(run, tuned)
        looks += more
    return winner, looks


def prove_lossless(run: Run, tuned: str) -> tuple[str, list[Quality]]:
    """The best lossless setting: unchanged answers need no test, changed ones have what is left of the level."""
    count_look(run, [tuned])
    return prove(run, [tuned])


def settle(run: Run, winner: str, tuned: str, restarts: int, rounds: int) -> str:
    """The key of what is returned, after it was timed alone against the network as given; what is not faster is not.

    What may be handed over as an estimate is timed beside it. The timing that chose among rivals is not told of the
    one chosen: it was the fastest there, partly by luck.
    """
    others = weighed_up(run, winner)[:MOST_ESTIMATED]
    if winner == run.given and not others:
        return run.given
    chosen = choose(run, winner, tuned, others, restarts)
    others, first = clearly_faster(run, chosen)[:1], chosen
    while chosen != run.given or others:
        alone = list(dict.fromkeys([run.given, chosen, *others]))
        blocks = final_timing(run, alone, restarts, max(rounds, ceil(LEAST_TOLD / restarts)))
        unfit = set_aside(run, alone[1:], tuned, blocks)
        if chosen not in unfit and (chosen == first or surely_faster(run, chosen)):
            return chosen
        if chosen not in unfit:
            run.update(chosen, status="slower", reason="hardly faster than the network as given in the final timing")
        chosen, others = max(passed(run), key=lambda k: promised(run, k), default=run.given), []
    return run.given


def surely_faster(run: Run, key: str) -> bool:
    """Is a candidate faster even at 99 %? The one before it was not, and each further try is one more for luck."""
    timed = run.trials[key].timing
    if timed is None or timed.restarts < LEAST_RESTARTS or bytes_count(run):
        return True
    return restart_interval(timed.log_ratios, timed.restarts, alpha=0.01)[1] > 1


def choose(run: Run, winner: str, tuned: str, others: Sequence[str], restarts: int) -> str:
    """The best of those that passed the test, by a short final timing beside both baselines; ``winner`` where alone.

    Narrow arithmetic must also beat the best lossless setting: accuracy is not spent for nothing. A few at a time, the
    fastest first, until none that is left seems clearly faster than what the best of them promises.
    """
    left, best = sorted((k for k in passed(run) if k != tuned), key=lambda k: -gain(run, k)), ""
    if len({*left, *others, tuned} - {run.given}) <= 1:
        return winner
    if not left:
        timed_together(run, tuned, others, restarts)
    while left and not (best and (run.stopping() or gain(run, left[0]) <= CLEARLY * promised(run, best))):
        rivals = together(run, left)
        left = [k for k in left if k not in rivals]
        blocks, able = timed_together(run, tuned, [*rivals, *others], restarts)
        standing, others = [key for key in able if key in rivals], []
        if standing:
            found = least_harm(run, standing, blocks)
            other, best = sorted((best or found, found), key=lambda k: promised(run, k))
            other, best = (best, other) if better_grade(run, best, [other]) == other else (other, best)
            faster_at_times(run, other, best)
    return best or (run.given if winner == run.given else settle_lossless(run, tuned))


def timed_together(
    run: Run, tuned: str, keys: Sequence[str], restarts: int
) -> tuple[dict[str, list[float]], list[str]]:
    """A short final timing of ``keys`` beside both baselines: the blocks, and the keys that are faster than these."""
    several = list(dict.fromkeys([run.given, tuned, *keys]))
    blocks = final_timing(run, several, max(1, restarts // CHOICE_SHARE), CHOICE_ROUNDS)
    unfit = set_aside(run, keys, tuned, blocks)
    return blocks, [key for key in keys if key not in unfit]


def set_aside(run: Run, keys: Sequence[str], tuned: str, blocks: dict[str, list[float]]) -> list[str]:
    """Those of ``keys`` that are not faster in the final timing; their trials say why."""
    reasons = {key: why for key in keys if (why := behind(run, key, tuned, blocks)) is not None}
    for key, why in reasons.items():
        if run.trials[key].status == "ok":
            run.update(key, status="slower", reason=f"{why} in the final timing")
    return list(reasons)


def together(run: Run, left: Sequence[str]) -> list[str]:
    """Of ``left``, fastest first, those that may beat what the first promises.

    As many as one sequence of tests takes, the least harmful of them, and the fastest with a guaranteed certificate.
    """
    near = [k for k in left if gain(run, k) * CLEARLY > promised(run, left[0])]
    proven = [k for k in near if guaranteed(run, k)]
    return list(dict.fromkeys([*near[:MOST_FINALISTS], *sorted(near, key=lambda k: harm(run, k))[:1], *proven[:1]]))


def least_harm(run: Run, standing: Sequence[str], blocks: dict[str, list[float]]) -> str:
    """The one that promises most; where the clock cannot tell others from it, the one that does least harm.

    Bytes are told apart exactly.
    """
    fastest = better_grade(run, min(standing, key=lambda k: (-promised(run, k), harm(run, k))), standing)
    if bytes_count(run):
        return fastest
    equal = [k for k in standing if k == fastest or tied(timing(blocks[k], blocks[fastest]))]
    equal = [k for k in equal if guaranteed(run, k)] or equal
    chosen = min(equal, key=lambda k: (harm(run, k), -gain(run, k)))
    label = run.trials[chosen].candidate.label
    for key in standing:
        if key in equal and harm(run, key) > harm(run, chosen):
            run.update(key, reason=f"no faster than {label} within the noise, and does more harm")
        elif key not in equal:
            faster_at_times(run, key, chosen)
    return chosen


def better_grade(run: Run, fastest: str, standing: Sequence[str]) -> str:
    """``fastest``, or a guaranteed candidate that promises nearly as much where ``fastest`` is not guaranteed."""
    if guaranteed(run, fastest):
        return fastest
    near = [k for k in standing if guaranteed(run, k) and promised(run, k) >= GRADE_WORTH * promised(run, fastest)]
    chosen = max(near, key=lambda k: promised(run, k), default=fastest)
    if chosen != fastest:
        label = run.trials[chosen].candidate.label
        run.update(fastest, reason=f"less than a tenth faster than {label}, which has a guaranteed certificate")
    return chosen


def guaranteed(run: Run, key: str) -> bool:
    """Does a candidate have a certificate that assumes nothing of unseen samples?"""
    seen = run.trials[key].confirm
    return seen is not None and seen.met and seen.certificate == "guaranteed"


def faster_at_times(run: Run, key: str, chosen: str) -> None:
    """Say so of one that is faster in the middle and promises less."""
    least, wins = promised(run, key), promised(run, chosen)
    if in_the_middle(run, key) > in_the_middle(run, chosen) and least <= wins:
        label = run.trials[chosen].candidate.label
        run.update(key, reason=f"faster at times, but promises {least:.2f}× where {label} promises {wins:.2f}×")


def in_the_middle(run: Run, key: str) -> float:
    """The speed-up that half of the pairs reach."""
    timed = run.trials[key].timing
    return timed.speedup if timed else 0.0


def tied(gained: Timing) -> bool:
    """Is a difference neither shown nor worth a change? A larger one is more likely there than not."""
    return gained.low <= 1 <= gained.high and 1 / (1 + MARGIN) <= gained.speedup <= 1 + MARGIN


def harm(run: Run, key: str) -> tuple[float, float]:
    """How far the answers of a proven candidate moved, then what that cost in score."""
    trial = run.trials[key]
    return trial.harm or 0.0, trial.confirm.drop if trial.confirm else 0.0


def behind(run: Run, key: str, tuned: str, blocks: dict[str, list[float]]) -> str | None:
    """Why a candidate is not fast enough to be returned; None where it is."""
    over_given = run.trials[key].timing
    if over_given is None or len(blocks[key]) < LEAST_PAIRS:
        return "not timed often enough"
    if bytes_count(run):
        return None if gain(run, key) > max(1.0, gain(run, tuned)) else f"not {better(run)} without being slower"
    if over_given.low <= 1:
        return "not faster than the network as given"
    if slow := wakes_slowly(run, over_given):
        return slow
    both = len(blocks.get(tuned, ())) == len(blocks[key])
    if tuned not in (run.given, key) and both and timing(blocks[tuned], blocks[key]).low <= 1:
        return "not faster than the best lossless setting"
    return None


def wakes_slowly(run: Run, timed: Timing) -> str:
    """Says that requests with pauses between them are not shown to be as fast as today; empty where they are.

    Threads that share a core when they wake make some pauses good and some bad: a middle tells little, the lower end
    of the interval must hold.
    """
    if run.objective != "latency" or timed.waking is None or timed.waking[1] >= AS_FAST:
        return ""
    _, low, high = timed.waking
    return f"after each pause it may be slower than the network as given ({low:.2f}× to {high:.2f}×)"


def settle_lossless(run: Run, tuned: str) -> str:
    """The best lossless setting if it is faster in the final timing and its answers are the same, else the baseline."""
    if tuned == run.given:
        return run.given
    if run.trials[tuned].confirm is None:
        prove_lossless(run, tuned)
    trial = run.trials[tuned]
    faster = trial.timing is not None and trial.timing.low > 1
    if trial.timing is not None and (slow := wakes_slowly(run, trial.timing)):
        run.update(tuned, status="slower", reason=slow)
        return run.given
    proven = trial.status == "ok" and trial.confirm is not None and trial.confirm.met
    return tuned if faster and proven else run.given


def passed(run: Run) -> list[str]:
    """Candidates with a certificate."""
    return [k for k, t in run.trials.items() if t.status == "ok" and t.confirm and t.confirm.met and k != run.given]
