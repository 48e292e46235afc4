"""What a layer's width costs on an engine: measured, because time goes in steps that no formula knows.

A convolution with 40 output channels may take as long as one with 48: kernels work in blocks. Each group of channels
is cut out of its network with all that it runs through, and timed at each width on the tensors that it really reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir

from hasten.graph import edit, evaluate, walk
from hasten.graph.channels import Channels, Group
from hasten.graph.cut import cut
from hasten.model import Model, TensorSpec
from hasten.protocols import Array, Engine, Feeds, Runner
from hasten.trial import Scalar

ROUNDS, BLOCK_SECONDS, WITHIN = 9, 0.004, 0.02
Finish = Callable[[Model, Feeds], Model]


class DoesNotRun(Exception):
    """A runtime refuses a part that was cut out of its network, as where a body inside it reads what stayed outside."""


@dataclass(frozen=True)
class Step:
    """Units kept and the median time of what they run through, in milliseconds."""

    kept: int
    ms: float


def steps(
    graph: ir.Model,
    found: Channels,
    group: Group,
    counts: Sequence[int],
    engine: Engine,
    feeds: Feeds,
    *,
    settings: Mapping[str, Scalar] | None = None,
    finish: Finish = lambda model, _: model,
) -> list[Step]:
    """Times of the group's region with each of ``counts`` units left, interleaved round by round on one sample.

    ``finish`` may change each region before it is loaded, as a quantizer does.
    """
    region, inputs = region_of(graph, found, group, feeds)
    wanted = sorted(set(counts))
    models = {count: finish(as_model(narrowed(region, found, group, count)), inputs) for count in wanted}
    return [Step(count, ms) for count, ms in times(models, engine, settings or {}, inputs).items()]


def narrowed(region: ir.Model, found: Channels, group: Group, count: int) -> ir.Model:
    """A group's region with ``count`` of its units left."""
    return cut(region, found, found.never_empty(group.units[count:]))


def times(
    models: Mapping[int, Model], engine: Engine, settings: Mapping[str, Scalar], inputs: Feeds, rounds: int = ROUNDS
) -> dict[int, float]:
    """Milliseconds of each network on the same inputs, loaded together and timed in turns.

    Raises:
        DoesNotRun: the engine takes one of them not, or not with these inputs.
    """
    runners: dict[int, Runner] = {}
    with TemporaryDirectory(prefix="hasten-") as folder:
        for name, model in models.items():
            home = Path(folder, str(name))
            home.mkdir()
            model.save(home / "model.onnx")
            with _refusals():
                runners[name] = engine.load(engine.export(home / "model.onnx", home), settings)
        found = interleaved(runners, inputs, rounds)
        for runner in runners.values():
            runner.close()
    return found


def interleaved(runners: Mapping[int, Runner], feeds: Feeds, rounds: int = ROUNDS) -> dict[int, float]:
    """Median milliseconds of each runner; every round times each once, in turn."""
    inner, seen = {}, {name: list[float]() for name in runners}
    for name, runner in runners.items():
        with _refusals():
            runner.run(feeds)
        inner[name] = max(1, int(BLOCK_SECONDS / max(_seconds(runner, feeds, 3), 1e-7)))
    for _ in range(rounds):
        for name, runner in runners.items():
            seen[name].append(1000 * _seconds(runner, feeds, inner[name]))
    return {name: median(times) for name, times in seen.items()}


@contextmanager
def _refusals() -> Iterator[None]:
    """Whatever a runtime raises at what it is given says the same thing; what our own code raises is a fault."""
    try:
        yield
    except Exception as error:  # runtimes have no common exception class
        raise DoesNotRun(str(error).strip().partition("\n")[0]) from error


def _seconds(runner: Runner, feeds: Feeds, times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        runner.run(feeds)
    return (time.perf_counter() - begin) / times


def cliffs(steps: Sequence[Step], within: float = WITHIN) -> list[Step]:
    """The steps worth taking: those that no wider one matches in time (to ``within``), widest first."""
    kept: list[Step] = []
    for step in sorted(steps, key=lambda s: -s.kept):
        if not kept or step.ms < kept[-1].ms * (1 - within):
            kept.append(step)
    return kept


def region_of(graph: ir.Model, found: Channels, group: Group, feeds: Feeds) -> tuple[ir.Model, dict[str, Array]]:
    """The nodes that any unit of the group runs through, as a network, and its inputs on one sample."""
    units, copy = np.array(group.units), graph.clone()
    inside = [node for node in copy.graph if any(_holds(found, v, units) for v in (*node.inputs, *node.outputs))]
    made = {v for node in inside for v in node.outputs}
    read = list(dict.fromkeys(v for node in inside for v in node.inputs if v is not None and v not in made))
    boundary = [v for v in read if walk.constant(v) is None]
    chosen = set(inside)
    leaving = [v for v in made if v.is_graph_output() or any(node not in chosen for node, _ in walk.consumers(v))]
    arrays = _arrays(graph, [v.name or "" for v in boundary], feeds)
    return _extract(copy, inside, boundary, leaving, arrays), arrays


def node_of(graph: ir.Model, output: str, feeds: Feeds) -> tuple[ir.Model, dict[str, Array]]:
    """One node as a network, by its first output, and its inputs on one sample."""
    copy = graph.clone()
    node = next(n for n in copy.graph if n.outputs[0].name == output)
    boundary = [v for v in node.inputs if v is not None and walk.constant(v) is None]
    arrays = _arrays(graph, [v.name or "" for v in boundary], feeds)
    return _extract(copy, [node], boundary, [node.outputs[0]], arrays), arrays


def as_model(graph: ir.Model) -> Model:
    """A region as a network."""
    return Model(graph, _specs(graph.graph.inputs), _specs(graph.graph.outputs))


def _holds(found: Channels, value: ir.Value | None, units: np.ndarray) -> bool:
    axes = found.units.get(value.name or "", ()) if value is not None else ()
    return any(axis is not None and np.isin(axis, units).any() for axis in axes)


def _arrays(graph: ir.Model, names: Sequence[str], feeds: Feeds) -> dict[str, Array]:
    part = graph.clone()
    values = {v.name: v for node in part.graph for v in node.outputs}
    inner = [name for name in names if name in values]
    known = {name: np.asarray(array) for name, array in feeds.items()}
    if inner:
        part.graph.outputs[:] = [values[name] for name in inner]
        edit.prune(part)
        needed = {v.name for v in part.graph.inputs}
        with _refusals():
            [got] = evaluate.run(part, [{k: v for k, v in feeds.items() if k in needed}])
        known.update(got)
    return {name: known[name] for name in names}


def _extract(
    model: ir.Model, inside: list[ir.Node], boundary: list[ir.Value], leaving: list[ir.Value], arrays: dict[str, Array]
) -> ir.Model:
    """``inside`` as a graph of its own, fed by ``boundary`` in the shapes of ``arrays``."""
    graph, chosen = model.graph, set(inside)
    graph.outputs[:] = leaving
    for value in boundary:
        array = arrays[value.name or ""]
        kind = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        fed = ir.Value(name=f"{value.name}/fed", shape=ir.Shape(array.shape), type=kind)
        for node, index in walk.consumers(value):
            if node in chosen:
                node.replace_input_with(index, fed)
        graph.inputs.append(fed)
    for value in leaving:
        value.type = value.type if value.type is not None else ir.TensorType(ir.DataType.FLOAT)
    edit.prune(model)
    graph.inputs[:] = [v for v in graph.inputs if (v.name or "").endswith("/fed")]
    for value in graph.inputs:
        value.name = (value.name or "").removesuffix("/fed")
    return model


def _specs(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(v.name or "", tuple(d if isinstance(d, int) else d.value for d in v.shape or ()), str(v.dtype))
        for v in values
    )
