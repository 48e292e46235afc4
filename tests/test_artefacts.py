"""The output folder: complete or absent, never touching what is not ours, and runnable without us."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten import artefacts
from hasten.errors import EnvironmentFault, InputError, UsageError
from hasten.model import TensorSpec, file_digest
from hasten.model_files import copy_model
from hasten.result_files import NAMES
from hasten.safety.stage import stage
from hasten.trial import Candidate, Result, Scalar
from tests import results
from tests.faults import disk

SPLITS = {"calibrate": 300, "search": 1900, "confirm": 2800}
X = TensorSpec("x", ("N", 3), "float32")
STOCK: dict[str, Scalar] = {"threads": 1, "spinning": False, "graph_optimization": "basic"}


def network(path: Path, *, external: str = "", state: bool = False) -> Path:
    """y = x @ w, or with a state h: h' = h + 1."""
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])]
    initializers = [weight]
    if state:
        one = numpy_helper.from_array(np.ones((1, 1), np.float32), "one")
        nodes.append(helper.make_node("Add", ["h", "one"], ["h_out"]))
        inputs.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 2]))
        outputs.append(helper.make_tensor_value_info("h_out", TensorProto.FLOAT, ["N", 2]))
        initializers.append(one)
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, save_as_external_data=bool(external), location=external or None, size_threshold=0)
    return path


def chosen(engine: str = "onnxruntime", settings: dict[str, Scalar] | None = None) -> Result:
    """The sample result with a winner in the given engine."""
    base = results.met()
    candidate = Candidate(steps=base.winner.candidate.steps, engine=engine, settings=settings or {}, label="int8")
    return replace(base, winner=replace(base.winner, candidate=candidate))


def write(out: Path, artefact: Path, *, result: Result | None = None, force: bool = False, **more: Any) -> None:
    inputs: Sequence[TensorSpec] = more.pop("inputs", (X,))
    artefacts.write(
        out, result=result or chosen(), artefact=artefact, inputs=inputs, splits=SPLITS, extra=more, force=force,
        building=out.with_name("building"),
    )  # fmt: skip


def test_the_folder_is_complete_and_the_manifest_covers_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, network(tmp_path / "candidate.onnx"), command="hasten optimize candidate.onnx", batch=4)
    assert sorted(p.name for p in out.iterdir()) == sorted({"model.onnx", *NAMES} - {"evidence.json"})
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert set(manifest["files"]) == {p.name for p in out.iterdir()} - {"manifest.json"}
    assert all(file_digest(out / n) == digest for n, digest in manifest["files"].items())
    assert manifest["splits"] == SPLITS
    assert manifest["command"] == "hasten optimize candidate.onnx"
    recipe = json.loads((out / "recipe.json").read_bytes())
    assert recipe["batch"] == 4
    assert recipe["steps"][1] == {"name": "quantize", "options": {"ranges": "mse"}}
    with np.load(out / "timings.npz") as stored:
        assert stored["noise"].shape == (40,)
    assert not list(tmp_path.glob(".hasten-*"))


@pytest.mark.parametrize("name", ["net.model", "net", "net.ONNX", "net.bin"])
def test_weights_travel_with_an_onnx_file_of_any_name(tmp_path: Path, name: str) -> None:
    made = network(tmp_path / "net.onnx", external="weights.bin")
    staged = stage(made.rename(tmp_path / name), tmp_path / "stage")
    (tmp_path / "out").mkdir()
    copied = tmp_path / "out" / copy_model(staged, tmp_path / "out")
    assert (tmp_path / "out" / "weights.bin").is_file()
    assert onnx.load(copied).graph.initializer[0].raw_data


def test_external_weights_travel_and_still_load(tmp_path: Path) -> None:
    import onnxruntime as ort

    artefact = network(tmp_path / "big.onnx", external="big.data")
    write(tmp_path / "out", artefact)
    artefact.with_suffix(".data").unlink()
    session = ort.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((1, 3), np.float32)})[0].tolist() == [[3.0, 3.0]]


def test_weights_elsewhere_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    artefact = network(tmp_path / "in.onnx", external="in.data")
    model = onnx.load(artefact, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../secret"
    artefact.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"'\.\./secret'"):
        write(tmp_path / "out", artefact)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".hasten-*"))


@pytest.mark.parametrize(
    ("engine", "settings"),
    [
        ("onnxruntime", STOCK),
        ("openvino", {"precision": "f32", "hint": "LATENCY", "threads": 1}),
        ("openvino", {"precision": "f32", "hint": "LATENCY", "threads": 1, "sizes": '{"x": [1, 3]}'}),
    ],
)
def test_the_example_runs_without_hasten(tmp_path: Path, engine: str, settings: dict[str, Scalar]) -> None:
    pytest.importorskip(engine)
    out = tmp_path / "out"
    write(out, network(tmp_path / "m.onnx"), result=chosen(engine, settings), outputs=["y"])
    np.savez(tmp_path / "data.npz", x=np.ones((5, 3), np.float32))
    hide = "import sys, runpy; sys.modules['hasten'] = None; del sys.argv[0]; "
    hide += "runpy.run_path(sys.argv[0], None, '__main__')"
    command = [sys.executable, "-c", hide, str(out / "example.py"), str(tmp_path / "data.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "'y': (1, 2) float32" in done.stdout
    assert "median latency" in done.stdout
    text = (out / "example.py").read_text()
    assert ("INFERENCE_NUM_THREADS': 1" if engine == "openvino" else "intra_op_num_threads = 1") in text
    assert ("SIZES: dict[str, list[int]] = {'x': [1, 3]}" in text) == ("sizes" in settings)
    assert ("'f32'" if engine == "openvino" else "ORT_ENABLE_BASIC") in text


def test_the_example_of_a_stateful_network_feeds_its_state_back(tmp_path: Path) -> None:
    specs, names = (X, TensorSpec("h", ("N", 2), "float32")), ["y", "h_out"]
    write(tmp_path / "out", network(tmp_path / "m.onnx", state=True), inputs=specs, state={"h": "h_out"}, outputs=names)
    command = [sys.executable, str(tmp_path / "out" / "example.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "'h_out': (1, 2)" in done.stdout


def test_an_engine_without_an_example_gets_a_word_instead(tmp_path: Path) -> None:
    write(tmp_path / "out", network(tmp_path / "m.onnx"), result=chosen("abacus"))
    command = [sys.executable, str(tmp_path / "out" / "example.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 1
    assert "NotImplementedError: hasten has no example for the engine 'abacus'" in done.stderr


def test_openvino_ir_keeps_its_two_files(tmp_path: Path) -> None:
    (tmp_path / "c7.xml").write_text("<net/>")
    (tmp_path / "c7.bin").write_bytes(b"weights")
    write(tmp_path / "out", tmp_path / "c7.xml", result=chosen("openvino"))
    assert (tmp_path / "out" / "model.bin").read_bytes() == b"weights"


def test_our_own_folder_is_replaced_and_strangers_stay(tmp_path: Path) -> None:
    out, artefact = tmp_path / "out", network(tmp_path / "m.onnx")
    write(out, artefact)
    (out / "notes.txt").write_text("mine")
    (out / "model.bin").write_text("a stranger too: the first run wrote none")
    write(out, artefact)
    assert (out / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".hasten-*"))


def test_a_folder_that_is_not_ours_needs_force(tmp_path: Path) -> None:
    out, artefact = tmp_path / "out", network(tmp_path / "m.onnx")
    out.mkdir()
    (out / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match="is not empty") as caught:
        write(out, artefact)
    assert caught.value.help == "add --force"
    write(out, artefact, force=True)
    assert (out / "thesis.tex").read_text() == "years"
    assert (out / "manifest.json").exists()


def test_inputs_are_never_put_at_risk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(tmp_path / "m.onnx")
    photos = tmp_path / "photos"
    photos.mkdir()
    for force in (False, True):
        with pytest.raises(UsageError, match=r"holds the input 'm\.onnx'"):
            artefacts.check_out(tmp_path, [model], force)
        with pytest.raises(UsageError, match="is a file"):
            artefacts.check_out(model, [], force)
    monkeypatch.chdir(photos)
    for force in (False, True):
        with pytest.raises(UsageError, match="the current folder"):
            artefacts.check_out(Path(), [], force)
    with pytest.raises(UsageError, match="lies inside the input 'photos'"):
        artefacts.check_out(photos / "out", [photos], False)
    artefacts.check_out(photos / "out", [photos], True)


@pytest.mark.parametrize("before", [False, True])
def test_a_disk_that_fails_at_any_operation_leaves_the_old_folder_or_none(tmp_path: Path, before: bool) -> None:
    artefact, out = network(tmp_path / "big.onnx", external="big.data"), tmp_path / "out"
    if before:
        write(out, artefact)
    with disk() as counted:
        write(out, artefact)
    assert counted.done > 10
    for k in range(1, counted.done + 1):
        shutil.rmtree(out, ignore_errors=True)
        if before:
            write(out, artefact, command="the old one")
            (out / "notes.txt").write_text("mine")
        old = {p.name: p.read_bytes() for p in out.iterdir()} if before else {}
        with disk(k), pytest.raises(EnvironmentFault, match="cannot write the output") as caught:
            write(out, artefact, command="the new one")
        assert caught.value.cause == "No space left on device"
        assert {p.name for p in tmp_path.iterdir()} == {"big.onnx", "big.data"} | ({"out"} if before else set())
        assert ({p.name: p.read_bytes() for p in out.iterdir()} if before else {}) == old


def test_what_was_edited_after_the_run_stays_beside_the_new_file(tmp_path: Path) -> None:
    out, artefact = tmp_path / "out", network(tmp_path / "m.onnx")
    write(out, artefact)
    (out / "example.py").write_text("mine now")
    write(out, artefact)
    assert (out / "example.py.before").read_text() == "mine now"
    assert "mine now" not in (out / "example.py").read_text()
    write(out, artefact)
    assert (out / "example.py.before").read_text() == "mine now"
    assert not (out / "recipe.json.before").exists()


def test_a_folder_of_others_in_there_stays_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, network(tmp_path / "m.onnx"))
    (out / "mine").mkdir()
    (out / "mine" / "notes.txt").write_text("mine")
    (out / "mine" / "link").symlink_to("notes.txt")
    write(out, network(tmp_path / "m.onnx"))
    assert (out / "mine" / "notes.txt").read_text() == "mine"
    assert (out / "mine" / "link").readlink() == Path("notes.txt")


def test_without_hard_links_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    out = tmp_path / "out"
    write(out, network(tmp_path / "m.onnx"))
    (out / "notes.txt").write_text("mine")
    monkeypatch.setattr(os, "link", refuse)
    write(out, network(tmp_path / "m.onnx"))
    assert (out / "notes.txt").read_text() == "mine"
