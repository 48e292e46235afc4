"""What people bring: files of other tools, each named for what it is; messages about the user's own files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

import hasten
from hasten import replies
from hasten.budget import parse_budget
from hasten.errors import InputError
from hasten.frontends.door import pick
from hasten.frontends.torch import load as load_torch
from hasten.measure import tails
from hasten.measure.evaluate import Evaluator
from hasten.measure.quality import judgeable, worse_than_constant
from hasten.metrics import AUC, MAE, TOP1
from hasten.model import TensorSpec
from hasten.protocols import Door
from hasten.safety.detect import require_onnx
from hasten.samples import load_samples
from hasten.worker import Worker
from tests import networks
from tests.reject import rejected


def members(**files: bytes) -> bytes:
    """A zip of these files; ``__`` stands for a slash, ``_dot_`` for a dot."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return held.getvalue()


def by(package: str, protocol: int = 4) -> bytes:
    """The beginning of a pickle of a class of ``package``: what is written before the state."""
    module, name = f"{package}.some.module".encode(), b"Model"
    if protocol < 4:
        return b"\x80\x03c" + module + b"\n" + name + b"\nq\x00)\x81q\x01}q\x02." + bytes(40)
    text = b"\x8c" + bytes([len(module)]) + module + b"\x94\x8c\x05" + name + b"\x94\x93"
    return b"\x80\x04\x95" + (len(text)).to_bytes(8, "little") + text + b"\x94)\x81." + bytes(40)


ubjson = b"{L" + (7).to_bytes(8, "big") + b"learner{L" + bytes(60)
FILES: dict[str, tuple[bytes, str, str]] = {
    "forest.pkl": (by("sklearn"), "a pickled scikit-learn model", "skl2onnx"),
    "forest2.pkl": (by("sklearn", 3), "a pickled scikit-learn model", "zipmap"),
    "forest.joblib": (zlib.compress(by("sklearn")), "a pickled scikit-learn model", "skl2onnx"),
    "forest.joblib.gz": (gzip.compress(by("sklearn")), "a pickled scikit-learn model", "skl2onnx"),
    "boosted.pkl": (by("lightgbm"), "a pickled LightGBM model", "onnxmltools"),
    "boosted2.pkl": (by("xgboost"), "a pickled XGBoost model", "onnxmltools"),
    "boosted3.pkl": (by("catboost"), "a pickled CatBoost model", "format='onnx'"),
    "table.pkl": (by("pandas"), "a pickled table", "--data"),
    "lgbm.txt": (b"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\n", "a LightGBM model", "onnxmltools"),
    "lgbm.json": (b'{"name":"tree","version":"v4","num_class":1}', "a LightGBM model", "onnxmltools"),
    "xgb.json": (b'{"learner":{"attributes":{},"feature_names":[]}}', "an XGBoost model", "onnxmltools"),
    "xgb2.json": (b'{"version":[2,1,0],"learner":{}}', "an XGBoost model", "onnxmltools"),
    "xgb.ubj": (ubjson, "an XGBoost model (UBJSON)", "onnxmltools"),
    "xgb.bst": (bytes(range(1, 60)), "an XGBoost model", "onnxmltools"),
    "old.bin": (b"binf" + bytes(40), "an XGBoost model in its old binary form", "onnxmltools"),
    "cat.cbm": (b"CBM1" + bytes(40), "a CatBoost model", "format='onnx'"),
    "cat.json": (b'{"features_info":{},"oblivious_trees":[]}', "a CatBoost model", "format='onnx'"),
    "llama.gguf": (b"GGUF" + bytes(40), "a GGUF language model", "llama.cpp"),
    "net.engine": (b"ptrt" + bytes(40), "a TensorRT engine", ".onnx file"),
    "net.plan": (bytes(range(1, 60)), "a TensorRT engine", ".onnx file"),
    "net.mlmodel": (b"\x08\x04\x12\x10" + bytes(40), "a Core ML model", "give the file that it was made from"),
    "net.mlpackage.zip": (
        members(net_dot_mlpackage__Data__com_dot_apple_dot_CoreML__model_dot_mlmodel=b"x"), "a Core ML package", "give",
    ),
    "net.xml": (b'<?xml version="1.0"?>\n<net name="a" version="11">', "an OpenVINO model (IR)", "ONNX file"),
    "net.pb": (b"\n\x17\n\x01x\x12\x0bPlaceholder" + bytes(40), "a TensorFlow graph", "tf2onnx"),
    "saved_model.pb": (b"\x08\x01\x12\x10" + bytes(40), "", "folder"),
    "model.ckpt-1.index": (bytes(range(1, 60)), "the index of a TensorFlow checkpoint", "tf_saved_model"),
    "model.ckpt.data-00000-of-00001": (bytes(range(1, 60)), "the weights of a TensorFlow checkpoint", "tf_saved_model"),
    "model.json": (b'{"format": "layers-model", "generatedBy": "keras"}', "a TensorFlow.js model", "tf_saved_model"),
    "arch.json": (b'{"module": "keras", "class_name": "Functional"}', "the architecture of a Keras model", "export"),
    "config.json": (b'{"architectures": ["BertModel"], "model_type": "bert"}', "the configuration of a hub", "torch"),
    "net.pte": (b"\x1c\0\0\0ET12" + bytes(40), "an ExecuTorch program", "torch.onnx.export"),
    "net.param": (b"7767517\n75 83\nInput data 0 1 data\n", "an ncnn model", "give the file"),
    "net.rknn": (b"RKNN" + bytes(40), "an RKNN model", ".onnx file"),
    "net.cfg": (b"[net]\nbatch=1\nwidth=416\n", "a Darknet configuration", "PyTorch"),
    "net.prototxt": (b'name: "net"\nlayer {\n  name: "data"\n}', "a Caffe network", "give the file"),
    "net.pdmodel": (b"\n\x10" + bytes(range(1, 40)), "a PaddlePaddle model", "paddle2onnx"),
    "net.pmml": (b'<?xml version="1.0"?><PMML xmlns="http://www.dmg.org/PMML-4_4">', "a PMML model", "ONNX"),
    "model.skops": (members(schema_dot_json=b"{}"), "a scikit-learn model (skops)", "skl2onnx"),
    "net.tar": (b"net/".ljust(257, b"\0") + b"ustar" + bytes(40), "a tar archive", "unpack it"),
    "photo.jpg": (b"\xff\xd8\xff\xe0" + bytes(40), "a picture", "after --data"),
    "table.parquet": (b"PAR1" + bytes(40), "a Parquet table", "after --data"),
    "weights.safetensors": ((32).to_bytes(8, "little") + b'{"w":{}}'.ljust(64), "", "--module package.module:function"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_tool_is_named_with_its_way_to_onnx(name: str, tmp_path: Path) -> None:
    content, kind, way = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with rejected(name, kind, way):
        if pick(path) == "onnx":
            require_onnx(path)
        else:
            load_torch(path, Door(folder=tmp_path))


FOLDERS: dict[str, tuple[list[str], str, str]] = {
    "orbax": (["_CHECKPOINT_METADATA"], "a JAX checkpoint", "jax2onnx"),
    "net.mlpackage": (["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"], "a Core ML package", "give the file"),
    "keras": (["config.json", "metadata.json", "model.weights.h5"], "an unpacked Keras model", "zip its files"),
    "dcp": ([".metadata", "__0_0.distcp"], "a PyTorch checkpoint in parts", "torch.onnx.export"),
    "ckpt": (["checkpoint", "m.index", "m.data-00000-of-00001"], "a TensorFlow checkpoint", "tf_saved_model"),
    "half": (["variables/variables.index"], "a SavedModel without its graph", "copy it whole"),
    "js": (["model.json", "group1-shard1of1.bin"], "a TensorFlow.js model", "tf_saved_model"),
    "ir": (["net.xml", "net.bin"], "an OpenVINO model (IR)", "ONNX file"),
    "hub": (["config.json", "model.safetensors"], "a repository", "torch.onnx.export"),
    "paddle": (["net.pdmodel", "net.pdiparams"], "a PaddlePaddle model", "paddle2onnx"),
    "mlflow": (["MLmodel", "model.pkl"], "an MLflow model", "inside"),
    "plain": (["net.onnx", "readme.md"], "a folder", "net.onnx"),
    "nothing": (["readme.md"], "a folder", "model.onnx"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_another_tool_is_named(name: str, tmp_path: Path) -> None:
    entries, kind, way = FOLDERS[name]
    for entry in entries:
        file = tmp_path / name / entry
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"{}")
    assert pick(tmp_path / name) == "onnx"
    with rejected(str(tmp_path / name), kind, way):
        require_onnx(tmp_path / name)


def test_a_pickle_that_torch_may_have_written_still_comes_through_its_door(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    for content in (
        by("torch"),
        by("sklearn")[:-40] + by("torch"),
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        pickle.dumps({}),
    ):
        path.write_bytes(content)
        assert pick(path) == "torch"


def test_json_that_is_a_result_of_ours_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"steps": [], "engine": "onnxruntime"}))
    with rejected("recipe.json", "a text file"):
        require_onnx(path)


RNG = np.random.default_rng(5)


def test_the_exact_test_is_fishers() -> None:
    for right, n, first, chosen in [(3, 40, 12, 20), (0, 40, 12, 20), (12, 40, 12, 20), (9, 200, 20, 100)]:
        table = [[right, first - right], [chosen - right, n - first - chosen + right]]
        expected = stats.fisher_exact(table, alternative="less").pvalue
        assert tails.hypergeometric_at_most(right, n, first, chosen) == pytest.approx(expected)


def test_weak_networks_are_told_and_only_contradictions_are_refused() -> None:
    labels = np.arange(200) % 2
    weak = (RNG.random(200) < 0.55).astype(float)
    assert worse_than_constant(TOP1, weak, labels) is None
    for luck in range(50):  # a network of 0.53 is refused by no lot
        rows = (np.random.default_rng(luck).random(200) < 0.53).astype(float)
        assert worse_than_constant(TOP1, rows, labels) is None
    assert worse_than_constant(TOP1, (RNG.random(200) < 0.2).astype(float), labels) is not None
    assert worse_than_constant(TOP1, np.zeros(200), np.arange(200) % 10) is not None
    assert worse_than_constant(TOP1, labels.astype(float), labels) is None, "a constant answer is not worse than one"
    fraud = np.arange(500) % 100 == 0
    finds_most = np.where(fraud, RNG.random(500) < 0.64, RNG.random(500) < 0.97).astype(float)
    assert worse_than_constant(TOP1, finds_most, fraud.astype(int)) is None, "less often right than never, and useful"
    scores = np.stack([RNG.standard_normal(300) - 2 * (np.arange(300) % 2), np.arange(300) % 2], 1)
    assert worse_than_constant(AUC, scores, scores[:, 1]) is not None
    assert worse_than_constant(AUC, np.stack([RNG.random(300), scores[:, 1]], 1), scores[:, 1]) is None
    wanted = RNG.standard_normal(300)
    assert worse_than_constant(MAE, np.abs(wanted) + 1, wanted) is not None
    assert worse_than_constant(MAE, np.abs(wanted) * 1.001, wanted) is None


def test_a_score_that_few_samples_do_not_define_is_looked_for_in_more() -> None:
    one_class = np.stack([RNG.random(64), np.zeros(64)], 1)
    assert not judgeable(AUC, parse_budget("1%"), one_class)
    assert judgeable(AUC, parse_budget("1%"), np.vstack([one_class, [[0.9, 1.0]]]))
    assert not judgeable(TOP1, parse_budget("rel:99%"), np.zeros(64))
    assert judgeable(TOP1, parse_budget("1%"), np.zeros(64))


def rare(positives: int, n: int, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A network of two classes, right nearly always, and labels of which few are 1."""
    path = networks.mlp(folder / "rare.onnx", classes=2)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((20 * n, 16)).astype(np.float32)
    found = networks.answers(path, x).argmax(1)
    keep = np.concatenate([np.flatnonzero(found == 1)[:positives], np.flatnonzero(found == 0)[: n - positives]])
    keep = rng.permutation(keep)
    return path, {"x": x[keep], "labels": found[keep]}


ENGINES = {"engines": "tests.engines.quick", "served_by": "tests.engines.quick"}


@pytest.mark.parametrize(("positives", "proves"), [(6, True), (1, False)])
def test_rare_classes_end_in_a_verdict(positives: int, proves: bool, tmp_path: Path) -> None:
    path, data = rare(positives, 400, tmp_path)
    result = hasten.optimize(path, data, metric="auc", **ENGINES)  # type: ignore[arg-type]
    assert result.verdict in ("met", "nothing_faster", "undecided")
    assert (result.provable.n_confirm > 0) is proves
    told = [text for text in result.warnings if "too few to certify anything about auc" in text]
    assert bool(told) is not proves
    if told:
        assert "1 of 400 samples are of class 1" in told[0]


def test_one_class_alone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path, data = rare(0, 200, tmp_path)
    with rejected("auc needs samples of two classes", "all 200 labels are 0", "max_drop='agree:99%'"):
        hasten.optimize(path, data, metric="auc", **ENGINES)  # type: ignore[arg-type]


def test_a_share_of_a_score_that_few_samples_have_ends_in_a_verdict(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "mlp.onnx")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((700, 16)).astype(np.float32)
    right = networks.answers(path, x).argmax(1)
    labels = np.where(rng.random(700) < 0.1, right, (right + rng.integers(1, 10, 700)) % 10)
    result = hasten.optimize(path, {"x": x, "labels": labels}, max_drop="rel:90%", **ENGINES)  # type: ignore[arg-type]
    assert result.verdict in ("met", "nothing_faster", "undecided")


@pytest.mark.parametrize(
    ("scores", "labels", "advice"),
    [
        ((8, 5), (8,), "use top1 or f1"), ((8, 1, 4, 4), (8, 4, 4), "for masks use auc_pooled"),
        ((8, 3, 4, 4), (8, 4, 4), "each position use top1"), ((8, 14), (8, 14), "several labels a sample"),
        ((8, 3, 4), (8,), "name another output"),
    ],
)  # fmt: skip
def test_where_auc_does_not_fit_the_advice_does(scores: tuple[int, ...], labels: tuple[int, ...], advice: str) -> None:
    with pytest.raises(InputError) as told:
        AUC.rows({"y": np.zeros(scores, np.float32)}, np.zeros(labels, np.int64))
    assert advice in told.value.help


def test_weights_left_behind_are_named_and_weights_beside_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "alone").mkdir()
    network = onnx.load(networks.mlp(tmp_path / "mlp.onnx"))
    place = tmp_path / "whole" / "net.onnx"
    onnx.save(network, place, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    (tmp_path / "alone" / "net.onnx").write_bytes(place.read_bytes())
    weights = (tmp_path / "whole" / "net.onnx.data").stat().st_size
    for folder, given in ((tmp_path, "whole/net.onnx"), (tmp_path / "whole", "net.onnx"), (Path("/"), str(place))):
        monkeypatch.chdir(folder)
        assert hasten.inspect(given)["weight_bytes"] == weights
    for folder, given in ((tmp_path, "alone/net.onnx"), (tmp_path / "alone", "net.onnx")):
        monkeypatch.chdir(folder)
        with rejected(f"'{given}.data'", "weights", "copy net.onnx.data", "as one file"):
            hasten.inspect(given)


def test_a_network_of_four_at_a_time_is_scored_sample_by_sample(tmp_path: Path) -> None:
    """402 samples and their labels; of every third the label is wrong."""
    random = np.random.default_rng(0)
    weights = random.normal(0, 1, (16, 5)).astype(np.float32)
    x = random.normal(0, 1, (402, 16)).astype(np.float32)
    labels = (x @ weights).argmax(1)
    labels[::3] = (labels[::3] + 1) % 5
    node = helper.make_node("MatMul", ["x", "w"], ["logits"])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, k]) for n, k in (("x", 16), ("logits", 5))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    path = tmp_path / "four.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    store = load_samples({"x": x, "labels": labels}).spool(tmp_path / "s", (TensorSpec("x", (4, 16), "float32"),))
    evaluator = Evaluator(store, TOP1, ("logits",), (0,), batch=store.fixed)
    with Worker(name="four") as worker:
        replies.load(worker, "onnxruntime", path, {}, ["logits"])
        for ids in (range(402), [401, 7, 3, 0, 9]):
            answered = list(evaluator.answers(worker, ids))
            assert [i for i, _ in answered] == list(ids)
            assert np.allclose(np.concatenate([a[0] for _, a in answered]), x[list(ids)] @ weights, atol=1e-4)
    found = hasten.optimize(path, {"x": x, "labels": labels}, metric="top1", engines="onnxruntime", seconds=1)
    assert found.as_given.search is not None
    assert found.as_given.search.value == pytest.approx(2 / 3, abs=0.1)
    assert any("fixed at 4" in warning for warning in found.warnings)
