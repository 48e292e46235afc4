"""The seven verbs: optimize, bench, inspect, doctor, apply, verify, `prove`. The command line adds nothing to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hasten import apply_recipe, artefacts, asked, claims, console, proving, read_result, registry, write_result
from hasten.budget import Budget, parse_budget
from hasten.errors import UsageError, did_you_mean
from hasten.frontends.objects import as_file
from hasten.keywords import said, spoken
from hasten.machine import cores, machine
from hasten.protocols import Door, Event, Listener
from hasten.result_files import read_report
from hasten.search.anatomy import anatomy, score
from hasten.search.answer import answer
from hasten.search.enter import enter
from hasten.search.final import passed
from hasten.search.folder import run_folder
from hasten.search.interrupts import interrupts, undisturbed
from hasten.search.loading import engines_here
from hasten.search.objective import OBJECTIVES
from hasten.search.own_paths import own_paths
from hasten.search.prepare import STAGE, prepare
from hasten.search.question import Question, changed_since
from hasten.search.reading import look
from hasten.search.unfinished import kept
from hasten.trial import Result, plain
from hasten.worker import Peak


@spoken
def optimize(
    model: object,
    data: object = None,
    *,
    max_drop: str | float | Budget = "1%",
    metric: str | Callable[..., Any] | None = None,
    also: str | Sequence[str] = (),
    lower_is_better: bool = False,
    output: str | None = None,
    output_kind: Mapping[str, str] | None = None,
    ignore_output: str | Sequence[str] = (),
    labels: str = "labels",
    groups: str | None = None,
    state: Mapping[str, str] | None = None,
    preprocess: str | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    unlabelled: object = None,
    batch: int | None = None,
    confidence: float = 0.95,
    certificate: str | None = None,
    seconds: float | str | None = None,
    engines: str | Sequence[str] | None = None,
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
    progress: bool | None = None,
) -> Result:
    """The fastest version of ``model`` that passes a test of the budget, on this machine.

    Args:
        model: a file of any front door, or in Python an ``nn.Module``, an ``ExportedProgram`` or a Keras model.
        data: ``.npz``, ``.npy``, a folder of images, a table, or in Python a mapping, an iterable or a callable;
            for an ``nn.Module`` a DataLoader, or any iterable of (inputs, labels) batches. Without any, inputs are
            made up and only what changes no arithmetic is tried.
        max_drop: ``"1%"`` or ``0.01`` for a point, ``"rel:99%"`` of the score, ``"agree:99%"`` of the answers.
        metric: a name (``top1``, ``auc``, ...), ``"package.module:function"`` or a function; chosen when None.
        also: further scores that must hold, each with what it may lose: ``"sensitivity>=-0.5%"``.
        lower_is_better: of a metric that is a function: a lower score is better.
        columns: for tables, the columns of each input: ``{"num": ["age", "income"]}``, where no name says so.
        output_kind: what outputs are, where hasten guesses wrong: ``{"control": "quantity"}``.
        ignore_output: outputs that a narrowed candidate need not keep; by default it keeps a share of each.
        state: for networks with state, which input is fed from which output: ``{"state": "stateN"}``.
        batch: samples that the network is served with at a time: 1, or 16 where ``objective`` is ``throughput``.
        certificate: what ``met`` takes, ``"statistical"`` by default: the bound holds when unseen samples resemble
            these; or ``"guaranteed"``, where nothing is assumed but independent samples.
        seconds: how long the whole run takes, the test and the final timing included: a number, ``"5m"``, or by default
            ``"auto"``, from 30 s for a network that answers in 0.1 ms to 10 minutes for one that takes seconds.
        engines: search among these only, ``"openvino"`` or a list; ``format`` keeps those whose file is of that format.
        objective: ``latency``; ``throughput``, which is the time of a batch; ``size`` of the file or ``memory`` of its
            process, where nothing slower than today is returned.
        per_tensor: int8 weights get one scale each, for processors that know no others.
        served_by: the engine that serves the network today, by default its framework's own where it is installed;
            what it takes there is the baseline.
        trust: let code in the file run: pickles, TorchScript, Lambda layers. Never for files of others.
        module: ``"package.module:function"`` that makes the network of a state dict, or the module of custom layers.
        signature: which function of a SavedModel is served.
        unlabelled: inputs without labels, which may give what the search leaves without a guarantee one; needs ``out``.
        out: where to write the result; nothing is written when None. A run that is cut short keeps what it has beside
            it, and the same call goes on from there.
        listen: called with every ``Event``.
        progress: draw progress on standard error; by default in a terminal or a notebook, where nothing listens.

    Raises:
        UsageError, InputError, EnvironmentFault: see ``hasten.errors``.
        Stopped: interrupted before anything had a certificate; with ``out`` the same call goes on from there.
    """
    budget = parse_budget(max_drop, confidence, certificate)
    if objective not in OBJECTIVES:
        raise UsageError(f"no objective is called {objective!r}", help=did_you_mean(objective, OBJECTIVES))
    batch, threads = asked.batch(batch, objective), asked.at_least_one("threads", threads)
    begun, limit = time.monotonic(), asked.time_limit(seconds)
    engines = registry.several("engines", engines)
    proving.check_unlabelled(unlabelled, out)
    if out is not None:
        artefacts.check_out(Path(out), [*_paths(model), *_paths(data)], force)
    with (
        Peak() as peak,
        interrupts(wraps_up=True) as stopping,
        console.listening(listen, progress) as heard,
        run_folder(Path(out) if out is not None else None) as folder,
        own_paths(folder.path, *_paths(model)),
    ):
        stopping.acknowledge = console.stopping if progress is not False else stopping.acknowledge
        if not isinstance(model, str | Path):
            heard(Event(kind="stage", stage=STAGE, text=f"writing the {type(model).__name__} to a file"))
        given = folder.path / "given"
        path, samples = as_file(model, data, given, partial(look, folder=given, labels=labels, groups=groups))
        question = Question(
            model=path,
            data=samples,
            budget=budget,
            metric=registry.canonical("metrics", metric) if isinstance(metric, str) else metric,
            also=(also,) if isinstance(also, str) else tuple(also),
            lower_is_better=lower_is_better,
            output=output,
            output_kinds=dict(output_kind) if output_kind else None,
            ignored=(ignore_output,) if isinstance(ignore_output, str) else tuple(ignore_output),
            labels=labels, groups=groups, state=state, preprocess=preprocess, columns=columns,
            batch=batch,
            threads=threads,
            per_tensor=per_tensor,
            objective=objective,
            engines=engines,
            format=format,
            seed=seed,
            served_by=served_by,
            door=Door(trust=trust or not isinstance(model, str | Path), module=module, signature=signature),
        )  # fmt: skip
        run, able, found = prepare(question, folder, heard, seconds=limit, begun=begun)
        run.stopping, run.peak = stopping.is_set, peak
        stopping.worth = lambda: bool(passed(run))
        try:
            result = answer(run, question, able, found["warnings"])
            result = replace(result, warnings=(*result.warnings, *changed_since(path, result.model_sha256)))
        finally:
            with undisturbed():
                run.close()
        result = kept(result, folder, None if out is None else Path(out), run.seconds)
        result = replace(result, sentence=said(result.sentence), warnings=tuple(map(said, result.warnings)))
        if out is not None:
            run.say("trial", "writing the result and its report")
            with undisturbed():
                write_result.write(Path(out), run, question, result, force, folder.building)
    if unlabelled is None or out is None or not proving.raisable(result):
        return result
    return _proven(Path(out), unlabelled=unlabelled, model=model, metric=metric, trust=trust, listen=heard)


@spoken
def inspect(
    model: str | Path,
    data: object = None,
    *,
    engines: str | Sequence[str] | None = None,
    served_by: str | None = None,
    labels: str = "labels",
    groups: str | None = None,
    state: Mapping[str, str] | None = None,
    preprocess: str | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    trust: bool = False,
    module: str | None = None,
    signature: str | None = None,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """What a model file holds: format, inputs, outputs, opset, operators, weights, ideas.

    With ``data`` also ``regions`` (``trial.Mixed``): where the time goes, and what int8 does to the answers.
    """
    door = Door(trust=trust, module=module, signature=signature)
    with interrupts(), run_folder(None) as folder, own_paths(folder.path, Path(model)):
        if data is None:
            entered = enter(Path(model), folder.path, door)
            return {"format": entered.origin.format, "served_by": entered.origin.engine, **plain(entered.facts)}
        budget = parse_budget("1%")
        question = Question(
            model=Path(model),
            data=data,
            budget=budget,
            judged=False,
            engines=registry.several("engines", engines),
            served_by=served_by,
            labels=labels,
            groups=groups,
            state=state,
            preprocess=preprocess,
            columns=columns,
            door=door,
        )
        run, _, found = prepare(question, folder, listen or _silent)
        facts = plain({k: v for k, v in found.items() if k != "warnings"})
        try:
            return {"format": run.origin.format, **facts, **score(run), "regions": anatomy(run, run.engines)}
        finally:
            run.close()


@spoken
def doctor(*, listen: Listener | None = None) -> dict[str, Any]:
    """This machine and its engines: ``{"machine", "engines": [{"name", "version", "formats", "missing"}]}``."""
    with interrupts():
        return {"machine": plain(machine()), "cores": cores(), "engines": engines_here(listen or _silent)}


@spoken
def bench(
    models: str | Path | Sequence[str | Path],
    data: object,
    *,
    batch: int = 1,
    pairs: int = 20,
    labels: str = "labels",
    groups: str | None = None,
    state: Mapping[str, str] | None = None,
    preprocess: str | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    trust: bool = False,
    module: str | None = None,
    signature: str | None = None,
) -> list[dict[str, Any]]:
    """Time networks (files, or folders that ``optimize`` wrote) in interleaved pairs; the first is the baseline.

    Files are served by their own framework, and read as for ``optimize``. Steps with state start from an empty one.

    Returns a dictionary a network: ``name``, ``engine``, ``median_ms``, ``speedup``, ``low``, ``high``, ``pairs``.
    """
    door = Door(trust=trust, module=module, signature=signature)
    reading = {"labels": labels, "groups": groups, "state": state, "preprocess": preprocess, "columns": columns}
    places = [Path(m) for m in ([models] if isinstance(models, str | Path) else models)]
    asked.at_least_one("batch", batch), asked.at_least_one("pairs", pairs)
    with interrupts(), run_folder(None) as folder, own_paths(folder.path, *places):
        return read_result.bench(places, data, folder.path, batch=batch, pairs=pairs, door=door, reading=reading)


@spoken
def apply(
    recipe: str | Path,
    model: str | Path,
    data: object,
    *,
    out: str | Path,
    force: bool = False,
    labels: str = "labels",
    groups: str | None = None,
    state: Mapping[str, str] | None = None,
    preprocess: str | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    trust: bool = False,
    module: str | None = None,
    signature: str | None = None,
) -> dict[str, Any]:
    """Build another network by a recipe, calibrated on ``data``. Compared with the original, not certified."""
    artefacts.check_out(Path(out), [Path(model), Path(recipe), *_paths(data)], force)
    with interrupts(), run_folder(Path(out), goes_on=False) as folder, own_paths(folder.path, Path(model)):
        door = Door(trust=trust, module=module, signature=signature)
        reading = {"labels": labels, "groups": groups, "state": state, "preprocess": preprocess, "columns": columns}
        return apply_recipe.apply(Path(recipe), Path(model), data, folder, Path(out), door, reading)


@spoken
def verify(
    out: str | Path,
    data: object = None,
    *,
    model: object = None,
    metric: str | Callable[..., Any] | None = None,
    trust: bool = False,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """Check a result again: its files, then its answers, its speed and, where the search was for bytes, its size.

    Args:
        out: the folder that ``optimize`` wrote.
        data: the samples of the run; needed where they were objects of a Python program, or were moved.
        model: the original network, likewise.
        metric: the function that judged the answers, where it was one; ``"package.module:function"`` names it.
        trust: let code that the result names, or the network holds, run.

    Returns ``{"answer", "ok", "checks": [{"name", "ok", "text", "help"}]}``. ``answer`` is ``"verified"``, ``"failed"``
    or ``"not checked"`` (nothing failed, and something could not be checked), and ``ok`` is True, False or None.
    """
    with interrupts(), run_folder(None) as folder:
        given = claims.Given(model=model, data=data, metric=metric, trust=trust)
        found = claims.verify(Path(out), given, folder, listen or _silent)
        return {**found, "checks": [{**check, "help": said(check["help"])} for check in found["checks"]]}


@spoken
def prove(
    out: str | Path,
    data: object = None,
    *,
    unlabelled: object = None,
    labels_from: str | Path | None = None,
    model: object = None,
    metric: str | Callable[..., Any] | None = None,
    trust: bool = False,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """Add samples, inputs alone or a filled ``to_label.csv`` to a result; returns as ``hasten schema prove`` says."""
    place = Path(out)
    proving.open_result(place)
    with interrupts(), run_folder(place, goes_on=False) as folder, own_paths(folder.path, *_paths(model)):
        added = proving.Added(data, unlabelled, labels_from)
        return proving.prove(
            place, added, claims.Given(model=model, metric=metric, trust=trust), folder, listen or _silent
        )


def _proven(out: Path, **added: Any) -> Result:
    prove(out, **added)
    return read_report(out)


def _paths(given: object) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else []


def _silent(event: Event) -> None:
    """Nobody listens."""


__all__ = ["Result", "apply", "bench", "doctor", "inspect", "optimize", "prove", "verify"]
