"""Files of other tools: how each is recognised, what it is, and its way to ONNX. One table; content before name."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

TORCH = "export it: torch.onnx.export(model, args, 'model.onnx', dynamo=True)"
KERAS = "export it: model.export('model.onnx', format='onnx')"
JAX = "export the function: jax2onnx.to_onnx(function, [('B', 28, 28)], return_mode='file', output_path='model.onnx')"
SKLEARN = (
    "export it with skl2onnx: to_onnx(model, X[:1].astype('float32'), options={'zipmap': False}), "
    "then save its SerializeToString()"
)
TREES = (
    "pip install onnxmltools, then onnxmltools.convert_{0}(model, initial_types=[('x', FloatTensorType([None, N]))])"
)
LIGHTGBM = TREES.format("lightgbm", ", zipmap=False")
XGBOOST = TREES.format("xgboost", "")
CATBOOST = "model.save_model('model.onnx', format='onnx')"
TF_CHECKPOINT = "load it in your own code, then model.export('out', format='tf_saved_model') and give that folder"
GRAPH_DEF = "python -m tf2onnx.convert --graphdef FILE.pb --inputs x:0 --outputs y:0 --output model.onnx"
FIRST = "give the file that it was made from"
BESIDE = "put the model first, and this file after --data"
DOWNLOAD = "download or save it again"
UNPACK = "unpack it, and give the .onnx file inside"
WIDE = 1 << 16  # bytes of a pickle's beginning in which the names of its classes are searched


@dataclass(frozen=True)
class Foreign:
    """What a file is, and the way out."""

    name: str
    help: str


def _found(*rows: tuple[bytes, int, str, str]) -> tuple[tuple[bytes, int, Foreign], ...]:
    return tuple((magic, at, Foreign(name, way)) for magic, at, name, way in rows)


MAGIC = _found(
    (b"\x7fELF", 0, "a program or a library", "give the .onnx file; hasten loads no custom operators"),
    (b"GGUF", 0, "a GGUF language model", "serve it with llama.cpp; hasten needs an ONNX export"),
    (b"lmgg", 0, "a GGML language model", "serve it with llama.cpp; hasten needs an ONNX export"),
    (b"\x89HDF\r\n\x1a\n", 0, "HDF5 (a Keras .h5?)", KERAS),
    (b"TFL3", 4, "a TensorFlow Lite model", "python -m tf2onnx.convert --tflite in.tflite --output out.onnx"),
    (b"ORTM", 4, "an ORT-format model", FIRST + ", the .onnx file"),
    (b"ET1", 4, "an ExecuTorch program (.pte)", TORCH),
    (b"ptrt", 0, "a TensorRT engine, compiled for one GPU", FIRST + ", the .onnx file"),
    (b"\x01HEF", 0, "a Hailo executable, compiled for one chip", FIRST + ", the .onnx file"),
    (b"RKNN", 0, "an RKNN model, compiled for one chip", FIRST + ", the .onnx file"),
    (b"CBM1", 0, "a CatBoost model", CATBOOST),
    (b"binf", 0, "an XGBoost model in its old binary form", "load it with XGBoost; " + XGBOOST),
    (b"7767517", 0, "an ncnn model", FIRST + ", the .onnx or .pt file"),
    (b"\x93NUMPY", 0, "a numpy array", BESIDE),
    (b"PAR1", 0, "a Parquet table", BESIDE),
    (b"ARROW1", 0, "an Arrow table", BESIDE),
    (b"\x89PNG", 0, "a picture", BESIDE),
    (b"\xff\xd8\xff", 0, "a picture", BESIDE),
    (b"%PDF", 0, "a PDF", "give the .onnx file"),
    (b"BZh", 0, "bzip2-compressed", "unpack it: bunzip2"),
    (b"\xfd7zXZ", 0, "xz-compressed", "unpack it: unxz"),
    (b"\x28\xb5\x2f\xfd", 0, "zstd-compressed", "unpack it: unzstd"),
    (b"7z\xbc\xaf", 0, "a 7-Zip archive", UNPACK),
    (b"ustar", 257, "a tar archive", UNPACK),
)

# the beginning of text or of UBJSON
TEXT = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), Foreign(name, way))
    for pattern, name, way in (
        (rb"<!doctype|<html", "a web page", "the download went wrong (a log-in page?): fetch the file itself"),
        (rb"(<\?xml.{0,200})?<PMML|<\?xml.{0,400}dmg\.org/PMML", "a PMML model", FIRST + ": most tools write ONNX too"),
        (rb"(<\?xml.{0,200})?<net\b", "an OpenVINO model (IR), in XML", "give the ONNX file that it was made from"),
        (rb"<\?xml", "XML (OpenVINO IR?)", "give the ONNX file that it was made from"),
        (rb"tree\r?\n.{0,200}version=|tree\r?\nversion", "a LightGBM model", LIGHTGBM),
        (rb'\{\s*"name"\s*:\s*"tree"', "a LightGBM model", LIGHTGBM),
        (rb'\{\s*"learner"|\{\s*"version"\s*:\s*\[[\d,\s]*\]\s*,\s*"learner"', "an XGBoost model", XGBOOST),
        (rb"\{(L.{8}|[iUIl].{1,4})(learner|version)", "an XGBoost model (UBJSON)", XGBOOST),
        (rb'\{.{0,4000}"oblivious_trees"|\{\s*"(ctr_data|features_info)"', "a CatBoost model", CATBOOST),
        (rb'\{.{0,400}"(layers-model|graph-model)"', "a TensorFlow.js model", TF_CHECKPOINT),
        (
            rb'\{.{0,200}"class_name"\s*:\s*"(Functional|Sequential|Model)"',
            "the architecture of a Keras model",
            KERAS,
        ),
        (
            rb'\{.{0,200}"fileFormatVersion"',
            "the manifest of a Core ML package",
            FIRST + ": Core ML has no way to ONNX",
        ),
        (rb'\{.{0,4000}"(model_type|architectures)"', "the configuration of a hub model", f"load it, then {TORCH}"),
        (rb"model_checkpoint_path\s*:", "the list of TensorFlow checkpoints", TF_CHECKPOINT),
        (rb"\[(net|network)\]", "a Darknet configuration", "convert it with its weights to PyTorch, then to ONNX"),
        (rb"(name\s*:.{0,200})?(layer|layers)\s*\{|name\s*:.{0,100}input", "a Caffe network (prototxt)", FIRST),
    )
)

# only where the content says nothing
NAMED = {
    ".mlmodel": Foreign("a Core ML model", FIRST + ": Core ML has no way to ONNX"),
    ".pb": Foreign("a TensorFlow graph", GRAPH_DEF),
    ".pbtxt": Foreign("a TensorFlow graph in text", GRAPH_DEF),
    ".meta": Foreign("the graph of a TensorFlow checkpoint", TF_CHECKPOINT),
    ".index": Foreign("the index of a TensorFlow checkpoint", TF_CHECKPOINT),
    ".ckpt": Foreign("a checkpoint without its network", TF_CHECKPOINT),
    ".pdmodel": Foreign("a PaddlePaddle model", "paddle2onnx --model_dir DIR --save_file model.onnx"),
    ".pdiparams": Foreign("the weights of a PaddlePaddle model", "paddle2onnx --model_dir DIR --save_file model.onnx"),
    ".caffemodel": Foreign("the weights of a Caffe network", FIRST),
    ".weights": Foreign("the weights of a Darknet network", "convert them to PyTorch, then to ONNX"),
    ".engine": Foreign("a TensorRT engine, compiled for one GPU", FIRST + ", the .onnx file"),
    ".plan": Foreign("a TensorRT engine, compiled for one GPU", FIRST + ", the .onnx file"),
    ".trt": Foreign("a TensorRT engine, compiled for one GPU", FIRST + ", the .onnx file"),
    ".mnn": Foreign("an MNN model", FIRST + ", the .onnx file"),
    ".msgpack": Foreign("weights of a Flax model", JAX),
    ".bst": Foreign("an XGBoost model", XGBOOST),
    ".ubj": Foreign("an XGBoost model", XGBOOST),
    ".xgb": Foreign("an XGBoost model", XGBOOST),
    ".bin": Foreign("the weights of a model without its network", "give the file that holds the network: .onnx"),
}

# packages whose objects a pickle may hold, by what is asked first
PICKLED = (
    ("lightgbm", "a pickled LightGBM model", LIGHTGBM),
    ("xgboost", "a pickled XGBoost model", XGBOOST),
    ("catboost", "a pickled CatBoost model", CATBOOST),
    ("sklearn", "a pickled scikit-learn model", SKLEARN),
    ("keras", "a pickled Keras model", KERAS),
    ("tensorflow", "a pickled TensorFlow model", KERAS),
    ("jax", "pickled weights of JAX", JAX),
    ("flax", "pickled weights of Flax", JAX),
    ("pandas", "a pickled table (pandas)", BESIDE + ", as .csv or .parquet"),
    ("numpy", "pickled numpy arrays", "save them with numpy.savez; " + BESIDE),
)
_NAMES = b"|".join(name.encode() for name in ("torch", *(package for package, _, _ in PICKLED)))
_MODULES = re.compile(rb"(?:(?<![\w.])|(?<=\Wc))(" + _NAMES + rb")(?=\.|[\n\x8c\x94 ])")

# a folder: the entries that it holds, as patterns, and what it is
FOLDERS = (
    (("_CHECKPOINT_METADATA",), "a JAX checkpoint (Orbax)", "it holds weights and no network", JAX),
    (("manifest.ocdbt",), "a JAX checkpoint (Orbax)", "it holds weights and no network", JAX),
    (("Data/com.apple.CoreML",), "a Core ML package", "it is compiled for Apple's runtime", FIRST),
    (("config.json", "model.weights.h5"), "an unpacked Keras model", "", "zip its files as one .keras, or " + KERAS),
    (("*.distcp",), "a PyTorch checkpoint in parts", "it holds weights and no network", TORCH),
    (("MLmodel",), "an MLflow model", "it holds a model of another tool", "give the model file inside it"),
    (("checkpoint", "*.index"), "a TensorFlow checkpoint", "it holds weights and no network", TF_CHECKPOINT),
    (("*.index", "*.data-00000-of-*"), "a TensorFlow checkpoint", "it holds weights and no network", TF_CHECKPOINT),
    (("variables/variables.index",), "a SavedModel without its graph", "saved_model.pb is missing", "copy it whole"),
    (("model.json", "*-shard*of*"), "a TensorFlow.js model", "", TF_CHECKPOINT),
    (("*.xml", "*.bin"), "an OpenVINO model (IR)", "", "give the ONNX file that it was made from"),
    (("*.pdmodel",), "a PaddlePaddle model", "", "paddle2onnx --model_dir DIR --save_file model.onnx"),
    (("*.engine",), "a TensorRT repository", "engines are compiled for one GPU", FIRST + ", the .onnx file"),
)


def by_magic(head: bytes) -> Foreign | None:
    """What fixed bytes at a fixed place say."""
    return next((kind for magic, at, kind in MAGIC if head[at : at + len(magic)] == magic), None)


def by_text(head: bytes) -> Foreign | None:
    """What the beginning of a text says, or of UBJSON."""
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    return next((kind for pattern, kind in TEXT if pattern.match(start)), None)


def by_name(path: Path) -> Foreign | None:
    """What the file's ending says, for contents that say nothing."""
    if path.name.startswith("variables.data-") or ".data-00000-of-" in path.name:
        return Foreign("the weights of a TensorFlow checkpoint", TF_CHECKPOINT)
    if path.name == "saved_model.pb":
        return Foreign("the graph of a SavedModel", f"give its folder: {path.parent}")
    return NAMED.get(path.suffix.lower())


def is_pickle(head: bytes) -> bool:
    """True for pickles of protocol 2 and later."""
    return len(head) > 2 and head[0] == 0x80 and head[1] in range(2, 6)


def pickled(path: Path) -> Foreign | None:
    """What a pickle holds, plain or compressed by joblib: by the packages that its beginning names; nothing is loaded.

    None when it is no pickle, or may be one of PyTorch.
    """
    with path.open("rb") as file:
        head = _plain(file.read(WIDE))
    if not is_pickle(head):
        return None
    found = {match.decode() for match in _MODULES.findall(head)}
    if "torch" in found or head.startswith(b"\x80\x02\x8a\n"):  # the second: how torch began before its archives
        return None
    return next((Foreign(name, way) for package, name, way in PICKLED if package in found), None)


def _plain(head: bytes) -> bytes:
    """The first bytes, unpacked where zlib or gzip wrote them."""
    if head[:1] == b"\x78" or head[:2] == b"\x1f\x8b":
        try:
            return zlib.decompressobj(wbits=47).decompress(head, WIDE)
        except zlib.error:
            return head
    return head


def folder(path: Path) -> tuple[Foreign, str] | None:
    """What a folder is by the entries that it holds, and why it is not read."""
    for entries, name, cause, way in FOLDERS:
        if all(next(path.glob(entry), None) is not None for entry in entries):
            return Foreign(name, way), cause
    return None
