"""Networks that live in the caller's program become files: from there on everything happens in workers.

nn.Module            exported on a batch of the caller's data, in the caller's process, where its code is
ExportedProgram      saved
Keras model          saved
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.frontends import exported
from hasten.protocols import Array
from hasten.safety.detect import JAX
from hasten.samples.batches import Batches, apart, first
from hasten.samples.load import Samples
from hasten.samples.peek import peek

LOOK = 8  # batches whose shapes are compared to find the axes that vary
SAME = 1e-4  # of the scale: a module that answers otherwise than its own program is not the same twice
Look = Callable[[object, int], dict[str, Array] | None]
FRAMEWORKS = ("jax", "jaxlib", "flax", "haiku", "equinox")


def as_file(model: object, data: object, folder: Path, look: Look = peek) -> tuple[Path, object]:
    """The path of a network, whatever was given for it, and the data as samples; ``look`` reads the first of them.

    Raises:
        InputError: it is no network that can be written down, or it cannot be exported.
    """
    if isinstance(model, str | Path):
        return Path(model), data
    homes = {base.__module__ for base in type(model).__mro__}
    folder.mkdir(parents=True, exist_ok=True)
    if "torch.nn.modules.module" in homes:
        return _module(model, data, folder, look)
    if "torch.export.exported_program" in homes:
        return _save(model, folder / "program.pt2"), data
    if any(home.startswith("keras.src.models") for home in homes):
        path = folder / f"{getattr(model, 'name', 'model')}.keras"
        model.save(path)  # type: ignore[attr-defined]
        return path, data
    if any(home.partition(".")[0] in FRAMEWORKS for home in homes):
        raise InputError("JAX networks come in as ONNX", cause=f"this is a {type(model).__name__}", help=JAX)
    known = "give a file, an nn.Module, an ExportedProgram or a Keras model; for JAX: " + JAX
    raise InputError(f"cannot read a network from a {type(model).__name__}", help=known)


def _save(program: Any, path: Path) -> Path:
    import torch

    torch.export.save(program, path)
    return path


def _module(module: Any, data: object, folder: Path, look: Look) -> tuple[Path, object]:
    """Export on the first batch (two samples of it at least); axes that vary among the first batches are free."""
    given = isinstance(data, str | Path | Mapping | np.ndarray | Samples) or not isinstance(data, Iterable)
    if given:
        found = look(data, 2)
        if found is None:
            what = f"there is no sample to run {type(module).__name__} with"
            raise InputError(what, help="give a DataLoader, a dict of arrays or an .npz file as data")
        example: exported.Example = [found[""]] if list(found) == [""] else found
        free: dict[int, set[int]] = {}
    else:
        assert isinstance(data, Iterable)
        batches = [apart(b, _arity(module))[0] for b in first(data, LOOK)]
        example, free = _twice(batches[0]), _varying(batches)
    program = exported.export(_on_cpu(module), example, free)
    _check_same(module, program, example)
    names = exported.input_names(program)
    return _save(program, folder / f"{type(module).__name__}.pt2"), data if given else Batches(data, names)  # type: ignore[arg-type]


def _arity(module: Any) -> int:
    """How many inputs ``forward`` demands: what else a batch holds are labels."""
    from inspect import Parameter, signature

    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in signature(module.forward).parameters.values())


def _twice(batch: list[Array] | dict[str, Array]) -> exported.Example:
    """A batch of one is repeated: of one, the tracer makes a constant."""

    def two(array: Array) -> Array:
        return np.repeat(array, 2, 0) if len(array) == 1 else array

    return {k: two(a) for k, a in batch.items()} if isinstance(batch, dict) else [two(a) for a in batch]


def _varying(batches: list[Any]) -> dict[int, set[int]]:
    """By the input's position, axes beside the first that differ from batch to batch."""
    rows = [list(b.values()) if isinstance(b, dict) else b for b in batches]
    found = {}
    for k, columns in enumerate(zip(*rows, strict=True)):
        shapes = {a.shape[1:] for a in columns}
        if len({len(s) for s in shapes}) == 1:
            found[k] = {i + 1 for i, dims in enumerate(zip(*shapes, strict=True)) if len(set(dims)) > 1}
    return found


def _on_cpu(module: Any) -> Any:
    """The module itself where it lies on the CPU, else a copy there."""
    from copy import deepcopy

    devices = {p.device.type for p in (*module.parameters(), *module.buffers())}
    return module if devices <= {"cpu"} else deepcopy(module).cpu()


def _check_same(module: Any, program: Any, example: exported.Example) -> None:
    """Twice the same input, twice the same answer, and the program's is the module's."""
    import torch
    from torch.utils import _pytree as pytree

    tensors = [exported.as_tensor(a) for a in (example.values() if isinstance(example, Mapping) else example)]
    keywords = dict(zip(example, tensors, strict=True)) if isinstance(example, Mapping) else {}
    arguments = () if keywords else tensors
    with torch.inference_mode(), exported.evaluating(module):
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        moved = pytree.tree_map(lambda t: t.to(device), (arguments, keywords))
        wanted = pytree.tree_leaves(module(*moved[0], **moved[1]))
        got = pytree.tree_leaves(program.module(check_guards=False)(*arguments, **keywords))
    for a, b in zip(wanted, got, strict=True):
        if isinstance(a, torch.Tensor) and a.is_floating_point():
            scale = max(float(a.abs().max()), 1e-6)
            error = float((a.cpu() - b).abs().max()) / scale
            if not error <= SAME:
                what = f"{type(module).__name__} answers otherwise than its exported program"
                cause = f"by {error:.1e} of the scale: random, or dependent on the data"
                raise InputError(what, cause=cause, help="make it deterministic in evaluation mode")
