"""The LiteRT engine: its promises, what it says it ran, and its example."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import hasten
from hasten import registry
from hasten.engines import litert as engine
from hasten.errors import UsageError
from hasten.example import example
from hasten.export import tflite as export
from hasten.extras import pip
from hasten.frontends import tflite as door
from hasten.frontends.tflite_reader import read
from hasten.graph import evaluate
from hasten.model import Model
from hasten.passes.hybrid import QuantizeHybrid
from hasten.passes.quantize import Quantize, variants
from hasten.protocols import NotApplicable
from hasten.quant import grid
from hasten.testing import check_engine
from tests import networks, tiny
from tests.flat import Array, Flat
from tests.test_artefacts import chosen
from tests.test_quantize import prepared
from tests.test_tflite_operators import recurrent

rng = np.random.default_rng(0)


def f(*shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def test_it_keeps_its_promises(tmp_path: Path) -> None:
    assert registry.find("engines", "litert") is engine
    path = networks.cnn(tmp_path / "cnn.onnx", size=16, depth=2)
    x = f(2, 3, 16, 16)
    (tmp_path / "own").mkdir()
    check_engine(engine, path, {"x": x}, [networks.answers(path, x)], tmp_path / "own")


def test_a_missing_package_names_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert engine.missing() == f"ai-edge-litert is not installed; {pip('tflite')}"


def test_the_stock_default_is_one_thread() -> None:
    assert list(engine.settings(1)) == [{}]
    assert list(engine.settings(2)) == [{}, {"threads": 2}]
    assert list(engine.settings(16)) == [{}, {"threads": 16}, {"threads": 8}]
    assert engine.lossy_settings(2) == []


def test_it_says_what_ran_in_which_type_and_what_xnnpack_took(tmp_path: Path) -> None:
    path = engine.export(networks.cnn(tmp_path / "cnn.onnx"), tmp_path)
    count = len(read(path).operators)
    assert engine.load(path, {}).executed() == f"f32; XNNPACK ran {count} of {count} operators"


def test_shapes_may_change_between_calls(tmp_path: Path) -> None:
    onnx = networks.cnn(tmp_path / "cnn.onnx", size=16, depth=2)
    runner = engine.load(engine.export(onnx, tmp_path), {"threads": 2})
    for batch in (1, 3, 3, 1):
        x = f(batch, 3, 16, 16)
        np.testing.assert_allclose(runner.run({"x": x})[0], networks.answers(onnx, x), atol=1e-4)
    runner.close()


def test_recurrent_layers_start_from_zero_in_every_call(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input([1, 5, 3])
    states = [flat.tensor([1, 4], variable=True) for _ in range(2)]
    y = flat.tensor([1, 5, 4])
    flat.op("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *recurrent(flat, 4, 3), *states, -1, -1, -1, -1], [y],
            "UnidirectionalSequenceLSTMOptions", fusedActivationFunction=4)  # fmt: skip
    runner, feeds = engine.load(flat.save(tmp_path / "m.tflite"), {}), {"t0": f(1, 5, 3)}
    first = runner.run(feeds)[0]
    np.testing.assert_array_equal(runner.run(feeds)[0], first)
    assert runner.executed().startswith("f32; XNNPACK ran")


def test_names_are_those_of_the_door(tmp_path: Path) -> None:
    flat = Flat()
    a, b = flat.input([2]), flat.input([2])
    y, z = flat.tensor([2]), flat.tensor([2])
    flat.op("SUB", [a, b], [y], "SubOptions")
    flat.op("ABS", [y], [z])
    flat.signature({"left": a, "right": b}, {"absolute": z, "difference": y})
    path = flat.save(tmp_path / "m.tflite", z, y)
    feeds = {"right": f(2), "left": f(2)}
    assert [s.name for s in door.load(path).outputs] == ["absolute", "difference"]
    got = engine.load(path, {}).run(feeds)
    np.testing.assert_allclose(got[1], feeds["left"] - feeds["right"], rtol=1e-6)
    np.testing.assert_allclose(got[0], np.abs(got[1]))


def test_the_example_runs_without_hasten(tmp_path: Path) -> None:
    onnx = networks.cnn(tmp_path / "cnn.onnx", size=16, depth=2)
    path = engine.export(onnx, tmp_path)
    model = door.load(path)
    text = example(chosen("litert", {"threads": 2}), path.name, model.inputs, {"batch": 2, "outputs": ["y"]})
    (tmp_path / "example.py").write_text(text)
    np.savez(tmp_path / "data.npz", x=f(5, 3, 16, 16))
    hide = "import sys, runpy; sys.modules['hasten'] = None; del sys.argv[0]; "
    hide += "runpy.run_path(sys.argv[0], None, '__main__')"
    command = [sys.executable, "-c", hide, str(tmp_path / "example.py"), str(tmp_path / "data.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "'y': (2, 10) float32" in done.stdout
    assert "pip install numpy" in text
    assert "ai-edge-litert" in text
    assert "THREADS = 2" in text


# ---------------------------------------------------------------- int8


def decibels(model: Model, path: Path, samples: list[Any]) -> float:
    """Signal to noise of LiteRT on ``path`` against the float network in ONNX Runtime."""
    runner = engine.load(path, {})
    wanted = [one["y"] for one in evaluate.run(model.graph, samples)]
    return grid.sqnr(np.stack(wanted), np.stack([runner.run(one)[0] for one in samples]))


def written(model: Model, path: Path) -> Counter[str]:
    """Operator and type of its first output, of the file that ``model`` is written to."""
    export.write(model.graph, path)
    file = read(path)
    return Counter(f"{o.kind} {file.tensors[o.outputs[0]].dtype}" for o in file.operators)


@pytest.mark.parametrize("network", [tiny.residual_cnn, tiny.mlp, tiny.transformer, tiny.mobile])
def test_static_int8_stays_close_to_the_float_network(network: Callable[[], Model], tmp_path: Path) -> None:
    model, samples = prepared(network)
    quantized = Quantize(scheme="litert")(model, tiny.context(samples))
    written(quantized, tmp_path / "m.tflite")
    assert decibels(model, tmp_path / "m.tflite", list(samples)) > 23
    assert engine.load(tmp_path / "m.tflite", {}).executed().startswith("int8: ")


def test_every_operator_of_a_cnn_runs_on_codes(tmp_path: Path) -> None:
    model, samples = prepared(tiny.residual_cnn)
    found = written(Quantize(scheme="litert")(model, tiny.context(samples)), tmp_path / "m.tflite")
    assert found == {
        "QUANTIZE int8": 1, "TRANSPOSE int8": 1, "CONV_2D int8": 3, "DEPTHWISE_CONV_2D int8": 1, "ADD int8": 1,
        "MAX_POOL_2D int8": 1, "MEAN int8": 1, "RESHAPE int8": 1, "FULLY_CONNECTED int8": 1, "DEQUANTIZE float32": 1,
    }  # fmt: skip


def test_gates_and_hard_swish_stay_in_float_between_convolutions_on_codes(tmp_path: Path) -> None:
    model, samples = prepared(tiny.mobile)
    found = written(Quantize(scheme="litert")(model, tiny.context(samples)), tmp_path / "m.tflite")
    assert found["CONV_2D int8"] + found["DEPTHWISE_CONV_2D int8"] == 4
    assert found["CONV_2D float32"] == 2  # the two of the squeeze-and-excite branch
    assert found["HARD_SWISH float32"] == 2
    assert found["MUL float32"] == 2  # the gate, and that of its HardSigmoid


def test_one_convolution_against_plain_arithmetic(tmp_path: Path) -> None:
    net = tiny.Net()
    net.add("Relu", net.conv("x", 3, 5, 1), out="y")
    model = net.model({"x": [1, 3, 4, 4]}, {"y": [1, 5, 4, 4]})
    samples = tiny.feeds(model, 8)
    quantized = Quantize(scheme="litert")(model, tiny.context(samples))
    written(quantized, tmp_path / "m.tflite")
    [emulated] = evaluate.run(quantized.graph, samples[:1])
    got = engine.load(tmp_path / "m.tflite", {}).run(samples[0])[0]
    step = float(np.diff(np.unique(got)).min())
    assert np.abs(got - emulated["y"]).max() <= 1.01 * step  # one code


def test_any_placement_can_be_written(tmp_path: Path) -> None:
    """Q/DQ placed for another engine: what cannot run on codes runs on floats."""
    model, samples = prepared(tiny.residual_cnn)
    for scheme in ("onnxruntime", "openvino"):
        found = written(Quantize(scheme=scheme)(model, tiny.context(samples)), tmp_path / "m.tflite")
        assert decibels(model, tmp_path / "m.tflite", list(samples)) > 23
        assert sum(found[f"{k} int8"] for k in ("CONV_2D", "DEPTHWISE_CONV_2D")) >= (
            4 if scheme == "onnxruntime" else 0
        )


def test_there_and_back_and_there_again(tmp_path: Path) -> None:
    model, samples = prepared(tiny.residual_cnn)
    first = written(Quantize(scheme="litert")(model, tiny.context(samples)), tmp_path / "a.tflite")
    second = written(door.load(tmp_path / "a.tflite"), tmp_path / "b.tflite")
    assert first == second
    one, other = (engine.load(tmp_path / n, {}).run(samples[0])[0] for n in ("a.tflite", "b.tflite"))
    np.testing.assert_array_equal(one, other)


def test_codes_at_the_doors(tmp_path: Path) -> None:
    """uint8 in, uint8 out."""
    net = tiny.Net(21)
    one = net.const(np.float32(0.05)), net.const(np.array(100, np.uint8))
    h = net.conv(net.add("DequantizeLinear", "x", *one), 3, 4, 1)
    net.add("QuantizeLinear", h, net.const(np.float32(0.1)), net.const(np.array(128, np.uint8)), out="y")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(net.nodes, "g", [info("x", TensorProto.UINT8, [1, 3, 5, 5])],
                              [info("y", TensorProto.UINT8, [1, 4, 5, 5])], net.weights)  # fmt: skip
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    export.write(model, tmp_path / "m.tflite")
    x = rng.integers(0, 256, (1, 3, 5, 5), dtype=np.uint8)
    [want] = evaluate.run(model, [{"x": x}])
    got = engine.load(tmp_path / "m.tflite", {}).run({"x": x})[0]
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - want["y"].astype(int)).max() <= 1


@pytest.mark.parametrize("network", [tiny.mlp, tiny.transformer, tiny.residual_cnn])
def test_int8_weights_make_dynamic_kernels(network: Callable[[], Model], tmp_path: Path) -> None:
    model, samples = prepared(network)
    quantized = QuantizeHybrid(least=64)(model, tiny.context(samples))
    before = written(model, tmp_path / "float.tflite")
    assert written(quantized, tmp_path / "m.tflite") == before  # the same operators, on floats, with int8 weights
    assert decibels(model, tmp_path / "m.tflite", list(samples)) > 25
    assert (tmp_path / "m.tflite").stat().st_size < 0.7 * (tmp_path / "float.tflite").stat().st_size
    assert engine.load(tmp_path / "m.tflite", {}).executed().startswith("int8: ")


def test_int8_weights_answers_and_options() -> None:
    model, samples = prepared(tiny.residual_cnn)
    context = tiny.context(samples)
    with pytest.raises(NotApplicable, match="no Conv or MatMul or Gemm has 1000000 constant float32 weights"):
        QuantizeHybrid(least=1_000_000)(model, context)
    with pytest.raises(NotApplicable, match="quantized already"):
        QuantizeHybrid()(QuantizeHybrid(least=1)(model, context), context)
    with pytest.raises(NotApplicable, match="operator set 11 has no per-channel DequantizeLinear; 13 has"):
        QuantizeHybrid()(tiny.residual_cnn(opset=11), context)
    with pytest.raises(UsageError, match="quantize_hybrid has no operator 'Gem'"):
        QuantizeHybrid(operators=("Gem",))
    with pytest.raises(UsageError, match="quantize_hybrid has no depthwise 'no'"):
        QuantizeHybrid(depthwise="no")
    assert QuantizeHybrid(exclude=["a"]) == QuantizeHybrid(exclude=("a",))  # type: ignore[arg-type]
    kept = QuantizeHybrid(least=1, exclude=("Gemm",))(model, context)
    assert {n.op_type for n in kept.graph.graph if n.op_type == "Gemm" and n.inputs[1] is not None} == {"Gemm"}
    shapes = [v.shape for v in kept.graph.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    assert sum(s is not None and len(s) == 4 for s in shapes) == 3  # not the depthwise one
    whole = QuantizeHybrid(least=1, depthwise="int8")(model, context)
    assert (
        sum(len(v.shape or ()) > 1 for v in whole.graph.graph.initializers.values() if v.dtype == ir.DataType.INT8) == 5
    )


def test_the_scheme_is_known() -> None:
    assert all(v.scheme == "litert" for v in variants("litert"))


def test_an_operator_that_litert_lacks_costs_the_candidate_and_not_the_search(tmp_path: Path) -> None:
    net = tiny.Net()
    net.add("Einsum", "x", net.const(np.eye(4, dtype=np.float32)), equation="bij,jk->bik", out="y")
    net.model({"x": ["N", 4, 4]}, {"y": ["N", 4, 4]}).save(tmp_path / "m.onnx")
    found = hasten.optimize(tmp_path / "m.onnx", engines=["onnxruntime", "litert"], seconds=60)
    fates = {(t.status, t.reason) for t in found.trials if t.candidate.engine == "litert"}
    assert {status for status, _ in fates} == {"unsupported"}
    assert all("could not be built: LiteRT cannot run Einsum" in reason for _, reason in fates)


@pytest.mark.slow
def test_a_network_that_is_int8_already_is_not_quantized_again(tmp_path: Path) -> None:
    model, samples = prepared(tiny.residual_cnn)
    path = tmp_path / "m.tflite"
    written(Quantize(scheme="litert")(model, tiny.context(samples)), path)
    assert "DequantizeLinear" in hasten.inspect(path)["quantized"]
    x = f(300, *next(iter(samples[0].values())).shape[1:])
    found = hasten.optimize(path, {"x": x}, max_drop="agree:90%", engines=["onnxruntime", "litert"], seconds=120)
    again = [t for t in found.trials if any("quantize" in step.name for step in t.candidate.steps)]
    assert again
    assert {t.status for t in again} == {"skipped"}
    assert all(t.reason.startswith("nothing to do: the network is quantized already") for t in again)
