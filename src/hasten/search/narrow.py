"""Stage 2: narrower arithmetic, wave by wave; each wave is chosen by how the last one fared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hasten.machine import cores
from hasten.search import forms, space
from hasten.search.confirm import finalists, front, looks_inside
from hasten.search.field import SCREEN_ROUNDS, Run, build_all, first_line, load, recipe_key
from hasten.search.lossless import engine_settings
from hasten.search.screening import hopelessly_slow, race, screen
from hasten.trial import Candidate, Trial
from hasten.worker import CallFailed, WorkerDied, once

FIELD_SIZE = 8  # workers alive at once in a race
RANGE_SAMPLES = 24
WITHOUT_ANSWERS = ("slower", "skipped", "unsupported")
BUILT_AHEAD = 4  # candidates whose artefacts are made together


def narrow_stage(run: Run, engines: dict[str, Any], tuned: str, threads: int | None) -> None:
    """Narrow floats and dynamic int8 at once, then static int8, then what its outcome suggests; wave by wave."""
    if not len(run.splits.calibrate) or not len(run.splits.confirm):
        return  # too little data to prove anything: only what leaves the answers alone was tried
    base = engine_settings(run)
    try_all(run, [*space.narrow_floats(engines, cores(), threads), *space.dynamic(engines, base)], tuned)
    able = {name: engines[name] for name in fastest_first(run, engines) if "int8" in engines[name].formats()}
    if run.over() or not able:
        return
    ranges = choose_ranges(run, next(iter(able)))
    first = {n: space.static(n, e, space.first_variant(n, ranges), base.get(n, {})) for n, e in able.items()}
    try_all(run, [c for several in first.values() for c in several], tuned)
    more: list[Candidate] = []
    for name, engine in able.items():
        inside = any(looks_inside(run, c.key) for c in first[name])
        slow = all(run.trials[c.key].status in WITHOUT_ANSWERS for c in first[name])
        chosen = space.more_variants(name, ranges, inside=inside, slow=slow)
        more += space.static(name, engine, chosen, base.get(name, {}))
    try_all(run, more, tuned)


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


def fastest_first(run: Run, engines: dict[str, Any]) -> list[str]:
    """Engines by their best speed so far on this network, so that time runs out on the less promising ones."""
    best = dict.fromkeys(engines, 0.0)
    for trial in run.trials.values():
        if trial.timing and trial.candidate.engine in best and trial.candidate.steps:
            best[trial.candidate.engine] = max(best[trial.candidate.engine], trial.timing.speedup)
    return sorted(best, key=lambda name: -best[name])


def try_all(run: Run, candidates: Sequence[Candidate], tuned: str) -> None:
    """Build, load, screen and race one wave of candidates; keep the few that can still win."""
    candidates = forms.fitting(candidates, run)
    if run.over():
        out_of_time(run, candidates)
        return
    wave: list[str] = []
    reigning = run.trials[tuned].timing
    to_beat = reigning.median_ms if reigning else float("inf")
    for done, candidate in enumerate(candidates):
        if run.over():
            out_of_time(run, candidates[done:])
            break
        run.say("trial", candidate.label, done, len(candidates))
        if recipe_key(candidate) not in run.artefacts:
            build_all(run, candidates[done : done + BUILT_AHEAD])
        if "artefact" not in run.artefacts[recipe_key(candidate)] or load(run, candidate) is None:
            continue
        if not hopelessly_slow(run, candidate, to_beat) and screen(run, candidate) is not None:
            wave.append(candidate.key)
    race(run, wave, SCREEN_ROUNDS)
    drop_losers(run, tuned)


def out_of_time(run: Run, candidates: Sequence[Candidate]) -> None:
    """Even what was never tried is told."""
    for candidate in candidates:
        reason = "not tried: the search was stopped" if run.stopping() else "not tried: the search's time was up"
        run.record(Trial(candidate=candidate, status="skipped", reason=reason, stage=run.stage))


def drop_losers(run: Run, tuned: str) -> None:
    """Retire what is slower than the best lossless setting, and what another candidate beats on both axes."""
    floor = run.trials[tuned].timing.low if tuned != run.given and run.trials[tuned].timing else 1.0  # type: ignore[union-attr]
    alive = [k for k in run.loaded if k not in (run.given, tuned)]
    for key in alive:
        trial = run.trials[key]
        if trial.timing is not None and trial.timing.high < floor:
            run.retire([key])
            text = f"{trial.timing.speedup:.2f}×, slower than the best lossless setting"
            run.update(key, status="slower", reason=text)
    kept = set(front(run)[:FIELD_SIZE])
    for key in [k for k in run.loaded if k not in (run.given, tuned) and k not in kept]:
        run.retire([key])
    promising = [run.trials[k] for k in finalists(run)]
    best = max((t.timing.speedup for t in promising if t.timing), default=1.0)
    if best > run.best:
        run.best = best
        label = next(t.candidate.label for t in promising if t.timing and t.timing.speedup == best)
        run.say("best", f"{label}: {best:.2f}×, looks inside the budget")
