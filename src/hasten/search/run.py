"""The search: lossless first, then narrower arithmetic, then the proof on data that nothing above has seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.machine import cores
from hasten.measure.quality import assess
from hasten.measure.speed import LEAST_PAIRS
from hasten.measure.timing import REST_SECONDS, interleave, milliseconds, timing
from hasten.search import space
from hasten.search.build import artefact_bytes
from hasten.search.confirm import CLEARLY, WORTH, finalists, front, looks_inside, prove, speed
from hasten.search.field import Run, build_all, first_line, fresh_worker, load, lost, race, recipe_key, screen
from hasten.trial import Candidate, Quality, Scalar, Timing
from hasten.worker import CallFailed, Worker, WorkerDied, once

SCREEN_ROUNDS = 12
FIELD_SIZE = 8  # workers alive at once in a race
RANGE_SAMPLES = 24
BUILT_AHEAD = 4  # candidates whose artefacts are made together
TOLERANCE = 1e-3  # of an output's scale: what reordered float32 sums may differ by
GIVEN = space.AS_GIVEN.key


def start_baseline(run: Run) -> Worker:
    """Load the network as its owner runs it today: its own file, stock settings.

    Raises:
        InputError: the runtime cannot load or run it.
    """
    candidate = space.AS_GIVEN
    run.artefacts[recipe_key(candidate)] = {
        "artefact": str(run.source),
        "bytes": artefact_bytes(run.source),
        "seconds": 0.0,
    }
    worker = load(run, candidate)
    if worker is None:
        raise InputError("the network cannot be loaded", cause=run.trials[GIVEN].reason)
    return worker


def score_baseline(run: Run) -> None:
    """The baseline's own score on what the search has seen, and its memory, for the report."""
    ids = [int(i) for i in run.splits.search if int(i) in run.evaluator.baseline_rows]
    known, groups = run.evaluator.known(ids), run.evaluator.groups(ids)
    quality = assess(run.evaluator.metric, run.budget, known, known, split="search", groups=groups)
    run.update(GIVEN, search=quality, peak_bytes=int(run.loaded[GIVEN].call("memory")["peak_bytes"]))


def noise_floor(run: Run) -> Timing:
    """The baseline against itself in a second process: what this machine cannot tell apart."""
    made = run.artefacts[recipe_key(space.AS_GIVEN)]
    with Worker(name="baseline again") as twin:
        twin.call("load", engine="onnxruntime", path=made["artefact"], settings={}, names=run.names)
        series = interleave({"a": run.loaded[GIVEN], "b": twin}, run.work, rounds=SCREEN_ROUNDS, seed=run.seed)
    return timing(series.blocks["a"], series.blocks["b"])


def lossless_stage(run: Run, engines: dict[str, Any], threads: int | None, baseline_ms: float) -> str:
    """Every engine in float32. Returns the key of the fastest whose answers are the baseline's, if need be its own."""
    candidates = space.lossless(engines, cores(), threads)
    build_all(run, candidates)
    for done, candidate in enumerate(candidates):
        run.say("trial", candidate.label, done, len(candidates))
        ready = "artefact" in run.artefacts[recipe_key(candidate)] and load(run, candidate) is not None
        if ready and same_answers(run, candidate):
            hopelessly_slow(run, candidate, baseline_ms)
    racing = [c.key for c in candidates if c.key in run.loaded]
    race(run, racing, GIVEN, SCREEN_ROUNDS)
    alive = [k for k in racing if k in run.loaded]
    fastest = max(alive, key=lambda k: speed(run, k), default=GIVEN)
    found = run.trials[fastest].timing
    tuned = fastest if found is not None and found.speedup > WORTH else GIVEN
    run.retire(k for k in alive if k != tuned)
    if tuned != GIVEN and found is not None:
        run.best = found.speedup
        run.say("best", f"{run.trials[tuned].candidate.label}: {found.speedup:.2f}x, answers unchanged")
    return tuned


def same_answers(run: Run, candidate: Candidate) -> bool:
    """Gate for lossless candidates: every output within float tolerance of the baseline's on a few samples."""
    ids = [int(i) for i in run.splits.search[:16]]
    try:
        found = list(run.evaluator.answers(run.loaded[candidate.key], ids))
        wanted = list(run.evaluator.answers(run.loaded[GIVEN], ids))
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
        return False
    worst = 0.0
    for (_, new), (_, old) in zip(found, wanted, strict=True):
        for a, b in zip(new, old, strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                worst = float("inf")
            elif a.size and a.dtype.kind == "f":
                scale = max(float(np.abs(b).max()), 1e-6)
                worst = max(worst, float(np.abs(a - b).max()) / scale)
            elif not np.array_equal(a, b):
                worst = float("inf")
    if worst <= TOLERANCE:
        return True
    run.retire([candidate.key])
    run.update(candidate.key, status="rejected", reason=f"not lossless: an output differs by {worst:.1e} of its scale")
    return False


def engine_settings(run: Run) -> dict[str, dict[str, Scalar]]:
    """The fastest float32 settings of each engine, which its narrow candidates start from."""
    best: dict[str, tuple[float, dict[str, Scalar]]] = {}
    for trial in run.trials.values():
        if trial.candidate.lossless and trial.timing and trial.candidate.steps:
            known = best.get(trial.candidate.engine)
            if known is None or trial.timing.speedup > known[0]:
                best[trial.candidate.engine] = (trial.timing.speedup, trial.candidate.settings)
    return {engine: settings for engine, (_, settings) in best.items()}


def choose_ranges(run: Run, engine_name: str) -> list[str]:
    """Calibration methods, best first: by whose network answers most like the float one on calibrate samples."""
    calibrate = [int(i) for i in run.splits.calibrate]
    try:
        reply = once(
            "hasten.search.ranges:choose",
            {
                "source": str(run.source),
                "engine": engine_name,
                "directory": str(run.folder / "artefacts" / "ranges"),
                "store": str(run.evaluator.store.directory),
                "calibrate": calibrate,
                "judge": calibrate[:RANGE_SAMPLES],
                "output": run.evaluator.keep[0],
            },
            seconds=300,
        )
    except (WorkerDied, CallFailed) as fault:
        run.say("note", f"calibration methods could not be compared ({first_line(fault)}); using mse")
        return ["mse", "minmax"]
    run.say("note", f"calibration: {reply['ranges'][0]} ({reply['text']})")
    return [str(r) for r in reply["ranges"]]


def narrow_stage(run: Run, engines: dict[str, Any], tuned: str) -> None:
    """Narrow floats and dynamic int8 at once, then static int8, then what its outcome suggests; wave by wave."""
    if not len(run.splits.calibrate) or not len(run.splits.confirm):
        return  # too little data to prove anything: only what leaves the answers alone was tried
    base = engine_settings(run)
    try_all(run, [*space.narrow_floats(engines, cores(), base), *space.dynamic(engines, base)], tuned)
    able = {name: engines[name] for name in fastest_first(run, engines) if "int8" in engines[name].formats()}
    if run.over() or not able:
        return
    ranges = choose_ranges(run, next(iter(able)))
    first = {n: space.static(n, e, space.first_variant(n, ranges), base.get(n, {})) for n, e in able.items()}
    try_all(run, [c for several in first.values() for c in several], tuned)
    more: list[Candidate] = []
    for name, engine in able.items():
        inside = any(looks_inside(run, c.key) for c in first[name])
        slow = all(run.trials[c.key].status in ("slower", "skipped", "unsupported") for c in first[name])
        chosen = space.more_variants(name, ranges, inside=inside, slow=slow)
        more += space.static(name, engine, chosen, base.get(name, {}))
    try_all(run, more, tuned)


def fastest_first(run: Run, engines: dict[str, Any]) -> list[str]:
    """Engines by their best speed so far on this network, so that time runs out on the less promising ones."""
    best = dict.fromkeys(engines, 0.0)
    for trial in run.trials.values():
        if trial.timing and trial.candidate.engine in best and trial.candidate.steps:
            best[trial.candidate.engine] = max(best[trial.candidate.engine], trial.timing.speedup)
    return sorted(best, key=lambda name: -best[name])


def try_all(run: Run, candidates: Sequence[Candidate], tuned: str) -> None:
    """Build, load, screen and race one wave of candidates; keep the few that can still win."""
    if run.over() or not candidates:
        return
    wave: list[str] = []
    reigning = run.trials[tuned].timing
    to_beat = reigning.median_ms if reigning else float("inf")
    for done, candidate in enumerate(candidates):
        if run.over():
            break
        run.say("trial", candidate.label, done, len(candidates))
        if recipe_key(candidate) not in run.artefacts:
            build_all(run, candidates[done : done + BUILT_AHEAD])
        if "artefact" not in run.artefacts[recipe_key(candidate)] or load(run, candidate) is None:
            continue
        if not hopelessly_slow(run, candidate, to_beat) and screen(run, candidate) is not None:
            wave.append(candidate.key)
    race(run, wave, GIVEN, SCREEN_ROUNDS)
    drop_losers(run, tuned)


def hopelessly_slow(run: Run, candidate: Candidate, best_ms: float) -> bool:
    """A quick look at the clock before the long look at the answers: half again the time to beat is out."""
    try:
        milliseconds(run.loaded[candidate.key], run.work, 2)
        time.sleep(REST_SECONDS)
        taken = min(milliseconds(run.loaded[candidate.key], run.work, 5))
    except (WorkerDied, CallFailed) as fault:
        lost(run, candidate, fault)
        return True
    if taken <= 1.5 * best_ms:
        return False
    run.retire([candidate.key])
    text = f"{taken:.3g} ms in a quick look, {best_ms:.3g} ms are to be beaten"
    run.update(candidate.key, status="slower", reason=text)
    return True


def drop_losers(run: Run, tuned: str) -> None:
    """Retire what is slower than the best lossless setting, and what another candidate beats on both axes."""
    floor = run.trials[tuned].timing.low if tuned != GIVEN and run.trials[tuned].timing else 1.0  # type: ignore[union-attr]
    alive = [k for k in run.loaded if k not in (GIVEN, tuned)]
    for key in alive:
        trial = run.trials[key]
        if trial.timing is not None and trial.timing.high < floor:
            run.retire([key])
            text = f"{trial.timing.speedup:.2f}x, slower than the best lossless setting"
            run.update(key, status="slower", reason=text)
    kept = set(front(run)[:FIELD_SIZE])
    for key in [k for k in run.loaded if k not in (GIVEN, tuned) and k not in kept]:
        run.retire([key])
    promising = [run.trials[k] for k in finalists(run)]
    best = max((t.timing.speedup for t in promising if t.timing), default=1.0)
    if best > run.best:
        run.best = best
        label = next(t.candidate.label for t in promising if t.timing and t.timing.speedup == best)
        run.say("best", f"{label}: {best:.2f}x, looks inside the budget")


def confirm_stage(run: Run, tuned: str) -> tuple[str, list[Quality]]:
    """The proof. Returns the key of the fastest that passed, else of the best lossless setting, and all looks."""
    order = finalists(run)
    winner, looks = prove(run, order) if order else (GIVEN, [])
    if winner == GIVEN and tuned != GIVEN:
        winner, more = prove(run, [tuned])
        looks += more
    return winner, looks


def final_timing(run: Run, keys: Sequence[str], restarts: int, rounds: int) -> dict[str, list[float]]:
    """Time ``keys`` afresh, in new processes each time; only this run is reported. Returns the blocks in ms."""
    blocks: dict[str, list[float]] = {k: [] for k in keys}
    peaks: dict[str, int] = {}
    for restart in range(restarts):
        run.say("trial", "final timing in fresh processes", restart, restarts)
        run.retire(keys)
        try:
            sides = {k: fresh_worker(run, run.trials[k].candidate) for k in keys}
            series = interleave(sides, run.work, rounds=rounds, seed=run.seed + 1 + restart)
            if series.lost:
                raise next(iter(series.lost.values()))
            peaks = {k: int(w.call("memory")["peak_bytes"]) for k, w in sides.items()}
        except (WorkerDied, CallFailed) as fault:
            run.say("warning", f"a restart of the final timing was lost: {first_line(fault)}")
            continue
        for k in keys:
            blocks[k] += series.blocks[k]
    if len(blocks[GIVEN]) >= LEAST_PAIRS:
        for k in keys:
            run.update(k, timing=timing(blocks[GIVEN], blocks[k]), peak_bytes=peaks[k])
    return blocks


def what_ran(run: Run, keys: Sequence[str]) -> None:
    """Ask the engines what they really executed."""
    for key in keys:
        worker = run.loaded.get(key)
        if worker is not None and not run.trials[key].executed:
            try:
                run.update(key, executed=worker.call("executed")["executed"])
            except (CallFailed, WorkerDied) as fault:
                run.update(key, executed=f"unknown ({first_line(fault)})")


def settle(run: Run, winner: str, tuned: str, restarts: int, rounds: int) -> str:
    """The final timing of the two fastest that passed, and the promise kept: what is not faster is not returned.

    Narrow arithmetic must also beat the best lossless setting: accuracy is not spent for nothing.
    """
    if winner == GIVEN:
        return GIVEN
    ranked = sorted(passed(run), key=lambda k: -speed(run, k))
    rivals = [k for k in ranked if k != tuned and speed(run, k) * CLEARLY > speed(run, winner)][:2]
    blocks = final_timing(run, list(dict.fromkeys([GIVEN, tuned, *rivals])), restarts, rounds)
    for key in sorted(rivals, key=lambda k: -speed(run, k)):
        over_given = run.trials[key].timing
        if over_given is None or over_given.low <= 1 or len(blocks[GIVEN]) < LEAST_PAIRS:
            run.update(key, status="slower", reason="not faster than the network as given in the final timing")
        elif tuned != GIVEN and timing(blocks[tuned], blocks[key]).low <= 1:
            run.update(key, status="slower", reason="not faster than the best lossless setting in the final timing")
        else:
            return key
    return settle_lossless(run, tuned)


def settle_lossless(run: Run, tuned: str) -> str:
    """The best lossless setting if it is faster in the final timing and its answers are the same, else the baseline."""
    if tuned == GIVEN:
        return GIVEN
    if run.trials[tuned].confirm is None:
        prove(run, [tuned])
    trial = run.trials[tuned]
    faster = trial.timing is not None and trial.timing.low > 1
    return tuned if faster and trial.confirm is not None and trial.confirm.met else GIVEN


def passed(run: Run) -> list[str]:
    """Candidates proven inside the budget."""
    return [k for k, t in run.trials.items() if t.status == "ok" and t.confirm and t.confirm.met and k != GIVEN]
