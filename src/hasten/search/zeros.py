"""Does an engine on this machine run faster where weights are zero? Most do not, and then single weights stay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from hasten import registry
from hasten.measure import steps as stairs
from hasten.model import Model
from hasten.protocols import Array
from hasten.quant import sparse
from hasten.search import forms
from hasten.search.field import SCREEN_ROUNDS, Run, first_line, study
from hasten.search.findings import named
from hasten.search.first_timing import NOTHING
from hasten.search.loading import SERVES, ready
from hasten.search.mixes import DEEP
from hasten.search.screening import hopelessly_slow, race, screen
from hasten.trial import Candidate, Scalar, Step, Trial
from hasten.worker import CallFailed, WorkerDied

PATTERNS = ("2:4", "0.75")
TIMES = 3
GAIN = 1.1  # less is within what two runs of the same network differ by
WIDE, SIDE, OPSET = 512, 14, 17


def zeros(run: Run, base: Candidate) -> None:
    """Where an engine gains from zeros, candidates that have some; else one row that says by how much none does."""
    steps = [Step(name="sparsify", options={"pattern": PATTERNS[0]})]
    idle = Candidate(
        steps=(base.steps[0], *steps), engine=base.engine, settings=base.settings, label="zeros in weights"
    )
    if run.over():
        run.record(
            Trial(candidate=idle, status="skipped", reason="not tried: the search's time was up", stage=run.stage)
        )
        return
    serving = {t.candidate.engine for t in run.trials.values() if t.status in SERVES}
    asked = [name for name in run.engines if name in serving and forms.GRAPH in forms.takes(name)]
    gains = {name: found for name in asked if (found := gained(run, name))}
    able = {name: g for name, g in gains.items() if max(g.values()) > GAIN}
    if not able:
        told = ", ".join(f"{name} ×{max(g.values()):.2f}" for name, g in gains.items())
        reason = f"no engine here gains from zeros (measured {told or 'nothing'})"
        run.record(Trial(candidate=idle, status="slower", reason=reason, stage=run.stage))
        run.say("note", reason)
        return
    for name, found in able.items():
        offer(run, name, dict(base.settings) if name == base.engine else {}, found)


def gained(run: Run, engine: str) -> dict[str, float]:
    """Speed-up of each pattern over dense weights; empty when the engine could not run the probe."""
    try:
        return study(run, "hasten.search.zeros:probe", dict[str, float], named(PATTERNS), engine=engine)
    except (WorkerDied, CallFailed) as fault:
        run.say("note", f"{engine} could not be asked about zeros: {first_line(fault)}")
        return {}


def offer(run: Run, engine: str, settings: Mapping[str, Scalar], gains: Mapping[str, float]) -> None:
    """Candidates with zeros on an engine that gains from them."""
    alive = []
    for pattern in (p for p, gain in gains.items() if gain > GAIN):
        step = Step(name="sparsify", options={"pattern": pattern})
        label = f"{engine}, zeros {pattern}"
        candidate = Candidate(steps=(Step(name="clean"), step), engine=engine, settings=dict(settings), label=label)
        run.say("trial", label)
        looked = ready(run, candidate) and not hopelessly_slow(run, candidate, NOTHING)
        if looked and screen(run, candidate, DEEP) is not None:
            alive.append(candidate.key)
    race(run, alive, SCREEN_ROUNDS)


def probe(engine: str) -> dict[str, float]:
    """Speed-up by pattern, the better of a matrix product and a 1 x 1 convolution. Runs in a builder process.

    Each is loaded and timed anew, and the least counts: how threads fall on cores may last as long as a process.
    """
    runtime = registry.find("engines", engine)
    settings = dict(runtime.settings(1)[0])
    random = np.random.default_rng(0)
    w = random.standard_normal((WIDE, WIDE))
    weights = {0: w, **{i + 1: sparse.magnitude(w, sparse.parse_pattern(p)) for i, p in enumerate(PATTERNS)}}
    best = dict.fromkeys(PATTERNS, 0.0)
    for kind, shape in (("MatMul", (8, WIDE)), ("Conv", (1, WIDE, SIDE, SIDE))):
        feeds = {"x": random.standard_normal(shape).astype(np.float32)}
        models = {i: single(kind, one.astype(np.float32), shape) for i, one in weights.items()}
        several = [stairs.times(models, runtime, settings, feeds) for _ in range(TIMES)]
        for i, pattern in enumerate(PATTERNS):
            best[pattern] = max(best[pattern], min(ms[0] / ms[i + 1] for ms in several))
    return best


def single(kind: str, w: Array, shape: tuple[int, ...]) -> Model:
    """A network of one linear operator."""
    constant = ir.tensor(w if kind == "MatMul" else w[:, :, None, None], name="w")
    floats = ir.TensorType(ir.DataType.FLOAT)
    weight = ir.Value(name="w", const_value=constant, shape=ir.Shape(constant.shape.numpy()), type=floats)
    x = ir.Value(name="x", shape=ir.Shape(shape), type=floats)
    node = ir.node(kind, [x, weight], name="linear")
    y = node.outputs[0]
    y.name, y.shape, y.type = "y", ir.Shape(shape), floats
    graph = ir.Graph([x], [y], nodes=[node], initializers=[weight], opset_imports={"": OPSET}, name="probe")
    return stairs.as_model(ir.Model(graph, ir_version=8))
