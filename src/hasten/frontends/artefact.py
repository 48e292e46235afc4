"""A network that hasten wrote once, and that anybody may have changed since: checked again before a runtime loads it.

It passes the check of its format, as a network at the front door does, but it is not converted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hasten.engines.allowed import native
from hasten.errors import InputError
from hasten.frontends import keras
from hasten.protocols import Door
from hasten.safety import savedmodel
from hasten.safety.openvino_ir import check_ir
from hasten.safety.program import check_program
from hasten.safety.walk import check_onnx
from hasten.trial import Scalar

Check = Callable[[Path, Path, Mapping[str, Scalar]], Path]


def checked(engine: str, path: str, directory: str, settings: Mapping[str, Scalar], trust: bool) -> str:
    """The file that ``engine`` may load: the copy ``path`` itself, or one packed anew in ``directory``. In a worker.

    Raises:
        InputError: it is damaged, of another format, or could run code and ``trust`` is false.
    """
    copy, folder = Path(path), Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    if trust and (native(engine, settings) or engine not in CHECKS):
        return path
    if native(engine, settings):
        cause = "it holds a compiled library, which runs as soon as it is loaded"
        raise InputError(f"{copy.name} holds native code", cause=cause, help="--trust, if the result is yours")
    return str(CHECKS.get(engine, _onnx)(copy, folder, settings))


def _onnx(path: Path, folder: Path, settings: Mapping[str, Scalar]) -> Path:
    check_onnx(path)
    return path


def _openvino(path: Path, folder: Path, settings: Mapping[str, Scalar]) -> Path:
    if path.suffix != ".xml":
        return _onnx(path, folder, settings)
    check_ir(path)
    return path


def _tflite(path: Path, folder: Path, settings: Mapping[str, Scalar]) -> Path:
    from hasten.frontends.tflite_reader import read

    read(path)
    return path


def _program(path: Path, folder: Path, settings: Mapping[str, Scalar]) -> Path:
    target = folder / "program.pt2"
    check_program(path, target)
    return target


def _savedmodel(path: Path, folder: Path, settings: Mapping[str, Scalar]) -> Path:
    contents = savedmodel.read(path)
    asked = settings.get("signature")
    savedmodel.check(contents, savedmodel.choose(contents, str(asked) if asked else None, path.name), path.name)
    return path


def _keras(path: Path, folder: Path, settings: Mapping[str, Scalar]) -> Path:
    return keras.checked(path, Door(folder=folder, trust=bool(settings.get("trust"))))


CHECKS: Mapping[str, Check] = {
    "onnxruntime": _onnx,
    "openvino": _openvino,
    "litert": _tflite,
    "torch": _program,
    "keras": _keras,
    "tensorflow": _savedmodel,
}
