"""TensorFlow Lite files at the door: names, free sizes, folding, refusals, and files that lie."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hasten.errors import EnvironmentFault, InputError
from hasten.extras import pip
from hasten.frontends import tflite
from hasten.frontends.tflite_ops import OPERATORS
from hasten.frontends.tflite_reader import read
from hasten.frontends.tflite_schema import names_of, schema
from hasten.graph import evaluate
from tests.flat import Flat, litert
from tests.reject import rejected

Array = NDArray[Any]
rng = np.random.default_rng(0)
DOCS = Path(__file__).parent.parent / "docs" / "tflite.md"
CONV = {"strideH": 1, "strideW": 1, "padding": 0}


def f(*shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def conv(flat: Flat, x: int, shape: list[int | None], cout: int = 4, **more: Any) -> int:
    cin = shape[-1] or 1
    y = flat.tensor([*shape[:-1], cout])
    return flat.op("CONV_2D", [x, flat.const(f(cout, 3, 3, cin)), flat.const(f(cout))], [y], "Conv2DOptions",
                   **{**CONV, **more})  # fmt: skip


def network(flat: Flat, batch: int | None = None) -> int:
    """Two convolutions with a residual, mean, FULLY_CONNECTED, SOFTMAX; x [batch, 8, 8, 3] to [batch, 5]."""
    a = conv(flat, flat.input([batch, 8, 8, 3]), [batch, 8, 8, 3], fusedActivationFunction=1)
    b = flat.op("ADD", [a, conv(flat, a, [batch, 8, 8, 4])], [flat.tensor([batch, 8, 8, 4])], "AddOptions")
    axes = flat.const(np.array([1, 2], np.int32))
    c = flat.op("MEAN", [b, axes], [flat.tensor([batch, 4])], "ReducerOptions")
    weights = [flat.const(f(5, 4)), flat.const(f(5))]
    d = flat.op("FULLY_CONNECTED", [c, *weights], [flat.tensor([batch, 5])], "FullyConnectedOptions")
    return flat.op("SOFTMAX", [d], [flat.tensor([batch, 5])], "SoftmaxOptions", beta=1.0)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    flat = Flat()
    path = flat.save(tmp_path / "model.bin", network(flat))
    assert tflite.accepts(path)
    (tmp_path / "other.tflite").write_bytes(b"PK\x03\x04 TFL3")
    assert not tflite.accepts(tmp_path / "other.tflite")
    assert not tflite.accepts(tmp_path)
    assert not tflite.accepts(tmp_path / "missing.tflite")


def test_a_network_keeps_its_face_and_gets_one_transpose(tmp_path: Path) -> None:
    flat = Flat()
    y = network(flat)
    flat.signature({"image": 0}, {"scores": y})
    path = flat.save(tmp_path / "m.tflite", y)
    model = tflite.load(path)
    assert [str(s) for s in (*model.inputs, *model.outputs)] == [
        "image[batch,8,8,3] float32",
        "scores[batch,5] float32",
    ]
    assert model.origin.format == "tflite"
    ops = [n.op_type for n in model.graph.graph]
    assert ops == ["Transpose", "Conv", "Relu", "Conv", "Add", "ReduceMean", "Gemm", "Softmax"]
    onnx.checker.check_model(ir.to_proto(model.graph), full_check=True)
    for batch in (1, 3):
        x = f(batch, 8, 8, 3)
        np.testing.assert_allclose(
            evaluate.run(model.graph, [{"image": x}])[0]["scores"], litert(path, [x])[0], atol=1e-5
        )


def test_without_a_signature_the_tensors_give_the_names(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input([2, 3])
    y = flat.op("ABS", [x], [flat.tensor([2, 3])])
    flat.graph.tensors[y].name = "t0"  # the input's name, and a control character
    flat.graph.tensors[x].name = "t0\x07"
    model = tflite.load(flat.save(tmp_path / "m.tflite", y))
    assert (model.inputs[0].name, model.outputs[0].name) == ("t0", "t0_1")


def test_one_tensor_as_two_outputs_and_an_input_handed_through(tmp_path: Path) -> None:
    flat = Flat()
    x, stored = flat.input([2, 3]), flat.const(f(4))
    y = flat.op("ABS", [x], [flat.tensor([2, 3])])
    path = flat.save(tmp_path / "m.tflite", y, y, x, stored)
    model = tflite.load(path)
    feed = f(2, 3)
    got = list(evaluate.run(model.graph, [{"t0": feed}])[0].values())
    for ours, want in zip(got, [np.abs(feed), np.abs(feed), feed, read(path).tensors[stored].data], strict=True):
        np.testing.assert_array_equal(ours, want)


@pytest.mark.parametrize("crop", [0, 1])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_a_dilated_convolution_spelt_out_is_one_again(kind: str, crop: int, tmp_path: Path) -> None:
    flat = Flat()
    x, cin = flat.input([1, 8, 8, 4]), 4
    blocks, pads = flat.const(np.array([2, 2], np.int32)), flat.const(np.array([[2, 2 + 2 * crop]] * 2, np.int32))
    size = (8 + 4 + 2 * crop) // 2
    a = flat.op("SPACE_TO_BATCH_ND", [x, blocks, pads], [flat.tensor([4, size, size, cin])])
    w = flat.const(f(*((5, 3, 3, cin) if kind == "CONV_2D" else (1, 3, 3, cin))))
    cout = 5 if kind == "CONV_2D" else cin
    b = flat.tensor([4, size - 2, size - 2, cout])
    more = {"depthMultiplier": 1} if kind != "CONV_2D" else {}
    table = "Conv2DOptions" if kind == "CONV_2D" else "DepthwiseConv2DOptions"
    flat.op(kind, [a, w, flat.const(f(cout))], [b], table, strideH=1, strideW=1, padding=1,
            fusedActivationFunction=1, **more)  # fmt: skip
    crops = flat.const(np.array([[0, 2 * crop]] * 2, np.int32))
    flat.op("BATCH_TO_SPACE_ND", [b, blocks, crops], [flat.tensor([1, 8, 8, cout])])
    path = flat.save(tmp_path / "m.tflite")
    model, feed = tflite.load(path), f(1, 8, 8, 4)
    assert [n.op_type for n in model.graph.graph] == ["Transpose", "Conv", "Relu", "Transpose"]
    np.testing.assert_allclose(
        evaluate.run(model.graph, [{"t0": feed}])[0].popitem()[1], litert(path, [feed])[0], atol=1e-4
    )


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    batch=st.sampled_from([None, 2]),
)
def test_padding_of_any_convolution(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int],
    batch: int | None, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    if stride != (1, 1):
        dilation = (1, 1)
    flat, out = Flat(), [-(-n // s) for n, s in zip(size, stride, strict=True)]
    x = flat.input([batch, *size, 3])
    options = dict(zip(("strideH", "strideW", "dilationHFactor", "dilationWFactor"), (*stride, *dilation), strict=True))
    y = flat.tensor([batch, *out, 2])
    flat.op("CONV_2D", [x, flat.const(f(2, *kernel, 3)), flat.const(f(2))], [y], "Conv2DOptions", padding=0, **options)
    path = flat.save(tmp_path_factory.mktemp("conv") / "m.tflite")
    feed = f(2, *size, 3)
    got = evaluate.run(tflite.load(path).graph, [{"t0": feed}])[0].popitem()[1]
    np.testing.assert_allclose(got, litert(path, [feed])[0], atol=1e-4)


def test_free_height_and_width(tmp_path: Path) -> None:
    flat = Flat()
    a = conv(flat, flat.input([1, None, None, 3]), [1, None, None, 3], strideH=2)
    flat.op("MAX_POOL_2D", [a], [flat.tensor([1, None, None, 4])], "Pool2DOptions", strideH=2, strideW=2,
            filterHeight=2, filterWidth=2, padding=0)  # fmt: skip
    path = flat.save(tmp_path / "m.tflite")
    model, feed = tflite.load(path), f(1, 7, 10, 3)
    assert str(model.inputs[0]) == "t0[1,t0_1,t0_2,3] float32"
    got = evaluate.run(model.graph, [{"t0": feed}])[0].popitem()[1]
    np.testing.assert_allclose(got, litert(path, [feed])[0], atol=1e-4)


def test_a_batch_that_is_asked_for_at_run_time(tmp_path: Path) -> None:
    """SHAPE -> STRIDED_SLICE -> PACK -> RESHAPE, as Keras' Flatten and Reshape come out."""
    flat = Flat()
    x = flat.input([None, 4, 6])
    a = flat.op("SHAPE", [x], [flat.tensor([3], "int32")], "ShapeOptions", outType=2)
    ends = [flat.const(np.array([n], np.int32)) for n in (0, 1, 1)]
    b = flat.op("STRIDED_SLICE", [a, *ends], [flat.tensor([], "int32")], "StridedSliceOptions", shrinkAxisMask=1)
    parts = [b, flat.const(np.array(3, np.int32)), flat.const(np.array(8, np.int32))]
    c = flat.op("PACK", parts, [flat.tensor([3], "int32")], "PackOptions", valuesCount=3, axis=0)
    flat.op("RESHAPE", [x, c], [flat.tensor([None, 3, 8])])
    path = flat.save(tmp_path / "m.tflite")
    got = evaluate.run(tflite.load(path).graph, [{"t0": f(5, 4, 6)}])[0].popitem()[1]
    assert got.shape == (5, 3, 8)


def test_names_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input([2, 3])
    y = flat.op("ABS", [x], [flat.tensor([2, 3])])
    z = flat.op("SUM", [y, flat.const(np.array([1], np.int32))], [flat.tensor([2])], "ReducerOptions")
    for index, end in ((y, "y"), (z, "z")):
        flat.graph.tensors[index].name = "a" * 300 + end
    w = flat.op("NEG", [z], [flat.tensor([2])])
    model = tflite.load(flat.save(tmp_path / "m.tflite", w))
    assert [n.op_type for n in model.graph.graph] == ["Abs", "ReduceSum", "Neg"]


# ---------------------------------------------------------------- what is refused


def test_missing_operators_are_named_with_their_places(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input([4])
    for kind in ("ABS", "DENSIFY", "UNIQUE"):
        x = flat.op(kind, [x], [flat.tensor([4])])
    with rejected("not translated: DENSIFY (operator 1), UNIQUE (operator 2)", "docs/tflite.md", "export it to ONNX"):
        tflite.load(flat.save(tmp_path / "m.tflite"))


def test_custom_operators_are_named(tmp_path: Path) -> None:
    flat = Flat()
    flat.op("CUSTOM", [flat.input([4])], [flat.tensor([4])])
    flat.model.operatorCodes[0].customCode = "FlexErf"
    with rejected("CUSTOM FlexErf (operator 0)"):
        tflite.load(flat.save(tmp_path / "m.tflite"))


def test_what_an_operator_cannot_do_is_told(tmp_path: Path) -> None:
    flat = Flat()
    x = flat.input([2, 3])
    flat.op("TRANSPOSE", [x, flat.input([2], "int32")], [flat.tensor([2, 3])])
    with rejected("operator 0 (TRANSPOSE)", "input 1 ('t1') is computed; only a constant"):
        tflite.load(flat.save(tmp_path / "m.tflite"))


def test_a_missing_package_names_its_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = Flat()
    path = flat.save(tmp_path / "m.tflite", network(flat))
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with rejected("LiteRT", pip("tflite"), kind=EnvironmentFault):
        tflite.load(path)


def damaged(path: Path, change: Any) -> Path:
    """A file of one CONV_2D in int8, with ``change`` done to it before it is packed."""
    flat = Flat()
    x = flat.input([1, 4, 4, 3], "int8", scale=0.1)
    w = flat.const(rng.integers(-9, 9, (2, 3, 3, 3), dtype=np.int8), scale=[0.1, 0.2], axis=0)
    y = flat.tensor([1, 4, 4, 2], "int8", scale=0.1)
    flat.op("CONV_2D", [x, w, -1], [y], "Conv2DOptions", **CONV)
    change(SimpleNamespace(flat=flat, model=flat.model, graph=flat.graph, tensors=flat.graph.tensors,
                           op=flat.graph.operators[0], options=flat.graph.operators[0].builtinOptions))  # fmt: skip
    return flat.save(path, y)


def put(place: str, value: Any) -> Any:
    def change(file: Any) -> None:
        scope = vars(file) | {"value": value, "np": np}
        exec(f"{place} = value", scope)

    return change


DAMAGE: dict[str, tuple[Any, str]] = {
    "version": (put("model.version", 2), "schema version 2"),
    "no subgraph": (put("model.subgraphs", []), "no subgraph"),
    "tensor index": (put("op.inputs", [0, 99, -1]), "refers to tensor 99"),
    "negative output": (put("op.outputs", [-1]), "refers to tensor -1"),
    "operator code": (put("op.opcodeIndex", 7), "has code 7"),
    "buffer index": (put("tensors[1].buffer", 50), "lies in buffer 50"),
    "negative size": (put("tensors[2].shape", np.array([1, -4, 4, 2], np.int32)), "negative or beyond"),
    "huge shape": (put("tensors[1].shape", np.array([1 << 30] * 4, np.int32)), "negative or beyond"),
    "cut short": (put("tensors[1].shape", np.array([2, 3, 3, 4], np.int32)), "cut short"),
    "unknown type": (put("tensors[1].type", 8), "COMPLEX64"),
    "scales": (put("tensors[1].quantization.scale", np.ones(3, np.float32)), "does not fit its shape"),
    "scale of zero": (put("tensors[0].quantization.scale", np.zeros(1, np.float32)), "not above zero"),
    "scale not finite": (put("tensors[0].quantization.scale", np.array([np.nan], np.float32)), "not above zero"),
    "zero point": (put("tensors[0].quantization.zeroPoint", np.array([999])), "zero point"),
    "quantized axis": (put("tensors[1].quantization.quantizedDimension", 9), "does not fit its shape"),
    "stride of zero": (put("options.strideH", 0), "its strideH is 0"),
    "negative dilation": (put("options.dilationWFactor", -1), "its dilationWFactor is -1"),
    "unknown activation": (put("options.fusedActivationFunction", 77), "fused activation is 77"),
    "read before written": (put("op.inputs", [2, 1, -1]), "nothing before it writes"),
    "input written": (put("op.outputs", [0]), "exists already"),
    "input twice": (put("graph.inputs", [0, 0]), "listed twice"),
    "channels": (put("tensors[0].shape", np.array([1, 4, 4, 5], np.int32)), "do not divide into groups"),
    "another shape": (put("tensors[2].shape", np.array([1, 9, 4, 2], np.int32)), "computes [1, 4, 4, 2]"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_files_that_lie(name: str, tmp_path: Path) -> None:
    change, text = DAMAGE[name]
    with rejected(text):
        tflite.load(damaged(tmp_path / "m.tflite", change))


def test_the_undamaged_one_loads(tmp_path: Path) -> None:
    assert tflite.load(damaged(tmp_path / "m.tflite", lambda file: None)).inputs


def test_lengths_are_held_against_the_file(tmp_path: Path) -> None:
    """Every four bytes in turn say two thousand million."""
    path = damaged(tmp_path / "m.tflite", lambda file: None)
    data = path.read_bytes()
    for at in range(8, len(data) - 4, 4):
        path.write_bytes(data[:at] + struct.pack("<I", 0x7FFFFFF0) + data[at + 4 :])
        loads_or_refuses(path)


def test_cut_anywhere(tmp_path: Path) -> None:
    flat = Flat()
    path = flat.save(tmp_path / "m.tflite", network(flat))
    data = path.read_bytes()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        loads_or_refuses(path)


def loads_or_refuses(path: Path) -> None:
    try:
        graph = tflite.load(path).graph if tflite.accepts(path) else None
    except InputError as error:
        told = str(error)
        graph = None
        if "help: " not in told:
            pytest.fail(told)
    if graph is not None:
        onnx.checker.check_model(ir.to_proto(graph))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutations_load_or_are_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(_sample(tmp_path_factory))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "mutated.tflite"
    path.write_bytes(bytes(content))
    loads_or_refuses(path)


def _sample(factory: pytest.TempPathFactory, kept: list[bytes] = []) -> bytes:  # noqa: B006 - built once
    if not kept:
        flat = Flat()
        kept.append(flat.save(factory.getbasetemp() / "sample.tflite", network(flat)).read_bytes())
    return kept[0]


# ---------------------------------------------------------------- the documentation


def test_the_documentation_lists_what_is_translated_and_what_is_not() -> None:
    text = DOCS.read_text()
    known = {name for name in names_of(schema().BuiltinOperator).values() if not name.startswith("STABLEHLO")}
    known -= {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
    done, _, missing = text.partition("Not translated")
    assert {w for w in known if f"`{w}`" in done} == set(OPERATORS)
    assert {w for w in known if f"`{w}`" in missing} == known - set(OPERATORS)
