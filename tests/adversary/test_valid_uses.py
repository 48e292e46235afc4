"""What people bring: files of other tools, each named for what it is; messages about the user's own files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
import zlib
from pathlib import Path

import pytest

import hasten
from hasten.frontends.door import pick
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
    with rejected(name, kind, way.replace("--data", "data=").replace("--module package", "module='package")[:12]):
        hasten.inspect(path)


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
    with rejected(str(tmp_path / name), kind, way):
        hasten.inspect(tmp_path / name)


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
        hasten.inspect(path)
