"""How far answers differ: shapes, types, NaN, infinities, and the largest difference against an output's scale.

Every gate that says "the same" (exact rewrites, conversion, lossless settings, the proof, the kits) compares here.
A ``Difference`` adds up over samples, so that the scale of an output is taken over all samples that were compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LEAST_SCALE = 1e-6  # an output that is all but zero is measured against this


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What was found when the answers of one output were compared.

    Numbers with a fraction are measured by their size; whole numbers, truth values and text are the same or are not.
    """

    elements: int = 0
    unlike: str = ""  # a shape or a kind of value that differs, in words; such arrays are not compared any further
    retyped: str = ""  # another type of the same kind, such as int32 for int64
    nans: int = 0  # NaN on one side only
    infinities: int = 0  # infinite on one side only, or with the other sign
    differing: int = 0  # elements that are not the same; NaN is the same as NaN
    counted: int = 0  # whole numbers, truth values and text
    miscounted: int = 0  # those of them that differ
    absolute: float = 0.0  # the largest difference of finite numbers
    scale: float = 0.0  # the largest finite number of the old answers
    squared: float = 0.0  # the sum of squared differences of finite numbers
    energy: float = 0.0  # the sum of squares of the old ones

    def __add__(self, other: Difference) -> Difference:
        """Both together: counts and squares add up, the largest stay, the first words stay."""
        mine = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Difference(**{n: max(a, b) if n in _LARGEST else a or b if n in _WORDS else a + b
                             for n, (a, b) in mine.items()})  # fmt: skip

    @property
    def broken(self) -> bool:
        """True where no number says how far: another shape or kind, a new NaN or a new infinity."""
        return bool(self.unlike or self.nans or self.infinities)

    @property
    def relative(self) -> float:
        """The largest difference as a share of the scale; infinite where a shape, a NaN or an infinity differs."""
        return inf if self.broken else self.absolute / max(self.scale, LEAST_SCALE)

    @property
    def mean_relative(self) -> float:
        """The root of the mean squared difference as a share of that of the answers; infinite like ``relative``."""
        if self.broken or not 0 < self.energy < inf:
            return self.relative
        return sqrt(self.squared / self.energy)

    @property
    def share(self) -> float:
        """The share of whole numbers, truth values and text that differs."""
        return 1.0 if self.unlike else self.miscounted / self.counted if self.counted else 0.0


_LARGEST, _WORDS = ("absolute", "scale"), ("unlike", "retyped")
NOTHING = Difference()
MISSING = Difference(unlike="it is missing")


def compare(old: Array, new: Array) -> Difference:
    """Compare two arrays."""
    old, new = np.asarray(old), np.asarray(new)
    if old.shape != new.shape:
        return Difference(elements=old.size, unlike=f"its shape is {list(new.shape)} in place of {list(old.shape)}")
    kinds = kind(old.dtype), kind(new.dtype)
    if kinds[0] != kinds[1]:
        return Difference(elements=old.size, unlike=f"its type is {new.dtype} in place of {old.dtype}")
    textual = kinds[0] == "text"
    retyped = "" if textual or old.dtype == new.dtype else f"{new.dtype} in place of {old.dtype}"
    if kinds[0] == "number":
        return _numbers(old, new, retyped)
    a, b = (old.astype(str), new.astype(str)) if textual else (old, new)
    different = int(np.count_nonzero(a != b))
    return Difference(
        elements=old.size, retyped=retyped, differing=different, counted=old.size, miscounted=different
    )  # fmt: skip


def kind(dtype: np.dtype[Any]) -> str:
    """``number`` (with a fraction, complex ones too), ``whole``, ``truth`` or ``text``."""
    known = {"f": "number", "c": "number", "i": "whole", "u": "whole", "b": "truth"}
    return known.get(dtype.kind) or ("number" if "float" in dtype.name else "text")  # bfloat16 is of no kind of numpy's


def _numbers(old: Array, new: Array, retyped: str) -> Difference:
    wide = np.complex128 if "c" in (old.dtype.kind, new.dtype.kind) else np.float64
    a, b = old.astype(wide), new.astype(wide)
    no_number = np.isnan(a) != np.isnan(b)
    endless = ~np.isnan(a) & ~np.isnan(b) & (np.isinf(a) | np.isinf(b)) & (a != b)
    finite = np.isfinite(a) & np.isfinite(b)
    far = np.abs(a[finite] - b[finite])
    large = np.abs(a[np.isfinite(a)])
    with np.errstate(over="ignore"):  # a difference of the largest numbers may square to infinity; so it is large
        squared, energy = float(np.square(far).sum()), float(np.square(np.abs(a[finite])).sum())
    return Difference(
        elements=a.size, retyped=retyped, nans=int(no_number.sum()), infinities=int(endless.sum()),
        differing=int(no_number.sum() + endless.sum() + np.count_nonzero(far)),
        absolute=float(far.max(initial=0.0)), scale=float(large.max(initial=0.0)), squared=squared, energy=energy,
    )  # fmt: skip


def across(old: Sequence[Array], new: Sequence[Array]) -> Difference:
    """Compare one output over several samples."""
    found = sum((compare(a, b) for a, b in zip(old, new, strict=False)), NOTHING)
    return found if len(old) == len(new) else found + MISSING


def outputs(
    old: Sequence[Sequence[Array]], new: Sequence[Sequence[Array]], names: Sequence[str]
) -> dict[str, Difference]:
    """Compare every output by name: a list of outputs for each sample on both sides."""
    found = dict.fromkeys(names, NOTHING)
    for one, other in zip(old, new, strict=True):
        found = joined(found, sample(one, other, names))
    return found


def sample(old: Sequence[Array], new: Sequence[Array], names: Sequence[str]) -> dict[str, Difference]:
    """Compare the outputs of one sample; one that is missing, or that there are too many of, is a difference."""
    both = min(len(old), len(new))
    found = {name: compare(old[k], new[k]) if k < both else MISSING for k, name in enumerate(names)}
    if len(new) > len(old):
        found[names[-1]] += Difference(unlike=f"there are {len(new)} outputs in place of {len(old)}")
    return found


def joined(first: Mapping[str, Difference], second: Mapping[str, Difference]) -> dict[str, Difference]:
    """The differences of more samples added, output by output."""
    return {name: first.get(name, NOTHING) + second[name] for name in second}


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How much may differ, and why so much.

    ``mean`` and ``relative`` are shares of an output's own size: the root of the mean squared difference, and the
    largest. ``share`` is of whole numbers, truth values and text.
    """

    name: str
    mean: float
    relative: float
    share: float = 0.0
    same_types: bool = True
    reason: str


FLOAT32 = Tolerance(
    name="float32 rounding", mean=6e-5, relative=2e-3,
    reason="sums in another order: engines differ by at most 3.3e-5 in the mean, float16 by at least 8.7e-5, while the "
    "largest difference does not tell them apart (docs/decisions/0017)",
)  # fmt: skip
FLOAT16 = Tolerance(
    name="float16 rounding", mean=5e-3, relative=0.1, share=0.01,
    reason="a network that is in float16 itself rounds every tensor to 2^-11; engines choose which",
)  # fmt: skip
BFLOAT16 = Tolerance(
    name="bfloat16 rounding", mean=4e-2, relative=0.5, share=0.01,
    reason="a network that is in bfloat16 itself rounds every tensor to 2^-8; engines choose which",
)  # fmt: skip
CONVERTED = Tolerance(
    name="conversion", mean=3e-4, relative=5e-3, share=0.01, same_types=False,
    reason="frameworks differ in their exp and tanh besides; ties of an argmax may fall either way",
)  # fmt: skip
QUANTIZED = Tolerance(
    name="quantized conversion", mean=5e-2, relative=0.1, share=0.01, same_types=False,
    reason="a network that is in integers itself may round the other way here and there",
)  # fmt: skip
ROUNDING = {"float32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}


def rounding_of(arithmetic: str) -> Tolerance:
    """What engines may differ by where a network is in ``arithmetic`` itself; float32 for every other type."""
    return ROUNDING.get(arithmetic, FLOAT32)


def problem(difference: Difference, tolerance: Tolerance) -> str:
    """Why the answers are not the same within ``tolerance``, in words that follow an output's name; else empty."""
    if difference.unlike:
        return difference.unlike
    if difference.nans:
        return f"NaN on one side only in {difference.nans:,} of {difference.elements:,} numbers"
    if difference.infinities:
        return f"infinite on one side only in {difference.infinities:,} of {difference.elements:,} numbers"
    if difference.retyped and tolerance.same_types:
        return f"its type is {difference.retyped}"
    if difference.share > tolerance.share:
        return f"{difference.miscounted:,} of its {difference.counted:,} values differ"
    if not difference.mean_relative <= tolerance.mean:
        return (
            f"it differs by {difference.mean_relative:.1e} of its size, {tolerance.name} by {tolerance.mean:g} at most"
        )
    if not difference.relative <= tolerance.relative:
        return f"a number differs by {difference.relative:.1e} of the largest, by {tolerance.relative:g} at most"
    return ""


def first_problem(differences: Mapping[str, Difference], tolerance: Tolerance) -> str:
    """The worst output and why it is not the same, in words; empty where all are."""
    found = {name: why for name, one in differences.items() if (why := problem(one, tolerance))}
    if not found:
        return ""
    name = max(found, key=lambda n: (differences[n].broken, differences[n].share, differences[n].relative))
    return f"output {name!r}: {found[name]}"
