"""What is exact in float may ruin eight bits: inputs are standardised outside, and unlike columns scaled."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from benchmarks import int8_forms, tabular
from numpy.typing import NDArray
from onnx import TensorProto, helper

import hasten
from hasten import registry
from hasten.errors import UsageError
from hasten.frontends.onnx import load
from hasten.graph import edit, evaluate, walk
from hasten.model import Model
from hasten.passes.clean import FLOAT_ONLY, Clean
from hasten.passes.placement import place
from hasten.passes.quantize import Quantize
from hasten.passes.scale_inputs import ScaleInputs
from hasten.protocols import Context, NotApplicable
from hasten.samples import load_samples
from hasten.search import harm, rounding
from hasten.search.build import build
from hasten.search.rounding import SCALED, Rounding
from hasten.search.space import CLEAN, FOR_INT8, as_step, led
from hasten.trial import Step
from tests import networks, tiny
from tests.test_rounding import Asked, plain

Array = NDArray[Any]
ENGINES = ("onnxruntime", "openvino", "litert")
FORMS: dict[str, tuple[Step, ...]] = {
    "Div": (FOR_INT8,),
    "Mul": (FOR_INT8,),
    "folded": (CLEAN, SCALED),
}


@pytest.fixture(scope="module", params=list(FORMS))
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, tabular.Table]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, tabular.make(folder / "credit.onnx", inside=request.param)


def of(table: tabular.Table, folder: Path) -> dict[str, Any]:
    store = load_samples({"x": table.known}).spool(folder / "samples", load(table.model).inputs)
    return {
        "source": str(table.model), "store": str(store.directory), "calibrate": list(range(len(table.known))),
        "cache": str(folder / "stats.npz"),
    }  # fmt: skip


def lost(table: tabular.Table, material: dict[str, Any], steps: Sequence[Step], engine: str, folder: Path) -> float:
    """Points of AUC that the network loses after ``steps``."""
    made = build(**material, steps=plain(*steps), engine=engine, directory=str(folder))
    module = registry.find("engines", engine)
    runner = module.load(Path(made["artefact"]), dict(module.settings(1)[0]))
    scores = np.concatenate([np.array(runner.run({"x": part})[0]) for part in np.array_split(table.fresh, 8)])
    return 100 * (1 - tabular.auc(scores[:, 0], table.labels))


@pytest.mark.parametrize("engine", ENGINES)
def test_columns_of_unlike_units_survive_eight_bits(
    engine: str, table: tuple[str, tabular.Table], tmp_path: Path
) -> None:
    kind, network = table
    material, quantize = of(network, tmp_path), as_step("quantize", Quantize(scheme=engine, ranges="mse"))
    assert lost(network, material, (*FORMS[kind], quantize), engine, tmp_path / "int8") < 0.5
    if engine != "litert":  # it does not load the other one: the scales of its first layer lie too far apart
        assert lost(network, material, (CLEAN, quantize), engine, tmp_path / "float") > 10


@pytest.mark.parametrize(
    "narrow",
    [
        Step(name="quantize_dynamic"),
        Step(name="quantize_weights", options={"bits": 8, "block": 32, "method": "kquant"}),
    ],
)
def test_so_do_other_narrow_forms(narrow: Step, table: tuple[str, tabular.Table], tmp_path: Path) -> None:
    kind, network = table
    assert lost(network, of(network, tmp_path), (*FORMS[kind], narrow), "onnxruntime", tmp_path / "made") < 0.5


def test_the_forms_are_judged_by_their_harm(table: tuple[str, tabular.Table], tmp_path: Path) -> None:
    kind, network = table
    judged: dict[str, Any] = {"scheme": "openvino", "outputs": ["y"], "classes": False, "methods": ["mse"]}
    material = of(network, tmp_path)
    before = [s for s in FORMS[kind] if s != CLEAN]
    harms = [min(harm.choose_rounding(**material, **judged, before=plain(*b))["harm"].values()) for b in ((), before)]
    assert harms[1] < harms[0] / 20
    if kind == "folded":
        same = harm.choose_rounding(**material, **judged, before=plain(FOR_INT8))
        assert same == {"not_applicable": "no rewrite of the clean-up suits float alone"}


@pytest.mark.parametrize(
    ("harms", "best"),
    [
        ({"inputs standardised in float": 0.05}, (FOR_INT8,)),  # nearly all of it: no other is asked
        (
            {"inputs standardised in float": 0.6, "inputs standardised in float + scale_inputs": 0.3,
             "scale_inputs": 0.4}, (FOR_INT8, SCALED),
        ),
        (
            {"inputs standardised in float": "the same", "inputs standardised in float + scale_inputs": 0.6,
             "scale_inputs": 0.6}, (),
        ),
    ],
)  # fmt: skip
def test_a_form_must_help_clearly(
    harms: dict[str, Any], best: tuple[Step, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(harms)
    monkeypatch.setattr(rounding, "_compared", asked)
    found = rounding.choose_rounding(asked.run, "openvino")
    assert found.before == best
    assert not any("the same" in text for text in asked.said)


def test_preparations_come_behind_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    lead = "inputs standardised in float + "
    asked = Asked({f"{lead}equalize + smooth": 0.01})
    monkeypatch.setattr(rounding, "_compared", asked)
    found = rounding.recovered(asked.run, "openvino", Rounding({"ranges": "mse"}, (FOR_INT8,), 1.0))
    assert [s.name for s in found.before] == ["clean", "equalize", "smooth"]
    assert led(found.before) == found.before
    assert led((SCALED,)) == (CLEAN, SCALED)


# ------------------------------------------------------------ what the passes leave, and that they keep the function


def context(*feeds: dict[str, Array]) -> Context:
    return Context(feeds=lambda: iter(feeds), stats=lambda model, names, channels=(): {})


def kinds(model: Model) -> list[str]:
    return [n.op_type for n in model.graph.graph]


def agree(one: Model, other: Model, feed: dict[str, Array]) -> None:
    [[a, b]] = zip(*(list(evaluate.run(m.graph, [feed])[0].values()) for m in (one, other)), strict=True)
    np.testing.assert_allclose(b, a, rtol=0, atol=2e-4 * float(np.abs(a).max()))


Build = Callable[[tiny.Net], str]
rng = np.random.default_rng(3)
SPREAD = np.array([1e4, 1.0, 0.02, 300.0], np.float32)
KEPT: dict[str, tuple[Build, list[str]]] = {  # what stands in the graph for int8
    "a scale a column": (
        lambda n: n.add("MatMul", n.add("Mul", "x", n.const(1 / SPREAD)), n.w(4, 3)), ["Mul", "MatMul"],
    ),
    "behind a logarithm and a clip": (
        lambda n: n.add(
            "MatMul",
            n.add("Div", n.add("Clip", n.add("Log", n.add("Abs", "x")), n.const(np.float32(0))), n.const(SPREAD)),
            n.w(4, 3),
        ),
        ["Abs", "Log", "Clip", "Div", "MatMul"],
    ),
    "one number for all": (
        lambda n: n.add("MatMul", n.add("Mul", "x", n.const(np.float32(0.1))), n.w(4, 3)), ["MatMul"],
    ),
    "equal numbers": (
        lambda n: n.add("MatMul", n.add("Mul", "x", n.const(np.full(4, 0.1, np.float32))), n.w(4, 3)), ["MatMul"],
    ),
    "behind the first layer": (
        lambda n: n.add(
            "MatMul", n.add("Mul", n.add("Relu", n.add("MatMul", "x", n.w(4, 4))), n.const(SPREAD)), n.w(4, 3)
        ),
        ["MatMul", "Relu", "MatMul"],
    ),
}  # fmt: skip


def as_net(build_net: Build, shape: list[int | str]) -> Model:
    net = tiny.Net(17)
    build_net(net)
    net.nodes[-1].output[0] = "y"
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        net.nodes, "net", [info("x", TensorProto.FLOAT, shape)], [info("y", TensorProto.FLOAT, None)], net.weights
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)], ir_version=8)
    return tiny.as_model(onnx.shape_inference.infer_shapes(made))


@pytest.mark.parametrize("name", KEPT)
def test_only_columns_of_inputs_stay_outside(name: str) -> None:
    build_net, wanted = KEPT[name]
    model, feed = as_net(build_net, ["batch", 4]), {"x": rng.standard_normal((5, 4)).astype(np.float32) * SPREAD}
    try:
        made = Clean(for_="int8")(model, context(feed))
    except NotApplicable:
        made = model
    assert kinds(made) == wanted
    agree(model, made, feed)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_scales_of_columns_are_not_rounded_where_another_layer_reads_the_input_as_it_is(engine: str) -> None:
    def both(n: tiny.Net) -> str:
        scaled = n.add("Mul", "x", n.const(1 / SPREAD))
        return n.add("Add", n.add("MatMul", scaled, n.w(4, 3)), n.add("MatMul", "x", n.w(4, 3)))

    graph = as_net(both, ["batch", 4]).clone_graph()
    edit.infer(graph)
    plan = place(graph, engine, lambda _: True, chain=True)
    assert plan.constants == []
    assert not any(node.op_type == "Mul" for uses in plan.reads.values() for node, _ in uses)


def test_batch_normalisation_goes_in_and_pictures_keep_their_scales_outside() -> None:
    def build_net(n: tiny.Net) -> str:
        scaled = n.add("Mul", "x", n.const(SPREAD.reshape(4, 1, 1)))
        return n.bn(n.conv(scaled, 4, 6), 6)

    model = as_net(build_net, ["batch", 4, 8, 8])
    feed = {"x": rng.standard_normal((2, 4, 8, 8)).astype(np.float32)}
    assert kinds(Clean()(model, context(feed))) == ["Conv"]
    made = Clean(for_="int8")(model, context(feed))
    assert kinds(made) == ["Mul", "Conv"]
    agree(model, made, feed)


UNLIKE: dict[str, tuple[Build, list[int | str], list[str]]] = {
    "a product": (lambda n: n.add("MatMul", "x", n.w(4, 3)), ["batch", 4], ["Sub", "Div", "MatMul", "Add"]),
    "a product with a bias": (
        lambda n: n.add("Gemm", "x", n.w(3, 4), n.w(3), transB=1, alpha=0.5), ["batch", 4], ["Sub", "Div", "Gemm"]
    ),
    "sequences": (
        lambda n: n.add("Relu", n.add("Add", n.add("MatMul", "x", n.w(4, 3)), n.w(3))),
        ["batch", 6, 4], ["Sub", "Div", "MatMul", "Add", "Relu"],
    ),
    "two readers and a third": (
        lambda n: n.add("Add", n.add("Add", n.add("MatMul", "x", n.w(4, 4)), n.add("MatMul", "x", n.w(4, 4))), "x"),
        ["batch", 4], ["Sub", "Div", "MatMul", "Add", "MatMul", "Add", "Add", "Add"],
    ),
    "a padded convolution": (lambda n: n.conv("x", 4, 6, pads=[1] * 4), ["batch", 4, 8, 8], ["Div", "Conv"]),
    "groups": (lambda n: n.conv("x", 4, 6, group=2), ["batch", 4, 8, 8], ["Div", "Conv"]),
    "over time": (
        lambda n: n.add("Conv", "x", n.w(6, 4, 3), n.w(6)), ["batch", 4, 12], ["Sub", "Div", "Conv"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_columns_are_scaled_and_the_function_stays(name: str) -> None:
    build_net, shape, wanted = UNLIKE[name]
    model = as_net(build_net, shape)
    sizes = [5 if d == "batch" else int(d) for d in shape]
    axis = 1 if name in ("a padded convolution", "groups", "over time") else len(sizes) - 1
    by_channel = SPREAD.reshape([-1 if k == axis else 1 for k in range(len(sizes))])
    feed = {"x": (rng.standard_normal(sizes) * by_channel + 3 * by_channel).astype(np.float32)}
    made = ScaleInputs()(model, context(feed))
    assert sorted(kinds(made)) == sorted(wanted)
    agree(model, made, feed)
    layers = [n for n in made.graph.graph if walk.weight(n)]
    seen = inner(made, layers[0].inputs[0], feed)
    reach = np.abs(seen).max(axis=tuple(k for k in range(len(sizes)) if k != axis))
    assert reach.max() / reach.min() < 10


def inner(model: Model, value: ir.Value | None, feed: dict[str, Array]) -> Array:
    assert value is not None
    graph = model.clone_graph()
    found = next(v for n in graph.graph for v in n.outputs if v.name == value.name)
    graph.graph.outputs.append(found)
    return np.asarray(evaluate.run(graph, [feed])[0][value.name or ""])


def test_a_column_far_from_zero_is_shifted_and_one_that_never_varies_stays_finite() -> None:
    model = as_net(lambda n: n.add("MatMul", "x", n.w(3, 2)), ["batch", 3])
    x = np.stack([2000 + rng.random(64), np.full(64, 7.0), rng.standard_normal(64)], axis=1).astype(np.float32)
    made = ScaleInputs()(model, context(*({"x": row[None]} for row in x)))
    agree(model, made, {"x": x})
    assert np.isfinite(evaluate.run(made.graph, [{"x": x * 2}])[0]["y"]).all()


@pytest.mark.parametrize(
    ("x", "why"),
    [(rng.standard_normal((8, 4)), "alike"), (np.zeros((8, 4)), "nothing"), (np.full((8, 4), np.inf), "infinite")],
)
def test_columns_that_are_alike_are_left_alone(x: Array, why: str) -> None:
    model = as_net(lambda n: n.add("MatMul", "x", n.w(4, 3)), ["batch", 4])
    with pytest.raises(NotApplicable, match="100 times"):
        ScaleInputs()(model, context({"x": x.astype(np.float32)}))


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="no form for 'int9'"):
        Clean(for_="int9")
    with pytest.raises(UsageError, match=r"no unlike 0\.5"):
        ScaleInputs(unlike=0.5)


def bands(path: Path) -> Path:
    """A CNN of three bands in units of their own, which it standardises itself; other layers are ordinary."""
    random = np.random.default_rng(0)
    weights: dict[str, Array] = {
        "mean": np.array([3e4, 0.2, 8.0], np.float32).reshape(3, 1, 1), "scale": UNITS.reshape(3, 1, 1)
    }  # fmt: skip
    nodes = [helper.make_node("Sub", ["x", "mean"], ["c"]), helper.make_node("Div", ["c", "scale"], ["z"])]
    last, width = "z", 3
    for name in ("first", "second", "third"):
        weights[name] = (random.standard_normal((24, width, 3, 3)) * np.sqrt(2 / (9 * width))).astype(np.float32)
        nodes.append(helper.make_node("Conv", [last, name], [f"c_{name}"], name=f"conv_{name}"))
        nodes.append(helper.make_node("Relu", [f"c_{name}"], [f"r_{name}"]))
        last, width = f"r_{name}", 24
    weights["head"] = random.standard_normal((24, 6)).astype(np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "head"], ["y"]))
    return networks.save(path, nodes, weights, ["N", 3, 16, 16])


UNITS = np.array([5e3, 0.004, 1.0], np.float32)


def test_a_search_builds_int8_on_the_form_that_holds(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    noise = random.standard_normal((900, 3, 16, 16)) * random.uniform(0.3, 3, (900, 3, 1, 1))
    x = (noise * UNITS.reshape(3, 1, 1) + np.array([3e4, 0.2, 8.0]).reshape(3, 1, 1)).astype(np.float32)
    result = hasten.optimize(
        bands(tmp_path / "bands.onnx"), {"x": x}, metric="fidelity", max_drop="10%", engines=["tests.engines.mixing"],
        served_by="tests.engines.mixing", out=tmp_path / "out",
    )  # fmt: skip
    assert result.verdict == "met", [(t.candidate.label, t.reason) for t in result.trials]
    assert result.winner.candidate.steps[0] == FOR_INT8
    assert result.winner.candidate.steps[-1].name == "quantize"


def test_what_makes_int8_worse_on_a_network_is_not_part_of_its_form() -> None:
    rows = json.loads(int8_forms.RESULT.read_text())["rows"]
    assert len(rows) >= 10
    for row in rows:
        worse = [
            {
                label.removeprefix("without ")
                for label, found in scheme.items()
                if label != "float form" and found["worse"]
            }
            for scheme in row["schemes"].values()
        ]
        assert set.intersection(*worse) <= FLOAT_ONLY | {"for int8"}, row["network"]
