"""QuantizeWeights: what the runtimes compute is what the codes stand for, in memory that does not grow."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from hasten.engines import onnxruntime as ort_engine
from hasten.engines import openvino as openvino_engine
from hasten.errors import UsageError
from hasten.frontends.onnx import load
from hasten.graph import evaluate, walk
from hasten.graph.spill import Spill
from hasten.model import Model
from hasten.passes.quantize import Quantize
from hasten.passes.quantize_weights import BLOCKS, METHODS, QuantizeWeights
from hasten.protocols import Context, NotApplicable, Pass
from tests import tiny
from tests.test_quantize import decibels

Array = NDArray[Any]


def product(k: int = 96, n: int = 40, *, gemm: bool = False, rank: int = 2) -> Model:
    net = tiny.Net()
    if gemm:
        net.add("Gemm", "x", net.w(n, k), net.w(n), out="y", transB=1)
    else:
        net.add("MatMul", "x", net.w(k, n), out="y")
    shape: list[int | str] = ["batch", k] if rank == 2 else ["batch", 3, k]
    return net.model({"x": shape}, {"y": [*shape[:-1], n]})


def stored(model: Model) -> list[Array]:
    """The weights [k, n] of each MatMulNBits, from its own operands by plain arithmetic."""
    found = []
    for node in model.graph.graph:
        if node.op_type != "MatMulNBits":
            continue
        k, n, bits, block = (int(node.attributes[a].value) for a in ("K", "N", "bits", "block_size"))
        packed, scales, *zeros = (walk.constant(v) for v in node.inputs[1:])
        assert packed is not None
        assert scales is not None
        count = -(-k // block)
        codes = np.zeros((n, count * block))
        points = np.full((n, count), float(1 << (bits - 1)))
        for row, i in itertools.product(range(n), range(count * block)):
            byte = packed.reshape(n, -1)[row, i * bits // 8]
            codes[row, i] = byte >> 4 if bits == 4 and i % 2 else byte & 15 if bits == 4 else byte
        for row, b in itertools.product(range(n), range(count)) if zeros and zeros[0] is not None else ():
            byte = np.asarray(zeros[0]).reshape(n, -1)[row, b * bits // 8]
            points[row, b] = byte >> 4 if bits == 4 and b % 2 else byte & 15 if bits == 4 else byte
        spread = [np.repeat(a.reshape(n, count), block, axis=1) for a in (points, scales)]
        found.append(((codes - spread[0]) * spread[1])[:, :k].T)
    return found


CASES = [
    (bits, block, method, sym, gemm, k)
    for (bits, block, method), (sym, gemm, k) in itertools.product(
        itertools.product((4, 8), BLOCKS, METHODS), [(True, False, 256), (False, True, 256), (False, False, 150)]
    )
]


@pytest.mark.parametrize(("bits", "block", "method", "sym", "gemm", "k"), CASES)
def test_onnxruntime_computes_what_the_codes_stand_for(
    bits: int, block: int, method: str, sym: bool, gemm: bool, k: int
) -> None:
    model = product(k, 6, gemm=gemm)
    samples = tiny.feeds(model, 8, batch=4)
    step = QuantizeWeights(bits=bits, block=block, method=method, symmetric=sym, accuracy_level=0)
    quantized = step(model, tiny.context(samples))
    [w] = stored(quantized)
    wanted = np.asarray(samples[0]["x"], np.float64) @ w
    if gemm:
        bias = walk.constant(model.graph.graph[0].inputs[2])
        assert bias is not None
        wanted = wanted + bias
    [got] = evaluate.run(quantized.graph, samples[:1])
    np.testing.assert_allclose(got["y"], wanted, rtol=1e-4, atol=1e-5)
    assert decibels(model, quantized, samples) > (16 if bits == 4 else 36)
    assert quantized.history == (repr(step),)
    assert [str(v) for v in quantized.graph.graph.outputs] == [str(v) for v in model.graph.graph.outputs]


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_openvino_keeps_the_codes_and_computes_the_same(bits: int, sym: bool, rank: int, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    model = product(128, 32, gemm=rank == 2, rank=rank)
    samples = tiny.feeds(model, 4, batch=4)
    quantized = QuantizeWeights(bits=bits, symmetric=sym, accuracy_level=0)(model, tiny.context(samples))
    quantized.save(tmp_path / "model.onnx")
    # without this it also rounds activations to int8, as accuracy_level 4 does
    settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", settings)
    [got] = evaluate.run(quantized.graph, samples[:1])
    np.testing.assert_allclose(compiled(dict(samples[0]))[0], got["y"], rtol=1e-4, atol=1e-5)
    runner = openvino_engine.load(tmp_path / "model.onnx", {})
    assert runner.executed() == f"int{bits}: 1 of 1 matrix product"
    runner.close()


def test_eight_bit_arithmetic_where_the_machine_has_it(tmp_path: Path) -> None:
    model = product(128, 32)
    samples = tiny.feeds(model, 4, batch=4)
    plain = tiny.context(samples)
    quick = Context(feeds=plain.feeds, stats=plain.stats, instruction_sets=("avx2", "avx512_vnni"))

    def level(step: QuantizeWeights, context: Context) -> int:
        [node] = [n for n in step(model, context).graph.graph if n.op_type == "MatMulNBits"]
        return int(walk.attribute(node, "accuracy_level", 0))

    assert level(QuantizeWeights(), plain) == 0
    assert level(QuantizeWeights(), quick) == 4
    assert level(QuantizeWeights(accuracy_level=1), quick) == 1
    for bits in (4, 8):
        QuantizeWeights(bits=bits)(model, quick).save(tmp_path / f"{bits}.onnx")
        runner = ort_engine.load(tmp_path / f"{bits}.onnx", {})
        assert runner.executed() == f"int{bits}: 1 of 1 matrix product"
        runner.close()


def test_methods_with_data_beat_those_without() -> None:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((256, 256)) * np.exp(-np.arange(256) / 60)[:, None]
    model = product(256, 64)
    samples = [{"x": (rng.standard_normal((32, 256)) @ mix).astype(np.float32)} for _ in range(24)]
    found = {m: decibels(model, QuantizeWeights(method=m, accuracy_level=0)(model, tiny.context(samples)), samples)
             for m in METHODS}  # fmt: skip
    assert found["nearest"] < found["kquant"] < found["scale_estimation"] < found["gptq"]
    assert found["gptq"] > found["nearest"] + 4


def test_a_whole_network_with_shared_weights_and_exclusions(tmp_path: Path) -> None:
    net = tiny.Net()
    w = net.w(64, 64)
    h = net.add("Relu", net.add("MatMul", "x", w))
    h = net.add("Add", net.add("MatMul", h, w), net.w(64))
    net.add("MatMul", h, net.w(64, 8), out="y")
    model = net.model({"x": ["batch", 5, 64]}, {"y": ["batch", 5, 8]})
    samples = tiny.feeds(model, 8)
    quantized = QuantizeWeights(exclude=("n_y",))(model, tiny.context(samples))
    kinds = [n.op_type for n in quantized.graph.graph]
    assert kinds.count("MatMulNBits") == 2
    assert kinds.count("MatMul") == 1
    names = [n.inputs[1].name for n in quantized.graph.graph if n.op_type == "MatMulNBits" and n.inputs[1] is not None]
    assert len(set(names)) == 1
    assert w not in quantized.graph.graph.initializers
    quantized.save(tmp_path / "model.onnx")
    assert (tmp_path / "model.data").exists()
    again = load(tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    first, second = (evaluate.run(m.graph, samples) for m in (quantized, again))
    assert evaluate.worst_difference(first, second)[1] == 0


def test_the_file_of_constants_lives_as_long_as_somebody_reads_it() -> None:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 17}, name="g")
    spill = Spill()
    arrays: list[Array] = [np.arange(5, dtype=np.uint8), np.linspace(0, 1, 7, dtype=np.float32).reshape(7, 1)]
    values = [spill.constant(graph, f"c{i}", a) for i, a in enumerate(arrays)]
    folder = spill.folder
    del spill, graph
    gc.collect()
    for value, array in zip(values, arrays, strict=True):
        np.testing.assert_array_equal(walk.constant(value), array)
        assert value.dtype == ir.DataType.from_numpy(array.dtype)
    assert folder.exists()
    del values, value
    gc.collect()
    assert not folder.exists()


MEMORY = """
import sys
from pathlib import Path
from hasten.frontends.onnx import load
from hasten.machine import peak_bytes
from hasten.passes.quantize_weights import QuantizeWeights
from hasten.protocols import Context
model = load(Path(sys.argv[1]))
before = peak_bytes()
context = Context(feeds=lambda: iter(()), stats=lambda model, names: {})
QuantizeWeights(method=sys.argv[2])(model, context).save(Path(sys.argv[3]))
print((peak_bytes() - before) >> 20)
"""


def test_memory_does_not_grow_with_the_network(tmp_path: Path) -> None:
    """160 MiB of weights, 4 MiB a matrix: the peak above the imports stays far below them."""
    side, depth = 1024, 40
    values = [ir.Value(name="x", shape=ir.Shape(["n", side]), type=ir.TensorType(ir.DataType.FLOAT))]
    rng, weights, nodes = np.random.default_rng(0), [], []
    for i in range(depth):
        w = ir.tensor(rng.standard_normal((side, side), dtype=np.float32), name=f"w{i}")
        weights.append(ir.Value(name=f"w{i}", shape=ir.Shape([side, side]), type=ir.TensorType(w.dtype), const_value=w))
        nodes.append(ir.node("MatMul", [values[-1], weights[-1]], name=f"n{i}"))
        nodes[-1].outputs[0].name = f"y{i}"
        values.append(nodes[-1].outputs[0])
    values[-1].shape, values[-1].type = values[0].shape, values[0].type
    graph = ir.Graph(values[:1], values[-1:], nodes=nodes, initializers=weights, opset_imports={"": 17}, name="g")
    ir.save(ir.Model(graph, ir_version=8), tmp_path / "big.onnx", external_data="big.data")
    line = [sys.executable, "-c", MEMORY, str(tmp_path / "big.onnx"), "nearest", str(tmp_path / "out.onnx")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64
    assert (tmp_path / "out.data").stat().st_size < 30 << 20


def test_answers() -> None:
    model = product(96)
    context = tiny.context(tiny.feeds(model, 4, batch=2))
    assert isinstance(QuantizeWeights(), Pass)
    assert QuantizeWeights(exclude=["a"]) == QuantizeWeights(exclude=("a",))  # type: ignore[arg-type]
    with pytest.raises(NotApplicable, match="no MatMul or Gemm with constant float32 weights of 128 inputs or more"):
        QuantizeWeights(block=128)(model, context)
    for step in (QuantizeWeights(), Quantize()):
        with pytest.raises(NotApplicable, match="quantized already: MatMulNBits 'n_y'"):
            step(QuantizeWeights()(model, context), context)
    with pytest.raises(UsageError, match=r"no method 'awq'\n.*known: gptq, kquant, nearest, scale_estimation"):
        QuantizeWeights(method="awq")
    with pytest.raises(UsageError, match=r"no bits 3\n.*write 4 or 8"):
        QuantizeWeights(bits=3)
    with pytest.raises(UsageError, match=r"no block 16\n.*write 32 or 64 or 128"):
        QuantizeWeights(block=16)
    with pytest.raises(UsageError, match="no accuracy_level 2"):
        QuantizeWeights(accuracy_level=2)


def test_a_layer_that_no_finite_sample_reaches_is_rounded_without_data() -> None:
    net = tiny.Net()
    yes = net.add("Greater", net.add("ReduceMax", "x", keepdims=0), net.const(np.float32(0)))
    net.add("Where", yes, net.add("MatMul", "x", net.w(32, 8)), net.const(np.float32(0)), out="y")
    model = net.model({"x": [2, 32]}, {"y": [2, 8]})
    empty = [{"x": np.full((2, 32), np.nan, np.float32)}]
    quantized = QuantizeWeights(method="gptq")(model, tiny.context(empty))
    [w] = stored(quantized)
    assert np.isfinite(w).all()
