"""PyTorch: exported programs (``.pt2``), state dicts with the module that they belong to, and what runs code.

.pt2                      read as data: checked, packed anew, then loaded
.pt, .pth of tensors      read with ``weights_only=True``, put into the module that ``--module`` makes
pickled modules           run code when they are loaded: only with ``--trust``, in the worker
TorchScript               runs code when it is run: likewise
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import InputError, UsageError
from hasten.frontends import exported
from hasten.frontends.extras import quiet_torch
from hasten.model import Model
from hasten.protocols import Door
from hasten.safety import archive as archives
from hasten.safety import foreign, safetensors
from hasten.safety.program import TRUST, check_program, refusal

NEEDS_MODULE = "say what builds the network: --module package.module:function"
NEEDS_EXAMPLE = "let the function of --module return a pair: the module, and a tuple of example inputs"
NESTED = ("state_dict", "model_state_dict", "model", "net")


def accepts(path: Path) -> bool:
    """True for what torch saves, old and new, and for safetensors."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK"):
        return bool(kind(archives.names(path)))
    return (_is_pickle(head) and foreign.pickled(path) is None) or safetensors.looks_so(head, path.stat().st_size)


def _is_pickle(head: bytes) -> bool:
    return len(head) > 2 and head[0] == 0x80 and head[1] in range(2, 6)


def kind(names: list[str]) -> str:
    """What a zip by torch is: "program", "compiled", "script", "package", "checkpoint"; empty for other archives."""
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("models/") and name.endswith(".json") for name in inner) or "archive_format" in inner:
        return "compiled" if any(name.startswith("data/aotinductor/") for name in inner) else "program"
    if "serialized_exported_program.json" in names:
        return "old program"
    if any(name.endswith((".data/extern_modules", ".data/python_version")) for name in names):
        return "package"
    if any(name.startswith("code/") for name in inner) and "constants.pkl" in inner:
        return "script"
    return "checkpoint" if any(name.endswith("data.pkl") for name in names) else ""


def load(path: Path, options: Door) -> Model:
    """The file as a graph; beside it ``options.folder/program.pt2``, which torch serves.

    Raises:
        InputError: it is damaged, could run code, or lacks its module; the message names the option.
        EnvironmentFault: torch is missing.
    """
    target = options.folder / "program.pt2"
    with path.open("rb") as file:
        head = file.read(16)
    is_zip = head.startswith(b"PK")
    found = kind(archives.names(path)) if is_zip else "checkpoint" if _is_pickle(head) else "safetensors"
    if found == "safetensors" and options.module is None:
        raise InputError(f"{path.name} needs its module", cause="it holds weights and no network", help=NEEDS_MODULE)
    torch = quiet_torch()
    if found == "program":
        if options.trust:
            os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)
            program = _read(lambda: torch.export.load(path), path)
            program._guards_code = []
        else:
            check_program(path, target)
            program = read_program(target, path)
    else:
        program = _plain_convolutions(exported.export(*_module(path, found, options, torch)), torch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, target)
    return exported.converted(program, options.folder, target)


def _plain_convolutions(program: Any, torch: Any) -> Any:
    """A traced TorchScript calls convolutions by an inner name, which ONNX export does not know."""
    for node in program.graph.nodes:
        if node.target == torch.ops.aten._convolution.default:
            node.target, node.args = torch.ops.aten.convolution.default, node.args[:9]
    program.graph_module.recompile()
    return program


def read_program(path: Path, named: Path | None = None) -> Any:
    """A program from a file that ``check_program`` wrote. Guards are dropped: they are code, and they cost time.

    Raises:
        InputError: torch cannot read it; the message speaks of the file ``named``.
    """
    torch = quiet_torch()
    program = _read(lambda: _loaded(torch, path), named or path)
    program._guards_code = []
    return program


def _loaded(torch: Any, path: Path) -> Any:
    program = torch.export.load(path)
    if not program.module_call_graph or program.module_call_graph[0].fqn != "":
        raise ValueError("its first module is not the whole")  # torch itself finds out when it is unlifted
    return program


def _read(read: Any, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Exception as error:  # torch raises whatever it meets in a damaged file
        if "Weights only load failed" in str(error):
            raise refusal(path, "it holds a pickle of more than tensors") from error
        cause = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise InputError(f"{path.name} cannot be read by torch", cause=cause, help=archives.AGAIN) from error


def _module(path: Path, found: str, options: Door, torch: Any) -> tuple[Any, exported.Example]:
    """The module of a file that does not hold a program, and inputs to run it with."""
    if found == "compiled":
        cause = "it is a compiled library for one machine (AOTInductor)"
        raise InputError(f"{path.name} cannot be optimised", cause=cause, help=exported.EXPORT_BY_HAND)
    if found in ("old program", "package"):
        cause = "torch 2.7 and older saved programs so" if found == "old program" else "it is a torch.package of code"
        raise InputError(f"{path.name} cannot be read", cause=cause, help=exported.EXPORT_BY_HAND)
    if found == "script":
        return _script(path, options, torch)
    held = _tensors(path, found, options, torch)
    if isinstance(held, torch.nn.Module):
        return held, _example(options, None)
    return _filled(_state(held, path), path, options)


def _script(path: Path, options: Door, torch: Any) -> tuple[Any, exported.Example]:
    if not options.trust:
        raise refusal(path, "it is TorchScript: a program that may also read and write files")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = _read(lambda: torch.jit.load(path, map_location="cpu"), path)
    return _Scripted.around(script), _example(options, None)


class _Scripted:
    """TorchScript is not exported directly: a wrapper is traced through."""

    @staticmethod
    def around(script: Any) -> Any:
        import torch

        class Scripted(torch.nn.Module):  # type: ignore[misc,unused-ignore]
            def __init__(self) -> None:
                super().__init__()
                self.held = [script]  # its weights are no Parameters: in a list they are traced as constants

            def forward(self, *inputs: Any) -> Any:
                return self.held[0](*inputs)

        return Scripted()


def _tensors(path: Path, found: str, options: Door, torch: Any) -> Any:
    """What the file holds: tensors by a safe load, or with ``--trust`` whatever it unpickles to."""
    if found == "safetensors":
        return {name: torch.from_numpy(array) for name, array in safetensors.read(path).items()}
    if is_zip := found == "checkpoint" and path.open("rb").read(2) == b"PK":
        with archives.opened(path):
            pass
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if not options.trust:
            text = str(error)
            if "nsupported" in text or "WeightsUnpickler" in text or not is_zip:
                raise refusal(path, "it is a pickle of more than tensors") from error
            raise InputError(
                f"{path.name} is damaged", cause=text.splitlines()[0][:300], help=archives.AGAIN
            ) from error
    os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)
    if options.module:
        import_module(options.module.partition(":")[0])
    return _read(lambda: torch.load(path, map_location="cpu", weights_only=False), path)


def _state(held: Any, path: Path) -> dict[str, Any]:
    """The state dict in what was loaded, also one level down, as trainers save it."""
    import torch

    for key in NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not any(isinstance(v, torch.Tensor) for v in held.values()):
        what = f"{path.name} holds a {type(held).__name__}, not a network"
        raise InputError(what, help="save the network's state dict, or an exported program")
    tensors = {str(k): v for k, v in held.items() if isinstance(v, torch.Tensor)}
    prefix = "module."
    return (
        {k.removeprefix(prefix): v for k, v in tensors.items()}
        if all(k.startswith(prefix) for k in tensors)
        else tensors
    )


def _filled(state: dict[str, Any], path: Path, options: Door) -> tuple[Any, exported.Example]:
    if options.module is None:
        cause = f"it holds {len(state)} tensors and no network"
        raise InputError(f"{path.name} needs its module", cause=cause, help=NEEDS_MODULE)
    made = factory(options.module)()
    module, inputs = made if isinstance(made, tuple) else (made, None)
    try:
        module.load_state_dict(state)
    except Exception as error:
        lines = " ".join(line.strip() for line in str(error).splitlines()[:4])[:400]
        what = f"the weights of {path.name} do not fit {options.module}"
        raise InputError(what, cause=lines, help="let --module make the network that was trained") from error
    return module, _example(options, inputs)


def factory(name: str) -> Any:
    """The function behind ``package.module:function``.

    Raises:
        UsageError: it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"no function {name!r}", cause=str(error), help="write --module package.module:function"
        ) from error


def _example(options: Door, given: Any) -> exported.Example:
    """Inputs to trace the module with: the factory's, else two samples of the user's data."""
    if given is not None:
        inputs = given if isinstance(given, tuple | list) else (given,)
        return [np.repeat(a, 2, 0) if len(a) == 1 else a for a in map(np.asarray, inputs)]
    if options.example is None:
        raise InputError("the network does not say what it takes", cause="no sample to run it with", help=NEEDS_EXAMPLE)
    with np.load(options.example, allow_pickle=False) as arrays:
        found = dict(arrays)
    return [found[""]] if list(found) == [""] else found


__all__ = ["TRUST", "accepts", "load"]
