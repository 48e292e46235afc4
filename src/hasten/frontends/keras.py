"""Keras: ``.keras`` archives without TensorFlow, through Keras' torch backend.

.keras of plain layers                read as data: checked, packed anew, then loaded
Lambda layers, custom code, .h5       run code when they are loaded: only with ``--trust``, in the worker
"""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import HastenError, InputError, UsageError
from hasten.frontends import exported
from hasten.frontends.extras import need, quiet_torch
from hasten.model import Model, Origin
from hasten.protocols import Array, Door
from hasten.safety import archive as archives
from hasten.safety.keras_config import check_keras, check_weights, refusal
from hasten.trial import Scalar

HDF5 = b"\x89HDF\r\n\x1a\n"
LARGEST = 1 << 31  # elements of an input
SOME = 8  # length of a free axis in the example that is traced


def accepts(path: Path) -> bool:
    """True for a Keras archive and for HDF5, which old Keras wrote."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PK"):
        names = set(archives.names(path))
        return {"config.json", "metadata.json"} <= names or {"config.json", "model.weights.h5"} <= names
    return head == HDF5


def load(path: Path, options: Door) -> Model:
    """The file as a graph; beside it ``model.keras``, which Keras serves, and the program that torch serves.

    Raises:
        InputError: it is damaged, could run code, or has no fixed inputs. EnvironmentFault: Keras or torch is missing.
    """
    safe = checked(path, options)
    keras = start_keras("torch", options.folder)
    torch = quiet_torch()
    model = read_model(keras, safe, options.trust, options.module)
    if safe.suffix == ".h5":
        safe = options.folder / "model.keras"
        model.save(safe)
    module, example, free = traced(model)
    program = exported.export(module, example, free)
    file = options.folder / "program.pt2"
    torch.export.save(program, file)
    graph = exported.graph(program, options.folder)
    settings: dict[str, Scalar] = {"trust": True} if options.trust else {}
    if options.trust and options.module:
        settings["module"] = options.module
    origin = Origin("keras", str(safe), "keras", settings, {"torch": str(file)})
    return Model(graph.graph, graph.inputs, graph.outputs, origin)


def checked(path: Path, options: Door) -> Path:
    """A file that may be loaded: the archive packed anew, or with ``--trust`` the file itself."""
    with path.open("rb") as file:
        legacy = file.read(8) == HDF5
    if legacy and not options.trust:
        raise refusal(path, "it is a legacy HDF5 model, for which Keras has no safe mode")
    target = options.folder / ("given.h5" if legacy else "model.keras")  # Keras goes by the name
    if options.trust:
        shutil.copyfile(path, target)
        return target
    check_keras(path, target)
    h5py = need("h5py", "keras", "Keras files")
    with zipfile.ZipFile(target) as archive:
        weights = archive.read("model.weights.h5")
    try:
        with h5py.File(io.BytesIO(weights), "r") as opened:
            check_weights(opened, path, len(weights))
    except HastenError:
        raise
    except Exception as error:  # h5py, too: an OverflowError for an address behind the end
        raise InputError(f"{path.name} has damaged weights", cause=str(error)[:200], help=archives.AGAIN) from error
    return target


def start_keras(backend: str, home: Path) -> Any:
    """Keras on ``backend``, with its settings in ``home`` instead of the user's.

    Raises:
        EnvironmentFault: it is missing or too old.
    """
    os.environ.update(KERAS_BACKEND=backend, KERAS_HOME=str(home / ".keras"), TF_CPP_MIN_LOG_LEVEL="3")
    if backend == "torch":
        need("torch", "keras", "Keras files")
    return need("keras", "keras", "Keras files")


def read_model(keras: Any, path: Path, trust: bool, module: str | None) -> Any:
    """The model, uncompiled.

    Raises:
        InputError: Keras cannot load it. UsageError: the module of custom layers cannot be imported.
    """
    if module:
        try:
            import_module(module.partition(":")[0])
        except ImportError as error:
            raise UsageError(f"no module {module!r}", cause=str(error), help="write --module package.module") from error
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except Exception as error:  # Keras raises whatever it meets
        cause = " ".join(str(error).split())[:300]
        help_text = "custom layers need --module package.module" if trust else archives.AGAIN
        raise InputError(f"{path.name} cannot be loaded by Keras", cause=cause, help=help_text) from error


def input_names(model: Any) -> list[str]:
    """The names of a model's inputs as Python names, in order.

    Raises:
        InputError: it has no fixed inputs.
    """
    try:
        return [re.sub(r"\W", "_", str(tensor.name)) for tensor in model.inputs]
    except (AttributeError, TypeError, ValueError) as error:
        what = f"the model {type(model).__name__} has no fixed inputs"
        raise InputError(what, cause="a subclassed model", help="save a Functional or Sequential model") from error


def packed(keras: Any, model: Any, flat: Sequence[Any]) -> Any:
    """Inputs in the structure in which the model takes them."""
    struct = getattr(model, "_inputs_struct", None)
    if struct is None:
        return flat[0] if len(flat) == 1 else list(flat)
    return keras.tree.pack_sequence_as(struct, list(flat))


def traced(model: Any) -> tuple[Any, list[Array], dict[int, set[int]]]:
    """The model as a torch module whose inputs have its names, example inputs, and the axes that are free."""
    import keras
    import torch

    names = input_names(model)

    class Network(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *flat: Any) -> Any:
            return self.model(packed(keras, self.model, flat), training=False)

    places = [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in ("self", *names)]
    Network.forward.__signature__ = Signature(places)  # type: ignore[attr-defined]
    random = np.random.default_rng(0)
    example, free = [], {}
    for position, tensor in enumerate(model.inputs):
        shape = [2 if axis == 0 else d or SOME for axis, d in enumerate(tensor.shape)]
        if math.prod(shape) > LARGEST:
            what = f"the input {tensor.name!r:.80} has the shape {list(tensor.shape)}"
            raise InputError(what, cause="that is beyond all memory", help=archives.AGAIN)
        is_float = "float" in str(tensor.dtype)
        example.append(random.random(shape, np.float32) if is_float else np.ones(shape, str(tensor.dtype)))
        free[position] = {axis for axis, d in enumerate(tensor.shape) if d is None}
    return Network(), example, free
