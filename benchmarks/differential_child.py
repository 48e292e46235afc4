"""What is done with one random graph: every change to it, and whether the answers stay."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from benchmarks.differential_litert import there_and_back
from benchmarks.random_graphs.graphs import Case, Feeds, random_case
from hasten.compare import compare
from hasten.errors import InputError
from hasten.graph import edit, evaluate, walk
from hasten.model import Model, TensorSpec
from hasten.passes import activations, clean, control, fold, idioms, layout, lookup, merge, noops, scales, shapes, tidy
from hasten.passes.check import TOLERANCE
from hasten.passes.opsets import converted
from hasten.passes.rewrite import Failed, Rewrite, apply, as_declared, known
from hasten.passes.scale_inputs import ScaleInputs
from hasten.protocols import Context, NotApplicable

Array = NDArray[Any]
MODULES = (activations, control, fold, idioms, layout, lookup, noops, scales, shapes, tidy)
REWRITES = (*(r for m in MODULES for r in m.REWRITES), *merge.CONSECUTIVE, *merge.STEPWISE, *merge.PARALLEL)
CLOSE = {"float16": 4e-3, "float32": 1e-4, "float64": 1e-4}  # of an output's scale; rewrites store float32
LITERT_EACH = 4  # one graph in so many is written for LiteRT
PERTURBED, LEAST = 2e-6, 1e-3
HUGE = 1e24  # from here on a product of two may overflow: what a graph answers then hangs on the order of its steps


@dataclass(frozen=True)
class Difference:
    """A change that does not answer as the graph does."""

    change: str
    feed: str
    text: str


@dataclass
class Examined:
    """One graph's line: what was applied, and what differs."""

    not_loaded: int = 0
    sensitive: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    opsets: Counter[str] = field(default_factory=Counter)
    feeds: Counter[str] = field(default_factory=Counter)
    changes: dict[str, str] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


Note = Callable[[str], None]
Changed = Callable[[Mapping[str, Feeds]], dict[str, list[Array] | str]]  # answers by feed, or the error


def child(first: int, end: int, file: Path) -> None:
    """Examine seeds one by one; the seed and the change under way stand beside ``file`` should the process die."""
    logging.disable(logging.CRITICAL)
    with file.open("a") as lines, Path(f"{file}.at").open("w") as at:
        for seed in range(first, end):
            marked = ["original"]

            def note(change: str, seed: int = seed, marked: list[str] = marked) -> None:
                marked.append(change)
                at.seek(0)
                at.write(json.dumps({"seed": seed, "change": change}))
                at.truncate()
                at.flush()

            try:
                found = examine(random_case(seed), note)
                line = {**vars(found), "differences": [asdict(d) for d in found.differences]}
            except Exception as error:  # a fault of a change, or of this file: told with its seed
                line = {"died": marked[-1], "text": f"{type(error).__name__}: {error}"[:300]}
            lines.write(json.dumps({"seed": seed, **line}) + "\n")
            lines.flush()


def examine(case: Case, note: Note = lambda change: None, only: str = "") -> Examined:
    """Every change to one graph, or ``only`` one."""
    found = Examined()
    found.operators.update(n.op_type for g in ir.from_proto(case.proto).graphs() for n in g)
    found.opsets[str(case.proto.opset_import[0].version)] += 1
    note("original")
    model = ir.from_proto(case.proto)
    try:
        session = evaluate.session(model, threads=1)
    except Exception:  # onnxruntime has no class of its own for what it does not load
        found.not_loaded = 1
        return found
    wanted = {name: answers for name, feed in case.feeds.items() if (answers := _run(session, feed)) is not None}
    found.feeds.update(list(wanted))
    for change, run in changes(case, model, note, only):
        note(change)
        if isinstance(run, str):
            found.changes[change] = "refused"
            if run:
                found.differences.append(Difference(change, "", run))
            continue
        found.changes[change] = "applied"
        got = run({name: case.feeds[name] for name in wanted})
        for name, given in got.items():
            told = given if isinstance(given, str) else problem(case, name, change, wanted[name], given)
            if told and not isinstance(given, str) and _sensitive(case, name, wanted[name], given):
                found.sensitive += 1
            elif told:
                found.differences.append(Difference(change, name, told))
                break
    return found


def problem(case: Case, name: str, change: str, wanted: list[Array], got: list[Array]) -> str:
    """What differs; only in numbers that stayed finite where the inputs are huge, or a value inside becomes so."""
    loose = name == "large" or change.startswith("tflite")
    found = differs(wanted, got, loose=loose)
    return differs(wanted, got, loose=True) if found and not loose and _huge_inside(case, name) else found


def _huge_inside(case: Case, name: str) -> bool:
    """Does a finite value inside the graph come near the end of float32, as that of a Clip or MaxPool of infinity?"""
    model = ir.from_proto(case.proto)
    own = {o.name for o in model.graph.outputs}
    model.graph.outputs.extend(v for n in model.graph for v in n.outputs if v.name and v.name not in own)
    values = _answers(model, case.feeds[name]) or []
    arrays = [a for a in values if isinstance(a, np.ndarray) and a.dtype.kind == "f"]  # a sequence is a list
    return any(bool((np.isfinite(a) & (np.abs(a) >= HUGE)).any()) for a in arrays)


def _run(session: Any, feed: Feeds) -> list[Array] | None:
    try:
        return list(session.run(None, feed))
    except Exception:
        return None


def changes(case: Case, model: ir.Model, note: Note, only: str) -> Iterator[tuple[str, Changed | str]]:
    """Each change that applies, with what runs it; a text in place of that where it failed, empty where refused."""
    start = model.clone()
    known(start)
    base, wholes = start.clone(), [s for s in clean.STAGES if isinstance(s, clean.Whole) and s.tolerance == TOLERANCE]
    steps: list[tuple[str, int, Callable[[ir.Model], ir.Model | str | None]]] = [
        *((r.name, 1, partial(_rewritten, r)) for r in REWRITES),
        *((s.name, 3, partial(_staged, s)) for s in wholes),
        *((f"to operator set {n}", 2, partial(_converted, n)) for n in (17, 20)),
        ("clean", 1, _cleaned),
        ("clean for int8", 4, partial(_cleaned, stages=clean.FOR_INT8)),
        ("unlike columns", 2, partial(_scaled, case.feeds["sample"])),
    ]
    for name, every, made in steps:
        if only == name or (not only and (case.seed + len(name)) % every == 0):
            note(name)
            changed = made(base)
            if changed is not None:
                yield name, changed if isinstance(changed, str) else _onnx(changed, model)
                base = start.clone()
    if case.seed % LITERT_EACH == 0 and (not only or only.startswith("tflite")):
        note("tflite")
        yield from there_and_back(case, model)


def _rewritten(rewrite: Rewrite, base: ir.Model) -> ir.Model | str | None:
    """In place: a graph that no rule fits stays as it is."""
    try:
        return base if apply(base, [rewrite]) else None
    except Failed as failed:
        return f"failed: {failed}"


def _staged(stage: clean.Whole, base: ir.Model) -> ir.Model | str | None:
    done = stage.run(base, _no_problem)
    return f"left out: {done.refused[0][1]}" if done.refused else done.graph


def _converted(target: int, base: ir.Model) -> ir.Model | str | None:
    return None if walk.opset(base) >= target else converted(base, target) or ""


def _cleaned(base: ir.Model, stages: Sequence[clean.Whole | clean.Rules] = clean.STAGES) -> ir.Model | str | None:
    done = clean.run_stages(base, _no_problem, stages)
    return f"left out {done.refused[0][0]}: {done.refused[0][1]}" if done.refused else done.graph


def _scaled(sample: Feeds, base: ir.Model) -> ir.Model | str | None:
    """Scale the columns of inputs, alike or not; its numbers come from the sample."""
    context = Context(feeds=lambda: iter([sample]), stats=lambda model, names, channels=(): {})
    inputs, outputs = (tuple(_spec(v) for v in side) for side in (base.graph.inputs, base.graph.outputs))
    try:
        return ScaleInputs(unlike=1)(Model(base, inputs, outputs), context).graph
    except (NotApplicable, InputError):  # the columns are none, or the graph does not run on the sample
        return None


def _spec(value: ir.Value) -> TensorSpec:
    assert value.dtype is not None
    sizes = tuple(d if isinstance(d, int) else None for d in value.shape or ())
    return TensorSpec(value.name or "", sizes, value.dtype.numpy().name)


def _no_problem(graph: ir.Model, tolerance: float) -> str:
    return ""


def _onnx(graph: ir.Model, model: ir.Model) -> Changed:
    edit.prune(graph)
    as_declared(graph, model)

    def run(feeds: Mapping[str, Feeds]) -> dict[str, list[Array] | str]:
        try:
            session = evaluate.session(graph, threads=1)
        except Exception as error:
            return dict.fromkeys(feeds, f"does not load: {error}")
        names = [i.name for i in session.get_inputs()]
        if [o.name for o in session.get_outputs()] != [o.name for o in model.graph.outputs]:
            return dict.fromkeys(feeds, "the outputs have other names")
        answers: dict[str, list[Array] | str] = {}
        for name, feed in feeds.items():
            try:
                answers[name] = list(session.run(None, {n: feed[n] for n in names}))
            except Exception as error:
                answers[name] = f"raises: {error}"
        return answers

    return run


def differs(wanted: list[Array], got: list[Array], *, loose: bool = False) -> str:
    """What is not the same; empty when all is. ``loose``: only numbers that stayed finite on both sides count."""
    for i, (a, b) in enumerate(zip(wanted, got, strict=True)):
        found = compare(a, b)
        if found.unlike or found.retyped:
            return f"output {i}: {found.unlike or found.retyped}"
        if found.miscounted:
            return f"output {i} differs in {found.miscounted} of {found.counted}"
        if not loose and (found.nans or found.infinities):
            return f"output {i}: {found.nans} NaN and {found.infinities} infinities differ"
        if found.absolute > CLOSE.get(a.dtype.name, 0) * max(found.scale, LEAST):
            return f"output {i} moved by {found.absolute:.3g} where its scale is {found.scale:.3g}"
    return ""


def _sensitive(case: Case, name: str, wanted: list[Array], got: list[Array]) -> bool:
    """Does rounding alone move the graph's own answers as far? Weights and inputs are changed in their last digits."""
    random = np.random.default_rng(0)
    for _ in range(4):
        model = ir.from_proto(case.proto)
        for value in model.graph.initializers.values():
            array = walk.constant(value)
            sizes = any(n.op_type in ("Resize", "Upsample") and k > 0 for n, k in walk.consumers(value))
            if array is not None and array.dtype == np.float32 and array.size > 1 and not sizes:
                value.const_value = ir.tensor(_perturbed(array, random), name=value.name)
        feed = {n: _perturbed(a, random) if a.dtype == np.float32 else a for n, a in case.feeds[name].items()}
        moved = _answers(model, feed)
        if moved is not None and any(_as_far(*three) for three in zip(wanted, got, moved, strict=True)):
            return True
    return False


def _answers(model: ir.Model, feed: Feeds) -> list[Array] | None:
    """What a model answers; None where it does not load, as when a changed last digit is that of a size."""
    try:
        session = evaluate.session(model, threads=1)
    except Exception:  # onnxruntime has no class of its own for what it does not load
        return None
    return _run(session, feed)


def _as_far(wanted: Array, got: Array, moved: Array) -> bool:
    """Both differ from what is wanted, ``moved`` at least nearly as much."""
    if wanted.shape != got.shape or wanted.shape != moved.shape or not differs([wanted], [got]):
        return False
    return bool(differs([wanted], [moved])) and (
        wanted.dtype.kind != "f" or _far(wanted, moved) > 0.05 * _far(wanted, got)
    )


def _perturbed(array: Array, random: np.random.Generator) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray((array * (1 + PERTURBED * random.standard_normal(array.shape))).astype(np.float32))


def _far(a: Array, b: Array) -> float:
    with np.errstate(all="ignore"):
        difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
    found = difference[np.isfinite(difference)]
    return float(found.max()) if found.size else float("inf")
