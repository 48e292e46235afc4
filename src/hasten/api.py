"""The six verbs: optimize, bench, inspect, doctor, apply, verify. The command line adds nothing to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hasten import artefacts, claims, handover, replay, transfer
from hasten.budget import Budget, parse_budget
from hasten.errors import Stopped, UsageError, did_you_mean
from hasten.frontends.objects import as_file
from hasten.machine import cores, machine
from hasten.model import file_digest
from hasten.protocols import Door, Event, Listener
from hasten.search.anatomy import anatomy
from hasten.search.answer import answer
from hasten.search.enter import enter
from hasten.search.folder import run_folder
from hasten.search.interrupts import interrupts
from hasten.search.objective import BATCH, OBJECTIVES
from hasten.search.prepare import prepare
from hasten.search.question import Question
from hasten.trial import Result
from hasten.worker import CallFailed, WorkerDied, once

SEARCH_SECONDS = 80.0


def optimize(
    model: object,
    data: object = None,
    *,
    max_drop: str | Budget = "1%",
    metric: str | Callable[..., Any] | None = None,
    output: str | None = None,
    labels: str = "labels",
    groups: str | None = None,
    state: Mapping[str, str] | None = None,
    preprocess: str | None = None,
    batch: int = 1,
    confidence: float = 0.95,
    seconds: float | None = None,
    engines: Sequence[str] | None = None,
    format: str | None = None,  # noqa: A002 - as on the command line
    threads: int | None = None,
    objective: str = "latency",
    per_tensor: bool = False,
    served_by: str | None = None,
    trust: bool = False,
    module: str | None = None,
    signature: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    listen: Listener | None = None,
) -> Result:
    """The fastest version of ``model`` that is proven to stay inside the budget on this machine.

    Args:
        model: a file of any front door, or in Python an ``nn.Module``, an ``ExportedProgram`` or a Keras model.
        data: ``.npz``, ``.npy``, a folder of images, a table, or in Python a mapping, an iterable or a callable;
            for an ``nn.Module`` a DataLoader, or any iterable of (inputs, labels) batches. Without any, inputs are
            made up and only what changes no arithmetic is tried.
        max_drop: ``"1%"`` absolute points, ``"rel:99%"`` of the score, ``"agree:99%"`` of the answers.
        metric: a name (``top1``, ``auc``, ...), ``"package.module:function"`` or a function; chosen when None.
        state: for networks with state, which input is fed from which output: ``{"state": "stateN"}``.
        batch: samples that the network is served with at a time.
        seconds: time for the search, 80 by default; the proof and the final timing come on top.
        engines: search among these only; ``format`` keeps those whose file is of that format.
        objective: ``latency``; ``throughput``, which is the time of a batch (16 unless told otherwise); ``size`` of the
            file or ``memory`` of its process, where nothing slower than today is returned.
        per_tensor: int8 weights get one scale each, for processors that know no others.
        served_by: the engine that serves the network today, by default its framework's own where it is installed;
            what it takes there is the baseline.
        trust: let code in the file run: pickles, TorchScript, Lambda layers. Never for files of others.
        module: ``"package.module:function"`` that makes the network of a state dict, or the module of custom layers.
        signature: which function of a SavedModel is served.
        out: where to write the result; nothing is written when None. A run that is cut short keeps what it has beside
            it, and the same call goes on from there.

    Raises:
        UsageError, InputError, EnvironmentFault: see ``hasten.errors``.
        Stopped: interrupted before anything was proven; with ``out`` the same call goes on from there.
    """
    budget = parse_budget(max_drop, confidence)
    if objective not in OBJECTIVES:
        raise UsageError(f"no objective is called {objective!r}", help=did_you_mean(objective, OBJECTIVES))
    if out is not None:
        artefacts.check_out(Path(out), [*_paths(model), *_paths(data)], force)
    with run_folder(Path(out) if out is not None else None) as folder, interrupts() as stopping:
        path, samples = as_file(model, data, folder.path / "given")
        question = Question(
            model=path,
            data=samples,
            budget=budget,
            metric=metric,
            output=output,
            labels=labels,
            groups=groups,
            state=state,
            preprocess=preprocess,
            batch=BATCH if objective == "throughput" and batch == 1 else batch,
            threads=threads,
            per_tensor=per_tensor,
            objective=objective,
            engines=engines,
            format=format,
            seed=seed,
            served_by=served_by,
            door=Door(trust=trust or not isinstance(model, str | Path), module=module, signature=signature),
        )
        limit = SEARCH_SECONDS if seconds is None else seconds
        run, able, found = prepare(question, folder, listen or _silent, seconds=limit)
        run.stopping = stopping.is_set
        try:
            result = answer(run, question, able, found["warnings"])
            result = replace(result, warnings=(*result.warnings, *_changed_meanwhile(question.model, result)))
        finally:
            run.close()
        if result.stopped:
            folder.keep = out is not None
            run.journal.stopped()
            if result.verdict != "met":
                raise Stopped("stopped before anything faster was proven", help="run the same command again")
        if out is not None:
            handover.write(Path(out), run, question, result, force)
    return result


def _changed_meanwhile(model: Path, result: Result) -> list[str]:
    """The user's file may be written anew while hasten works on its copy."""
    try:
        same = file_digest(model) == result.model_sha256
    except OSError:
        same = False
    return [] if same else [f"{model.name} has changed since the run began: this is about the network as it was then"]


def inspect(
    model: str | Path,
    data: object = None,
    *,
    engines: Sequence[str] | None = None,
    trust: bool = False,
    module: str | None = None,
    signature: str | None = None,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """What a model file holds: format, inputs, outputs, opset, operators, weights, ideas.

    With ``data`` also ``regions`` (``trial.Mixed``): where the time goes, and what int8 does to the answers.
    """
    door = Door(trust=trust, module=module, signature=signature)
    with run_folder(None) as folder:
        if data is None:
            entered = enter(Path(model).resolve(), folder.path, door)
            return {"format": entered.origin.format, "served_by": entered.origin.engine, **entered.facts}
        budget = parse_budget("1%")
        question = Question(model=Path(model), data=data, budget=budget, scored=False, engines=engines, door=door)
        run, _, found = prepare(question, folder, listen or _silent)
        facts = {k: v for k, v in found.items() if k != "warnings"}
        try:
            return {"format": run.origin.format, **facts, "regions": anatomy(run, run.engines)}
        finally:
            run.close()


def doctor() -> dict[str, Any]:
    """This machine and its engines: ``{"machine", "engines": [{"name", "version", "formats", "missing"}]}``."""
    from hasten import registry
    from hasten.trial import plain

    engines = [_probe(name) for name in registry.names("engines")]
    return {"machine": plain(machine()), "cores": cores(), "engines": engines}


def _probe(name: str) -> dict[str, Any]:
    """What an engine says of itself in a process of its own, so that a broken package cannot end this one."""
    try:
        return dict(once("hasten.registry:probe", {"name": name}, seconds=60))
    except (WorkerDied, CallFailed) as fault:
        said = " ".join(f"broken: its process {fault}".split())[:300]
        return {"name": name, "version": None, "formats": [], "missing": said}


def bench(
    models: Sequence[str | Path], data: object, *, batch: int = 1, pairs: int = 20, trust: bool = False,
    state: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Time networks (files, or folders that ``optimize`` wrote) in interleaved pairs; the first is the baseline.

    Each file is served by its own framework. ``trust`` lets code in them run. ``state`` names inputs that are fed back,
    as for ``optimize``; every timed step starts from an empty one.

    Returns a dictionary a network: ``name``, ``engine``, ``median_ms``, ``speedup``, ``low``, ``high``, ``pairs``.
    """
    with run_folder(None) as folder:
        places = [Path(m) for m in models]
        return replay.bench(places, data, folder.path, batch=batch, pairs=pairs, trust=trust, state=state)


def apply(
    recipe: str | Path,
    model: str | Path,
    data: object,
    *,
    out: str | Path,
    force: bool = False,
    trust: bool = False,
    module: str | None = None,
    signature: str | None = None,
) -> dict[str, Any]:
    """Build another network by a recipe, calibrated on ``data``. Compared with the original, not certified."""
    artefacts.check_out(Path(out), [Path(model), Path(recipe), *_paths(data)], force)
    with run_folder(Path(out)) as folder:
        door = Door(trust=trust, module=module, signature=signature)
        return transfer.apply(Path(recipe), Path(model), data, folder.path, Path(out), door)


def verify(
    out: str | Path, data: object = None, *, trust: bool = False, listen: Listener | None = None
) -> dict[str, Any]:
    """Check a result again: ``{"ok": bool, "checks": [{"name", "ok", "text"}]}``; ``trust`` as for ``optimize``."""
    with run_folder(None) as folder:
        return claims.verify(Path(out), data, folder, listen or _silent, trust=trust)


def _paths(given: object) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else []


def _silent(event: Event) -> None:
    """Nobody listens."""


__all__ = ["Result", "apply", "bench", "doctor", "inspect", "optimize", "verify"]
