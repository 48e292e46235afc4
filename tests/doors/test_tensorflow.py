"""The SavedModel door: scanned without TensorFlow, converted with it, and nothing beside the signature ever runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hasten.errors import UsageError
from hasten.protocols import Door
from hasten.safety import savedmodel
from hasten.search.enter import enter
from hasten.testing import check_frontend
from tests.doors import kerases
from tests.doors.extras import needs, refused, run_example
from tests.doors.test_keras import answers
from tests.reject import rejected

pytestmark = needs("tensorflow", "tf2onnx", "keras")

MODULES = """
import sys
import tensorflow as tf
path, canary = sys.argv[1:]

class Net(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], name="same")
        self.b = tf.Variable([0.5, -0.5], name="same")

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serve(self, x):
        return {"y": x @ self.w + self.b}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def double(self, x):
        return {"twice": 2 * (x @ self.w)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def writes(self, x):
        tf.io.write_file(canary, "written")
        return {"y": x}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def calls(self, x):
        return {"y": tf.py_function(lambda t: t, [x], tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def prints(self, x):
        tf.print("written", output_stream="file://" + canary)
        return {"y": x}

net = Net()
for kind in ("writes", "calls", "prints"):
    tf.saved_model.save(net, f"{path}/{kind}", signatures={"serving_default": getattr(net, kind)})
tf.saved_model.save(net, f"{path}/two", signatures={"serving_default": net.serve, "double": net.double})
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    command = [sys.executable, "-W", "ignore", "-c", MODULES, str(folder), str(folder / "canary")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "canary").unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("body", ["cnn", "gelu", "mlp"])
def test_the_door_keeps_its_promises(tmp_path: Path, body: str) -> None:
    path = kerases.make(tmp_path, body, "saved_model", "tensorflow")
    (tmp_path / "kit").mkdir()
    check_frontend("tensorflow", path, *answers(path), tmp_path / "kit")


def test_the_scan_agrees_with_tensorflows_own_reader(saved: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    meta = saved_model_pb2.SavedModel.FromString((saved / "two" / "saved_model.pb").read_bytes()).meta_graphs[0]
    found = savedmodel.read(saved / "two")
    assert {n: node.op for n, node in found.nodes.items()} == {n.name: n.op for n in meta.graph_def.node}
    functions = {f.signature.name: [n.op for n in f.node_def] for f in meta.graph_def.library.function}
    assert {n: [node.op for node in nodes] for n, nodes in found.functions.items()} == functions
    assert set(found.signatures) == {"serving_default", "double"}
    assert found.signatures["double"].inputs == {k: v.name for k, v in meta.signature_def["double"].inputs.items()}


def test_several_signatures_are_a_question(saved: Path, tmp_path: Path) -> None:
    with rejected("two has several signatures", "double(x) -> twice", "--signature serving_default", kind=UsageError):
        enter(saved / "two", tmp_path / "a")
    with rejected("two has no signature 'doubel'", "did you mean 'double'?", kind=UsageError):
        enter(saved / "two", tmp_path / "b", Door(signature="doubel"))
    entered = enter(saved / "two", tmp_path / "c", Door(signature="double"))
    assert [o.name for o in entered.outputs] == ["twice"]
    assert entered.origin.settings == {"signature": "double"}
    assert [i.shape for i in (*entered.inputs, *entered.outputs)] == [("batch", 3), ("batch", 2)]
    assert "'twice': (2, 2) float32" in run_example(entered, tmp_path / "example")


def test_variables_of_one_name_are_told_apart(saved: Path, tmp_path: Path) -> None:
    import numpy as np
    import onnxruntime as ort

    entered = enter(saved / "two", tmp_path, Door(signature="serving_default"))
    got = ort.InferenceSession(entered.graph).run(None, {"x": np.eye(3, dtype=np.float32)})[0]
    np.testing.assert_allclose(got, [[1.5, 1.5], [3.5, 3.5], [5.5, 5.5]])


HOSTILE = {"writes": "WriteFile", "calls": "EagerPyFunc", "prints": "PrintV2"}


@pytest.mark.parametrize("kind", HOSTILE)
def test_files_and_python_are_refused(saved: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(saved / kind, tmp_path / kind)
    refused(tmp_path / kind, "could run code", HOSTILE[kind], "add trust=True", canary=saved / "canary")


def test_weights_that_are_missing(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "two", tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "variables")
    refused(tmp_path / "two", "two lacks its weights", "variables.index", signature="double")


def test_damage_is_told(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "two", tmp_path / "two")
    graph = tmp_path / "two" / "saved_model.pb"
    whole = graph.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"\xff" * 64, whole + b"\x0b"):
        graph.write_bytes(data)
        refused(tmp_path / "two", "two is damaged")


def test_links_are_not_followed(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "two", tmp_path / "two")
    (tmp_path / "two" / "more").symlink_to("/etc")
    refused(tmp_path / "two", "holds a link", signature="double")
