"""Networks that leave sizes open, compiled for those that all samples have: faster, the same answers, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hasten
from hasten import apply_recipe, registry
from hasten.example import example
from hasten.machine import machine
from hasten.model import TensorSpec
from hasten.report.caveats import limits
from hasten.result_files import Source, describe
from hasten.samples import SampleStore, load_samples
from hasten.samples.sequence import common_sizes
from hasten.search import space
from hasten.search.lossless import engine_settings, near_settings
from hasten.trial import Candidate, Status, encode
from tests import results, tiny
from tests.reject import rejected
from tests.test_confirm import a_run, trial

OPEN, FIXED = TensorSpec("x", ("N", 3, "H"), "float32"), TensorSpec("x", (1, 3, 8), "float32")
BOTH: dict[str, Any] = {"precision": "f32", "hint": "LATENCY"}


def spooled(tmp_path: Path, data: object, *inputs: TensorSpec, **options: Any) -> SampleStore:
    return load_samples(data, **options).spool(tmp_path / "spool", inputs)


def rows(n: int, *shape: int) -> Any:
    return np.random.default_rng(n).standard_normal((n, *shape)).astype(np.float32)


@pytest.mark.parametrize(("batch", "size"), [(1, [1, 3, 8]), (4, [4, 3, 8]), (9, [5, 3, 8])])
def test_the_sizes_of_a_full_batch(tmp_path: Path, batch: int, size: list[int]) -> None:
    store = spooled(tmp_path, {"x": rows(5, 3, 8)}, OPEN)
    assert json.loads(common_sizes(store, [OPEN], batch)) == {"x": size}
    assert common_sizes(store, [FIXED], batch) == "", "nothing is open"


def test_samples_that_differ_have_no_common_sizes(tmp_path: Path) -> None:
    store = spooled(tmp_path, ({"x": rows(1, 3, width)} for width in (8, 8, 9)), OPEN)
    assert common_sizes(store, [OPEN], 1) == ""


def test_steps_and_state_have_the_sizes_of_one_step(tmp_path: Path) -> None:
    h = TensorSpec("h", ("N", 4), "float32")
    frames = ({"x": rows(steps, 1, 3, 8)} for steps in (5, 7))
    store = spooled(tmp_path, frames, OPEN, h, state={"h": "h_out"})
    assert json.loads(common_sizes(store, [OPEN, h], 1)) == {"x": [1, 3, 8], "h": [1, 4]}


def network(tmp_path: Path) -> Path:
    net = tiny.Net()
    net.add("Relu", net.conv(net.conv("x", 3, 8), 8, 4), out="y")
    model = net.model({"x": ["batch", 3, "h", "w"]}, {"y": ["batch", 4, "h", "w"]})
    model.save(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_other_sizes_run_as_well(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    engine = registry.find("engines", "openvino")
    path = network(tmp_path)
    fixed = engine.load(path, {**BOTH, "sizes": '{"x": [1, 3, 8, 8]}'})
    plain = engine.load(path, BOTH)
    for shape in ((1, 3, 8, 8), (2, 3, 8, 8), (1, 3, 5, 7), (1, 3, 8, 8)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        [got], [wanted] = fixed.run({"x": x}), plain.run({"x": x})
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    assert fixed.executed() == plain.executed()
    fixed.close()


def test_the_example_runs_samples_of_other_sizes_as_well(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    base, file = results.met(), network(tmp_path)
    candidate = Candidate(steps=(), engine="openvino", settings={**BOTH, "sizes": '{"x": [1, 3, 8, 8]}'})
    inputs = [TensorSpec("x", ("batch", 3, "h", "w"), "float32")]
    text = example(
        replace(base, winner=replace(base.winner, candidate=candidate)), file.name, inputs, {"outputs": ["y"]}
    )
    (tmp_path / "example.py").write_text(text)
    for shape in ((3, 8, 8), (3, 5, 7)):
        np.savez(tmp_path / "data.npz", x=rows(2, *shape))
        command = [sys.executable, "-I", str(tmp_path / "example.py"), str(tmp_path / "data.npz")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert f"'y': {(1, 4, *shape[1:])} float32" in done.stdout


def test_a_profile_is_of_the_network_with_its_sizes(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    engine = registry.find("engines", "openvino")
    feeds = [{"x": np.ones((1, 3, 8, 8), np.float32)}]
    layers = engine.profile(network(tmp_path), {**BOTH, "sizes": '{"x": [1, 3, 8, 8]}'}, feeds, 0.01)
    assert sum(layer.kind == "Convolution" for layer in layers) == 2


def a_result(folder: Path, sizes: object) -> Path:
    """The folder of a result whose recipe has these sizes; a network lies beside it."""
    out = folder / "out"
    out.mkdir()
    (out / network(folder).name).write_bytes((folder / "model.onnx").read_bytes())
    told = {"steps": [], "engine": "openvino", "settings": {**BOTH, "sizes": sizes}}
    (out / "recipe.json").write_text(json.dumps(told))
    source = Source(model="model.onnx", sha256="0" * 64)
    manifest = describe(
        out, schema_version=1, made_by="apply", network="model.onnx", source=source, machine=machine(), inputs=(OPEN,)
    )
    (out / "manifest.json").write_bytes(encode(manifest))
    return out


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (5, "Expected `object`, got `int`"), ("5", "Expected `object`, got `int`"), ("[]", "got `array`"),
        ('{"x": "a"}', "Expected `array`, got `str`"), ('{"x": [-1]}', "Expected `int` >= 0"), ("nope", "malformed"),
    ],
)  # fmt: skip
def test_sizes_that_are_none_are_refused(tmp_path: Path, sizes: object, said: str) -> None:
    out = a_result(tmp_path, sizes)
    data, recipe = {"x": rows(8, 3, 8, 8)}, out / "recipe.json"
    with rejected(f"{recipe} sets 'sizes' of openvino to {sizes!r}", said, '{"x": [1, 3, 224, 224]}'):
        hasten.bench([tmp_path / "model.onnx", out], data)
    with rejected(f"{recipe} sets 'sizes' of openvino to {sizes!r}", said, '{"x": [1, 3, 224, 224]}'):
        hasten.apply(recipe, tmp_path / "model.onnx", data, out=tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("sizes", ['{"z": [1, 3, 8, 8]}', '{"x": [3, 8, 8]}', '{"x": [1, 5, 8, 8]}'])
def test_sizes_that_do_not_fit_are_refused(tmp_path: Path, sizes: str) -> None:
    pytest.importorskip("openvino")
    out = a_result(tmp_path, sizes)
    [(name, size)] = json.loads(sizes).items()
    with rejected(f"{out / 'model.onnx'} takes no input {name!r} of sizes {size}", "it takes x[?,3,?,?]"):
        hasten.bench([tmp_path / "model.onnx", out], {"x": rows(8, 3, 8, 8)})


FIXING = SimpleNamespace(
    fixes_sizes=True,
    settings=lambda cores: [dict(BOTH), {**BOTH, "threads": 1}][:cores],
    lossy_settings=lambda _: [{"precision": "bf16"}],
)
PLAIN = SimpleNamespace(settings=FIXING.settings, lossy_settings=FIXING.lossy_settings)


def labels(candidates: list[Any]) -> list[str]:
    return [c.label for c in candidates]


def test_what_is_tried_with_sizes() -> None:
    assert labels(space.lossless({"e": FIXING}, 2, None, '{"x": [1]}')) == [
        "e float32",
        "e float32, sizes fixed",
        "e float32, sizes fixed, 1 thread",
    ]
    assert labels(space.lossless({"e": FIXING}, 2, None)) == ["e float32", "e float32, 1 thread"]
    assert labels(space.lossless({"e": PLAIN}, 2, None, '{"x": [1]}')) == ["e float32", "e float32, 1 thread"]
    assert labels(space.lossless({"e": FIXING}, 2, 3, '{"x": [1]}')) == [
        "e float32, 3 threads",
        "e float32, sizes fixed, 3 threads",
    ]


@pytest.mark.parametrize(
    ("base", "wanted"),
    [
        ({}, ["e bf16", "e bf16, sizes fixed", "e bf16, sizes fixed, 1 thread"]),
        ({"e": dict(BOTH)}, ["e bf16"]),
        ({"e": {**BOTH, "sizes": "{}"}}, ["e bf16, sizes fixed", "e bf16, sizes fixed, 1 thread"]),
    ],
)
def test_narrow_floats_do_as_the_fastest_float32(base: dict[str, Any], wanted: list[str]) -> None:
    assert labels(space.narrow_floats({"e": FIXING}, base, 2, None, '{"x": [1]}')) == wanted


def test_a_recipe_takes_the_sizes_of_the_other_networks_samples(tmp_path: Path) -> None:
    store = spooled(tmp_path, {"x": rows(5, 3, 8)}, OPEN)
    before = {**BOTH, "sizes": '{"pixels": [1, 3, 224, 224]}'}
    assert apply_recipe.fitted(before, store, [OPEN], 1) == {**BOTH, "sizes": '{"x": [1, 3, 8]}'}
    assert apply_recipe.fitted(before, store, [OPEN], 4) == {**BOTH, "sizes": '{"x": [4, 3, 8]}'}
    assert apply_recipe.fitted(before, store, [FIXED], 1) == BOTH
    assert apply_recipe.fitted(BOTH, store, [OPEN], 1) == BOTH


@pytest.mark.parametrize("batch", [None, 1, 4, 40])
def test_a_recipe_is_applied_with_its_batch(tmp_path: Path, batch: int | None) -> None:
    pytest.importorskip("openvino")
    recipe = a_result(tmp_path, '{"pixels": [1, 3, 224, 224]}') / "recipe.json"
    said = {} if batch is None else {"batch": batch}
    recipe.write_text(json.dumps({**json.loads(recipe.read_text()), **said}))
    told = hasten.apply(recipe, tmp_path / "model.onnx", {"x": rows(40, 3, 8, 8)}, out=tmp_path / "again")
    assert told["difference"] < 1e-6
    assert "(" not in told["steps"][0], "words, and no call in Python"
    text = (tmp_path / "again" / "example.py").read_text()
    assert "with the settings of the recipe" in text
    compile(text, "example.py", "exec")
    made = json.loads((tmp_path / "again" / "recipe.json").read_text())
    assert json.loads(made["settings"]["sizes"]) == {"x": [batch or 1, 3, 8, 8]}
    assert made["batch"] == (batch or 1)


def test_a_network_whose_batch_is_fixed_keeps_it(tmp_path: Path) -> None:
    half = TensorSpec("x", (1, 3, "H"), "float32")
    store = spooled(tmp_path, {"x": rows(5, 3, 8)}, half)
    assert apply_recipe.fitted({"sizes": "{}"}, store, [half], 4) == {"sizes": '{"x": [1, 3, 8]}'}


def test_the_report_says_which_sizes_it_was_compiled_for() -> None:
    base = results.met()
    chosen = replace(base.winner.candidate, settings={**BOTH, "sizes": '{"x": [1, 3, 8, 8], "n": [1]}'})
    told = limits(replace(base, winner=replace(base.winner, candidate=chosen)))
    assert any("compiled for inputs of the sizes that all your samples have (x 1x3x8x8, n 1)." in line for line in told)
    assert not any("compiled for inputs" in line for line in limits(base))


@pytest.mark.parametrize(("status", "fixed"), [("ok", True), ("slower", True), ("rejected", False)])
def test_narrow_candidates_have_sizes_fixed_wherever_that_ran(tmp_path: Path, status: Status, fixed: bool) -> None:
    """What it saves of every call is lost in the noise beside a float32 network, and much of a narrow one."""
    sizes = '{"x": [1, 3]}'
    run = a_run(tmp_path)
    run.sizes = sizes
    for settings, speedup in ((dict(BOTH), 1.2), ({**BOTH, "sizes": sizes}, 1.1)):
        one = Candidate(steps=(space.CLEAN,), engine="openvino", settings=settings, lossless=True, label="f32")
        state: Status = status if "sizes" in settings else "ok"
        run.record(replace(trial("any", speedup, None), candidate=one, status=state))
    assert engine_settings(run) == {"openvino": {**BOTH, **({"sizes": sizes} if fixed else {})}}


@pytest.mark.parametrize(("alone_ms", "tried"), [(1.2, True), (1.3, False)])
def test_int8_is_tried_with_every_setting_that_is_about_as_fast_in_float32(
    tmp_path: Path, alone_ms: float, tried: bool
) -> None:
    run = a_run(tmp_path)
    alone = {**BOTH, "threads": 1}
    for settings, ms in ((dict(BOTH), 1.0), (alone, alone_ms), ({**BOTH, "sizes": "{}"}, 0.9)):
        one = Candidate(steps=(space.CLEAN,), engine="openvino", settings=settings, lossless=True, label="f32")
        run.record(replace(trial("any", 2 - ms if settings == BOTH else 0.5, None), candidate=one, quick_ms=ms))
    assert near_settings(run) == {"openvino": [BOTH, *([alone] if tried else [])]}
