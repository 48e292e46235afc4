"""What a file is, judged by its content: a name can be wrong, and a wrong guess should not reach a parser."""

from __future__ import annotations

import json
import stat
import zipfile
from difflib import get_close_matches
from pathlib import Path

from hasten.errors import InputError, UsageError
from hasten.safety.archive import check_directory

READS = "hasten reads ONNX, PyTorch, Keras, TensorFlow and TensorFlow Lite"
TORCH = "export it: torch.onnx.export(model, args, 'model.onnx', dynamo=True)"
KERAS = "export it: model.export('model.onnx', format='onnx')"
JAX = "export the function: jax2onnx.to_onnx(function, [('B', 28, 28)], return_mode='file', output_path='model.onnx')"
MAX_INDEX = 16 << 20  # bytes
HEAD = 1024  # bytes


def require_onnx(path: Path) -> None:
    """Refuse what cannot be an ONNX file, and say what it is.

    Raises:
        UsageError: there is no such file, or it may not be read.
        InputError: it is empty, not a regular file, or of another kind.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"no model at {path}", cause=_why_missing(path, error), help=_nearby(path)) from error
    if stat.S_ISDIR(mode):
        _check_repository(path)
        if (path / "_CHECKPOINT_METADATA").exists() or (path / "manifest.ocdbt").exists():
            raise InputError(f"{path} is a JAX checkpoint (Orbax)", cause="it holds weights and no network", help=JAX)
        kind = "a TensorFlow SavedModel" if (path / "saved_model.pb").exists() else "a folder"
        raise InputError(f"{path} is {kind}", cause=READS, help="give the .onnx file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is not a regular file", cause=READS, help="give the .onnx file")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except PermissionError as error:
        raise UsageError(f"cannot read {path}", cause="permission denied", help=f"chmod u+r {path}") from error
    found = kind_of(head, path)
    if found and (shards := _shards(path) if head[:1] == b"{" else None):
        raise InputError(f"{path} is the index of a checkpoint in parts", cause=shards, help=TORCH)
    if found:
        raise InputError(f"{path} is {found[0]}", cause=READS, help=found[1])


def _check_repository(path: Path) -> None:
    """A folder from a model hub is not a model: its code is never run, and its weights need their network."""
    code = sorted(p.name for p in path.glob("*.py"))[:5]
    if (path / "config.json").is_file():
        cause = f"it brings code of its own ({', '.join(code)}), which is not run" if code else "it holds several files"
        raise InputError(f"{path} is a repository", cause=cause, help=f"load it in your own code, then {TORCH}")


def _shards(path: Path) -> str | None:
    """For the index of a sharded checkpoint, what it names; None for other text."""
    try:
        listed = sorted(set(json.loads(path.read_bytes()[:MAX_INDEX])["weight_map"].values()))
        missing = [str(name) for name in listed if not (path.parent / str(name)).exists()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return f"missing: {', '.join(missing[:5])}" if missing else f"its shards: {', '.join(map(str, listed[:5]))}"


def kind_of(head: bytes, path: Path) -> tuple[str, str] | None:
    """What the first bytes say the file is, with advice; None when it may be ONNX."""
    if len(head) < 8:
        return ("empty", "check the download") if not head else ("too short to be a model", "check the download")
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the model itself", f"fetch the content: git lfs pull --include {path.name}"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head[0] == 0x80 and head[1] in range(2, 6):
        return "a Python pickle (old PyTorch?), which can run code when loaded", TORCH
    size = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and size < path.stat().st_size:
        return "safetensors: weights without the network", TORCH
    for magic, at, kind, advice in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return kind, advice
    return _text_kind(head)


_MAGIC = (
    (b"\x7fELF", 0, "a program or a library", "give the .onnx file; hasten loads no custom operators"),
    (b"GGUF", 0, "a GGUF language model", "serve it with llama.cpp; hasten needs an ONNX export"),
    (b"\x89HDF\r\n\x1a\n", 0, "HDF5 (a Keras .h5?)", KERAS),
    (
        b"TFL3",
        4,
        "a TensorFlow Lite model",
        "convert it: python -m tf2onnx.convert --tflite in.tflite --output out.onnx",
    ),
    (b"ORTM", 4, "an ORT-format model", "give the .onnx file that it was made from"),
    (b"\x93NUMPY", 0, "a numpy array", "models go first, data after --data"),
    (b"\x1f\x8b", 0, "gzip-compressed", "unpack it: gunzip"),
)


def _zip_kind(path: Path) -> tuple[str, str]:
    try:
        check_directory(path)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:1000]
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, EOFError):
        return "a damaged zip archive", "download or save it again"
    if any(n.endswith("data.pkl") for n in names):
        return "a PyTorch checkpoint (.pt), a pickle that can run code when loaded", TORCH
    if "config.json" in names:
        return "a Keras model (.keras)", KERAS
    if names and all(n.endswith(".npy") for n in names):
        return "an .npz of arrays", "models go first, data after --data"
    return "a zip archive", "unpack it and give the .onnx file inside"


def _text_kind(head: bytes) -> tuple[str, str] | None:
    lower = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if lower.startswith((b"<!doctype", b"<html")):
        return "a web page", "the download went wrong (a log-in page?): fetch the file itself"
    if lower.startswith((b"<?xml", b"<net")):
        return "XML (OpenVINO IR?)", "give the ONNX file that it was made from"
    if all(byte >= 0x20 or byte in b"\r\n\t" for byte in head):
        return "a text file", "give the .onnx file"
    return None


def _why_missing(path: Path, error: OSError) -> str:
    return "it is a link to nothing" if path.is_symlink() else str(error.strerror or error).lower()


def _nearby(path: Path) -> str:
    try:
        siblings = sorted(p.name for p in path.parent.iterdir())
    except OSError:
        return "check the path"
    near = get_close_matches(path.name, siblings, n=1) or [s for s in siblings if s.endswith(".onnx")][:1]
    return f"did you mean {near[0]!r}?" if near else "check the path"
