"""Does the data fit the network? Names, shapes, dtypes, finite values; safe casts are made and told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import permutations
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.model import TensorSpec
from hasten.samples.store import numpy_dtype
from hasten.samples.stream import ONLY, Array

ANY_RANK = "..."  # the only entry of the shape of an input whose rank is not declared


@dataclass
class Fit:
    """Turns items into feeds for ``inputs``; ``stepped`` data has a leading T axis. ``notes`` lists the casts made."""

    inputs: tuple[TensorSpec, ...]
    stepped: bool = False
    notes: dict[str, None] = field(default_factory=dict)  # ordered, each said once

    def feeds(self, arrays: Mapping[str, Array], index: str, once: frozenset[str] = frozenset()) -> dict[str, Array]:
        """One sample as it is fed, in the order of the network's inputs.

        Raises:
            InputError: a name, shape or dtype does not fit.
        """
        arrays = self._named(arrays, index)
        fed: dict[str, Array] = {}
        for spec in self.inputs:
            if spec.name in arrays:
                array = self._cast(arrays[spec.name], spec, index)
                fed[spec.name] = self._shaped(array, spec, index, stepped=self.stepped and spec.name not in once)
        return fed

    def fixed_batch(self, arrays: Mapping[str, Array], index: str, once: frozenset[str]) -> int:
        """How many samples the network takes at a time, where that is fixed above one and ``arrays`` hold one; else 0.

        All inputs that are not given ``once`` must have that first axis.
        """
        each = [spec for spec in self.inputs if spec.name not in once]
        sizes = {spec.shape[0] if spec.shape else None for spec in each}
        size = sizes.pop() if len(sizes) == 1 else None
        if self.stepped or not isinstance(size, int) or size < 2 or all(len(spec.shape) < 2 for spec in each):
            return 0
        named = self._named(arrays, index)
        pairs = [(named[spec.name], len(spec.shape)) for spec in each]
        return size if all(a.ndim == rank - 1 or (a.ndim == rank and len(a) == 1) for a, rank in pairs) else 0

    def _named(self, arrays: Mapping[str, Array], index: str) -> Mapping[str, Array]:
        wanted, got = [s.name for s in self.inputs], list(arrays)
        if len(wanted) == len(got) == 1 and wanted != got:
            if got[0] != ONLY:
                self.notes[f"array {got[0]!r} is fed to the only input, {wanted[0]!r}"] = None
            return {wanted[0]: arrays[got[0]]}
        missing, extra = [n for n in wanted if n not in got], [n for n in got if n not in wanted]
        if not missing and not extra:
            return arrays
        fault = InputError(_mismatch(missing, extra, index), cause=self.both(arrays), help=_names_help(missing, extra))
        fault.missing = missing
        raise fault

    def both(self, arrays: Mapping[str, Array]) -> str:
        """The two signatures, one under the other."""
        data = (TensorSpec(k or "(unnamed)", a.shape, a.dtype.name) for k, a in arrays.items())
        takes, holds = ", ".join(map(str, self.inputs)), ", ".join(map(str, data))
        return f"the network takes {takes}\n         a sample holds    {holds}"

    def _shaped(self, array: Array, spec: TensorSpec, index: str, *, stepped: bool) -> Array:
        steps = int(stepped)
        rank = len(spec.shape)
        if spec.shape == (ANY_RANK,):
            return np.expand_dims(array, steps)
        if array.ndim == rank + steps:
            fed = array
        elif array.ndim == rank + steps - 1:
            fed = np.expand_dims(array, steps)
        else:
            raise InputError(
                f"sample {index}: input {spec} got an array of rank {array.ndim}, shape {list(array.shape)}",
                cause=self.both({spec.name: array}),
                help=_rank_help(array, spec, steps),
            )
        if not fits(fed.shape[steps:], spec):
            raise self._wrong_shape(array, fed.shape[steps:], spec, index)
        return fed

    def _wrong_shape(self, array: Array, fed: tuple[int, ...], spec: TensorSpec, index: str) -> InputError:
        message = f"sample {index}: input {spec} got shape {list(array.shape)}"
        order = _layout(fed, spec)
        if order:
            axes = ", ".join(map(str, order))
            seen = "channels last" if order[1] == len(order) - 1 else "axes in another order"
            return InputError(
                message, cause=f"the data has its {seen}", help=f"reorder it: {spec.name}.transpose({axes})"
            )
        return InputError(
            message, cause=self.both({spec.name: array}), help="resize, pad or cut the data to the network's shape"
        )

    def _cast(self, array: Array, spec: TensorSpec, index: str) -> Array:
        target = numpy_dtype(spec.dtype)
        if array.dtype == target:
            return array
        cast = _safe(array, target)
        if cast is None:
            raise InputError(
                f"sample {index}: input {spec} got {array.dtype.name}",
                cause=f"{array.dtype.name} to {target.name} is not a safe cast of these values",
                help=_dtype_help(array, target, spec.name),
            )
        self.notes[f"input {spec.name!r} is cast from {array.dtype.name} to {target.name}"] = None
        return cast


def fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    """True when every fixed dimension of the input agrees."""
    return len(shape) == len(spec.shape) and all(
        want == got for want, got in zip(spec.shape, shape, strict=True) if isinstance(want, int)
    )


def is_float(dtype: np.dtype[Any]) -> bool:
    """True for numpy's floats and for the narrow ones registered beside them."""
    return dtype.kind == "f" or "float" in dtype.name


def _safe(array: Array, target: np.dtype[Any]) -> Array | None:
    """``array`` as ``target`` when no value changes by more than rounding, else None."""
    if is_float(array.dtype) and is_float(target):
        with np.errstate(over="ignore"):
            cast = array.astype(target)
        return cast if bool((np.isfinite(cast) == np.isfinite(array)).all()) else None
    if array.dtype.kind in "iub" and target.kind in "iub":
        cast = array.astype(target)
        return (
            cast
            if bool((cast.astype(np.int64) == array).all()) and bool((cast >= 0).all() == (array >= 0).all())
            else None
        )
    return None


def _layout(fed: tuple[int, ...], spec: TensorSpec) -> tuple[int, ...] | None:
    """The order of axes (the first stays) that would fit; channels-last and -first are tried before others."""
    rank = len(fed)
    if rank < 3:
        return None
    orders = [(0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)]
    orders += [(0, *p) for p in permutations(range(1, rank))] if rank < 6 else []
    return next((o for o in orders if fits(tuple(fed[i] for i in o), spec)), None)


def _mismatch(missing: Iterable[str], extra: Iterable[str], index: str) -> str:
    parts = [f"no array for input {', '.join(map(repr, missing))}"] if missing else []
    parts += [f"no input is called {', '.join(repr(e or '(unnamed)') for e in extra)}"] if extra else []
    return f"sample {index} does not fit the network: " + "; ".join(parts)


def _names_help(missing: list[str], extra: list[str]) -> str:
    for name in extra:
        if near := get_close_matches(name, missing, n=1, cutoff=0.4):
            return f"rename {name!r} to {near[0]!r}"
    if len(missing) == len(extra) == 1:
        return f"rename {extra[0]!r} to {missing[0]!r}" if extra[0] else "name the arrays after the inputs"
    if extra and not missing:
        return f"leave {extra[0]!r} out, or name it as the labels: --labels {extra[0]}"
    return "name the arrays after the network's inputs"


def _rank_help(array: Array, spec: TensorSpec, steps: int) -> str:
    if array.ndim > len(spec.shape) + steps and 1 in array.shape:
        return f"drop the axis of length one: {spec.name}.squeeze({array.shape.index(1)})"
    axes = "[T, " * steps + "each sample" + "]" * steps
    return f"give {axes} with {len(spec.shape) - 1} axes, or {len(spec.shape)} with a batch axis of one"


def _dtype_help(array: Array, target: np.dtype[Any], name: str) -> str:
    if is_float(target) and array.dtype.kind in "iub":
        scaled = f"({name} / 255).astype('{target.name}')"
        return f"scale it as in training, for example {scaled}; images: --preprocess imagenet"
    return f"convert it where it is made: {name}.astype('{target.name}')"
