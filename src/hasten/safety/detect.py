"""What a file is, judged by its content: a name can be wrong, and a wrong guess should not reach a parser."""

from __future__ import annotations

import json
import stat
import zipfile
from difflib import get_close_matches
from pathlib import Path

from hasten.errors import InputError, UsageError
from hasten.safety import foreign
from hasten.safety.archive import check_directory
from hasten.safety.foreign import JAX, KERAS, TORCH

__all__ = ["HEAD", "JAX", "kind_of", "require_onnx"]

READS = "hasten reads ONNX, PyTorch, Keras, TensorFlow and TensorFlow Lite"
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
        _refuse_folder(path)
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


def _refuse_folder(path: Path) -> None:
    """Say what a folder is. One from a model hub is no model: its code is never run, its weights need their network."""
    known = foreign.folder(path)
    if known is not None:
        raise InputError(f"{path} is {known[0].name}", cause=known[1] or READS, help=known[0].help)
    if (path / "config.json").is_file():
        code = sorted(p.name for p in path.glob("*.py"))[:5]
        cause = f"it brings code of its own ({', '.join(code)}), which is not run" if code else "it holds several files"
        raise InputError(f"{path} is a repository", cause=cause, help=f"load it in your own code, then {TORCH}")
    kind = "a TensorFlow SavedModel" if (path / "saved_model.pb").exists() else "a folder"
    inside = sorted(p.name for p in path.iterdir() if p.suffix in (".onnx", ".tflite", ".keras", ".pt2"))[:3]
    cause = f"it holds {', '.join(inside)}" if inside else READS
    raise InputError(f"{path} is {kind}", cause=cause, help=f"give {path / (inside[0] if inside else 'model.onnx')}")


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
    return _pickle_kind(head, path) or _weights_kind(head, path) or _other_kind(head, path)


def _pickle_kind(head: bytes, path: Path) -> tuple[str, str] | None:
    if known := foreign.pickled(path):
        return known.name, known.help
    if foreign.is_pickle(head):
        return "a Python pickle (old PyTorch?), which can run code when loaded", TORCH
    return ("gzip-compressed", "unpack it: gunzip") if head.startswith(b"\x1f\x8b") else None


def _weights_kind(head: bytes, path: Path) -> tuple[str, str] | None:
    size = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and size < path.stat().st_size:
        return "safetensors: weights without the network", TORCH
    return None


def _other_kind(head: bytes, path: Path) -> tuple[str, str] | None:
    known = foreign.by_magic(head) or foreign.by_text(head)
    if known is None and not _may_be_onnx(head, path):
        known = foreign.by_name(path)
    if known is not None:
        return known.name, known.help
    if all(byte >= 0x20 or byte in b"\r\n\t" for byte in head):
        return "a text file", "give the .onnx file"
    return None


def _may_be_onnx(head: bytes, path: Path) -> bool:
    """ONNX begins with its version, field 1; so do Core ML and SavedModels, which go by their names."""
    saved_model = path.name == "saved_model.pb" and head[1] == 1
    return head[0] == 0x08 and path.suffix.lower() != ".mlmodel" and not saved_model


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
        return "an .npz of arrays", foreign.BESIDE
    if any(n.endswith("com.apple.CoreML/model.mlmodel") for n in names):
        return "a Core ML package", foreign.FIRST
    if "schema.json" in names:
        return "a scikit-learn model (skops)", foreign.SKLEARN
    if "model.ini" in names:
        return "an H2O model (MOJO)", "H2O has no way to ONNX: train it with another tool"
    return "a zip archive", foreign.UNPACK


def _why_missing(path: Path, error: OSError) -> str:
    return "it is a link to nothing" if path.is_symlink() else str(error.strerror or error).lower()


def _nearby(path: Path) -> str:
    try:
        siblings = sorted(p.name for p in path.parent.iterdir())
    except OSError:
        return "check the path"
    near = get_close_matches(path.name, siblings, n=1) or [s for s in siblings if s.endswith(".onnx")][:1]
    return f"did you mean {near[0]!r}?" if near else "check the path"
