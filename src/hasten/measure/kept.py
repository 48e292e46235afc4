"""Whether a changed network keeps what each output is: a share of its variance, or of its decisions, with a bound.

For each sample and each part of an output there are two numbers: what the changed network loses there, and what the
best constant answer loses. Over the samples, the first may be at most ``LIMIT`` times the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from hasten.compare import compare, kind
from hasten.measure import means
from hasten.measure.gaffke import gaffke_p, gaffke_upper
from hasten.measure.kinds import DECISIONS, LISTED, WHOLE, YES_OR_NO, as_corners
from hasten.measure.outputs import Output, columns, decisions, real, values
from hasten.measure.proportions import clopper_pearson_lower, clopper_pearson_upper
from hasten.protocols import Array

F64 = NDArray[np.float64]
LIMIT = 0.25  # of what a constant loses: a constant loses all of it, int8 with calibrated ranges mostly a twentieth
FLAT = 0.05  # of its size: what a constant column may move by, in place of a spread
FEW = 20  # samples, below which there is no bound and the estimate decides
ROUGH = 2.0  # times the limit: what so few samples must show before they refuse
MOST_CLASSES = 1000  # that are judged one by one


@dataclass(frozen=True, kw_only=True)
class Part:
    """What became of one part of an output: the share lost of what a constant loses, with bounds.

    ``bounded`` parts must be shown to lose at most ``LIMIT``; the others are refused where they certainly lose more.
    """

    output: str
    name: str  # a column or a class; empty for the whole output
    share: float
    lower: float
    upper: float
    bounded: bool
    words: str = ""  # what is wrong beside a share

    @property
    def spoilt(self) -> bool:
        """True where more than the limit is certainly lost."""
        return bool(self.words) or self.lower > LIMIT

    @property
    def kept(self) -> bool:
        """True where at most the limit is lost, as surely as the part allows."""
        return not self.spoilt and (not self.bounded or self.upper <= LIMIT)

    def __str__(self) -> str:
        """``control[0] lost 0.03 of what a constant would, at most 0.05``."""
        place = f"{self.output}{self.name}"
        if self.words:
            return f"{place} {self.words}"
        bound = f", at most {self.upper:.2g}" if self.upper < inf else ""
        return f"{place} lost {self.share:.2g} of what a constant answer would{bound} (allowed {LIMIT:g})"


@dataclass
class Tally:
    """The losses of one output over samples, as they come in."""

    output: Output
    lost: list[F64] = field(default_factory=list)
    constant: list[F64] = field(default_factory=list)
    unlike: int = 0  # samples with another shape or type
    broken: int = 0  # samples with a new NaN or infinity

    def add(self, old: Array, new: Array) -> None:
        """One sample's answers, of the network as given and of the changed one."""
        old, new = np.asarray(old), np.asarray(new)
        shaped = self.output.kind == LISTED and old.ndim == new.ndim
        if kind(old.dtype) != kind(new.dtype) or (old.shape != new.shape and not shaped):
            self.unlike += 1
            return
        if old.shape == new.shape and kind(old.dtype) == "number" and compare(old, new).broken:
            self.broken += 1
            return
        lost, constant = losses(self.output, old, new)
        self.lost.append(lost)
        self.constant.append(constant)

    def parts(self, alpha: float, groups: NDArray[np.int64] | None = None) -> list[Part]:
        """What became of each part. ``groups`` [samples] hold one number for samples that belong together."""
        count = len(self.lost) + self.unlike + self.broken
        if self.broken:
            return [self._wrong("answers NaN or infinity where the network does not")]
        if self.unlike > LIMIT * count:
            return [self._wrong(f"has another shape or type on {self.unlike} of {count} samples")]
        if not self.lost:
            return []
        lost, constant = np.stack(self.lost), np.stack(self.constant)
        usable = groups if groups is not None and len(groups) == len(lost) else None
        return [
            _part(self.output.name, name, lost[:, k], constant[:, k], alpha, usable, bounded=bounded)
            for k, (name, bounded) in enumerate(part_names(self.output))
            if lost[:, k].any() or constant[:, k].any()
        ]

    def _wrong(self, words: str) -> Part:
        return Part(output=self.output.name, name="", share=inf, lower=inf, upper=inf, bounded=True, words=words)


def part_names(output: Output) -> list[tuple[str, bool]]:
    """The parts of an output in the order of ``losses``, and whether each must have a bound."""
    if output.kind == WHOLE:
        each = [(f"={value}", False) for value in output.classes[:MOST_CLASSES]]
        return [("", True), *each]
    if output.kind in DECISIONS:
        each = [(f" class {k}", False) for k in range(_class_count(output))]
        scores = [(" (scores)", True)] if len(output.spreads) == 1 else _by_column(output)
        return [(" (decisions)", True), *each, *scores]
    named = [("", True)] if len(output.spreads) == 1 else _by_column(output)
    return [*named, *([(" (overlap)", True)] if output.kind == "boxes" else [])]


def _by_column(output: Output) -> list[tuple[str, bool]]:
    return [(f"[{k}]", True) for k in range(len(output.spreads))]


def losses(output: Output, old: Array, new: Array) -> tuple[F64, F64]:
    """What the changed network and what a constant lose on one sample, part by part."""
    if output.kind == WHOLE:
        a, b = (x.reshape(-1).astype(str) for x in (old, new))
        index = {value: k for k, value in enumerate(output.classes)}
        first = np.asarray([index.get(v, len(index)) for v in a.tolist()])
        return _decided(first, a != b, output.commonest, min(len(output.classes), MOST_CLASSES))
    if output.kind in DECISIONS:
        first = decisions(output, old).reshape(-1)
        changed = decisions(output, new).reshape(-1) != first
        lost, constant = _decided(first, changed, output.commonest, _class_count(output))
        more, most = _squared(output, values(output, old), values(output, new))
        return np.concatenate([lost, more]), np.concatenate([constant, most])
    lost, constant = _squared(output, values(output, old), values(output, new))
    if output.kind != "boxes":
        return lost, constant
    return np.append(lost, _overlap_lost(output, real(old), real(new))), np.append(constant, 1.0)


def _decided(first: NDArray[np.int64], changed: NDArray[np.bool_], commonest: int, classes: int) -> tuple[F64, F64]:
    """Of all decisions but the commonest, then of each class: the shares of positions that changed, and of all."""
    there = np.bincount(first, minlength=classes + 1).astype(np.float64)
    gone = np.bincount(first[changed], minlength=len(there)).astype(np.float64)
    size = max(len(first), 1)
    rest = [x.sum() - (x[commonest] if commonest < len(x) else 0.0) for x in (gone, there)]
    return np.append(rest[0], gone[:classes]) / size, np.append(rest[1], there[:classes]) / size


def _class_count(output: Output) -> int:
    if output.kind in YES_OR_NO:
        return 2
    axis = output.axis or 0
    count = output.center.shape[axis - 1] if output.center.ndim >= axis > 0 else 0
    return count if count <= MOST_CLASSES else 0


def _squared(output: Output, old: F64, new: F64) -> tuple[F64, F64]:
    """Squared errors, and squared distances from the constant answer; of constant columns, what they may move by."""
    center = output.center
    fits = center.ndim == 0 or np.broadcast_shapes(center.shape, old.shape[1:]) == old.shape[1:]
    a, b = columns(output, old), columns(output, new)
    off = columns(output, old - center) if fits else a - a.mean(0)
    usable = np.isfinite(a) & np.isfinite(b)
    count = np.maximum(usable.sum(0), 1)
    lost = np.square(np.where(usable, b - a, 0.0)).sum(0) / count
    constant = np.square(np.where(usable, off, 0.0)).sum(0) / count
    floor = np.square(FLAT * np.where(output.sizes > 0, output.sizes, float(output.sizes.max(initial=0.0))))
    if len(floor) != len(lost):
        return lost, constant
    return lost, np.where(output.still, floor / LIMIT, constant)


def _overlap_lost(output: Output, old: F64, new: F64) -> float:
    """One minus the intersection over union of each box with its old place, weighted by its score."""
    a, b = (np.moveaxis(x, output.axis or 2, -1).reshape(-1, x.shape[output.axis or 2]) for x in (old, new))
    weight = np.square(a[:, 4:].max(1)) if a.shape[1] > 4 else np.ones(len(a))
    one, other = as_corners(a[:, :4]), as_corners(b[:, :4])
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    inner = np.prod(np.maximum(high - low, 0.0), axis=1)
    areas = [np.prod(np.maximum(x[:, 2:] - x[:, :2], 0.0), axis=1) for x in (one, other)]
    union = areas[0] + areas[1] - inner
    overlap = np.where(union > 0, inner / np.where(union > 0, union, 1.0), 1.0)
    return float(np.sum(weight * (1 - overlap)) / weight.sum()) if weight.sum() > 0 else 0.0


def _part(
    output: str, name: str, lost: F64, constant: F64, alpha: float, groups: NDArray[np.int64] | None, *, bounded: bool
) -> Part:
    """The share lost with its bounds: exact for counts of decisions, else from the samples' differences."""
    whole = float(constant.sum())
    share = float(lost.sum()) / whole if whole else inf
    low, high, able = _bounds(lost, constant, alpha, groups)
    return Part(output=output, name=name, share=share, lower=low, upper=high, bounded=bounded and able)


def _bounds(lost: F64, constant: F64, alpha: float, groups: NDArray[np.int64] | None) -> tuple[float, float, bool]:
    """(lower, upper, whether an unchanged network would pass): where it would not, nothing can be shown."""
    if groups is None and np.isin(lost, (0, 1)).all() and np.isin(constant, (0, 1)).all() and (lost <= constant).all():
        m, k = int(constant.sum()), int(lost.sum())
        able = clopper_pearson_upper(0, m, alpha) <= LIMIT
        return clopper_pearson_lower(k, m, alpha), clopper_pearson_upper(k, m, alpha), able
    rough = float(lost.sum()) / max(float(constant.sum()), 1e-300)
    mean = float(constant.mean())
    found = _difference(lost - LIMIT * constant, alpha, groups) if len(lost) >= FEW and mean > 0 else None
    if found is None:
        return (rough if rough > ROUGH * LIMIT else 0.0), rough, True
    return LIMIT + found[0] / mean, LIMIT + found[1] / mean, True


def _difference(d: F64, alpha: float, groups: NDArray[np.int64] | None) -> tuple[float, float] | None:
    """(lower, upper) of the mean of ``d``. Where it is sure on which side of 0 that lies, the bound is 0 or the mean.

    A sharper bound takes a third of a second, and there may be dozens of parts.
    """
    if groups is not None:
        found = means.statistical(d, limit=0.0, alpha=alpha, groups=groups)
        return None if found is None else (found.lower, found.upper)
    mean = float(d.mean())
    if mean > 0:
        return (mean if gaffke_p(-d, float((-d).max()), 0.0) <= alpha else -inf), inf
    sure = gaffke_p(d, float(d.max()), 0.0) <= alpha
    return -inf, 0.0 if sure else gaffke_upper(d, float(d.max()), alpha)


def worst(parts: Sequence[Part]) -> Part | None:
    """The first that is spoilt, else the first that is not shown to be kept, else None."""
    return next((p for p in parts if p.spoilt), None) or next((p for p in parts if not p.kept), None)
