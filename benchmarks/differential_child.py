"""What is done with one random graph: every change to it, and whether the answers stay."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from benchmarks.random_graphs.graphs import Case, Feeds, random_case
from hasten.errors import HastenError
from hasten.graph import edit, evaluate, walk
from hasten.passes import activations, clean, control, fold, idioms, layout, lookup, merge, noops, scales, shapes
from hasten.passes.check import TOLERANCE
from hasten.passes.opsets import converted
from hasten.passes.rewrite import Failed, as_declared, known

Array = NDArray[Any]
MODULES = (activations, control, fold, idioms, layout, lookup, noops, scales, shapes)
REWRITES = (*(r for m in MODULES for r in m.REWRITES), *merge.CONSECUTIVE, *merge.STEPWISE, *merge.PARALLEL)
CLOSE = {"float16": 4e-3, "float32": 1e-4, "float64": 1e-4}  # of an output's scale; rewrites store float32
LITERT_EACH = 4  # one graph in so many is written for LiteRT
PERTURBED = 2e-6


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

            def note(change: str, seed: int = seed) -> None:
                at.seek(0)
                at.write(json.dumps({"seed": seed, "change": change}))
                at.truncate()
                at.flush()

            note("original")
            lines.write(json.dumps({"seed": seed, **asdict(examine(random_case(seed), note))}) + "\n")
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
    found.feeds.update(wanted)
    for change, run in changes(case, model, note, only):
        note(change)
        if isinstance(run, str):
            found.changes[change] = "refused"
            if run:
                found.differences.append(Difference(change, "", run))
            continue
        found.changes[change] = "applied"
        got = run({name: case.feeds[name] for name in wanted})
        for name, answers in got.items():
            problem = answers if isinstance(answers, str) else differs(wanted[name], answers, loose=name == "large")
            if problem and not isinstance(answers, str) and _sensitive(case, name, wanted[name], answers):
                found.sensitive += 1
            elif problem:
                found.differences.append(Difference(change, name, problem))
                break
    return found


def _run(session: Any, feed: Feeds) -> list[Array] | None:
    try:
        return list(session.run(None, feed))
    except Exception:
        return None


def changes(case: Case, model: ir.Model, note: Note, only: str) -> Iterator[tuple[str, Changed | str]]:
    """Each change that applies, with what runs it; a text in place of that where it failed, empty where refused."""
    base = model.clone()
    known(base)
    graph = base.clone()
    for rewrite in REWRITES:
        if only not in ("", rewrite.name):
            continue
        note(rewrite.name)
        try:
            done = clean.apply(graph, [rewrite])
        except Failed as failed:
            yield rewrite.name, f"failed: {failed}"
            graph = base.clone()
            continue
        if done:
            yield rewrite.name, _onnx(graph, model)
            graph = base.clone()  # one that no rule fits is as it was
    for stage in clean.STAGES:
        alone = isinstance(stage, clean.Whole) and stage.tolerance == TOLERANCE
        if isinstance(stage, clean.Whole) and alone and (only == stage.name or (not only and case.seed % 3 == 0)):
            note(stage.name)
            done_ = stage.run(base, lambda graph, tolerance: "")
            if done_.refused:
                yield stage.name, f"left out: {done_.refused[0][1]}"
            elif done_.graph is not None:
                yield stage.name, _onnx(done_.graph, model)
    for target in (17, 20):
        name = f"to operator set {target}"
        if walk.opset(model) < target and (only == name or (not only and case.seed % 2 == target % 2)):
            note(name)
            graph_ = converted(model, target)
            yield name, "" if graph_ is None else _onnx(graph_, model)
    if only in ("", "clean"):
        note("clean")
        whole = clean.run_stages(base, lambda graph, tolerance: "")
        if whole.refused:
            yield "clean", f"left out {whole.refused[0][0]}: {whole.refused[0][1]}"
        if whole.graph is not None:
            yield "clean", _onnx(whole.graph, model)
    if case.seed % LITERT_EACH == 0 and (not only or only.startswith("tflite")):
        note("tflite")
        from benchmarks.differential_litert import there_and_back

        yield from there_and_back(case, model)


def _onnx(graph: ir.Model, model: ir.Model) -> Changed:
    edit.prune(graph)
    as_declared(graph, model)

    def run(feeds: Mapping[str, Feeds]) -> dict[str, list[Array] | str]:
        try:
            session = evaluate.session(graph, threads=1)
        except Exception as error:
            return {name: f"does not load: {error}" for name in feeds}
        names = [i.name for i in session.get_inputs()]
        if [o.name for o in session.get_outputs()] != [o.name for o in model.graph.outputs]:
            return {name: "the outputs have other names" for name in feeds}
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
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {i} is {b.dtype}{list(b.shape)}, not {a.dtype}{list(a.shape)}"
        if a.dtype.kind != "f":
            if not np.array_equal(a, b):
                return f"output {i} differs in {int((a != b).sum())} of {a.size}"
            continue
        x, y = a.astype(np.float64), b.astype(np.float64)
        both = np.isfinite(x) & np.isfinite(y)
        if not loose and not np.array_equal(np.where(both, 0, x), np.where(both, 0, y), equal_nan=True):
            return f"output {i} differs in what is not finite: {x[~both][:4]} became {y[~both][:4]}"
        if not both.any():
            continue
        scale, worst = float(np.abs(x[both]).max()), float(np.abs(x[both] - y[both]).max())
        if worst > CLOSE[a.dtype.name] * max(scale, 1e-3):
            return f"output {i} moved by {worst:.3g} where its scale is {scale:.3g}"
    return ""


def _sensitive(case: Case, name: str, wanted: list[Array], got: list[Array]) -> bool:
    """Does rounding alone move the graph's own answers as far? Weights and inputs are changed in their last digits."""
    random = np.random.default_rng(0)
    for _ in range(4):
        model = ir.from_proto(case.proto)
        for value in model.graph.initializers.values():
            array = walk.constant(value)
            if array is not None and array.dtype == np.float32 and array.size > 1:
                value.const_value = ir.tensor(_perturbed(array, random), name=value.name)
        feed = {n: _perturbed(a, random) if a.dtype == np.float32 else a for n, a in case.feeds[name].items()}
        moved = _run(evaluate.session(model, threads=1), feed)
        if moved is None:
            continue
        for a, b, c in zip(wanted, got, moved, strict=True):
            if differs([a], [b], loose=name == "large") and a.shape == b.shape == c.shape and a.dtype.kind == "f":
                if differs([a], [c], loose=name == "large") and _far(a, c) > 0.05 * _far(a, b):
                    return True
            elif a.dtype.kind != "f" and a.shape == c.shape and not np.array_equal(a, b) and not np.array_equal(a, c):
                return True
    return False


def _perturbed(array: Array, random: np.random.Generator) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray((array * (1 + PERTURBED * random.standard_normal(array.shape))).astype(np.float32))


def _far(a: Array, b: Array) -> float:
    with np.errstate(all="ignore"):
        difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
    found = difference[np.isfinite(difference)]
    return float(found.max()) if found.size else float("inf")


__all__ = ["Difference", "Examined", "HastenError", "child", "examine"]
