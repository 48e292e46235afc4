"""What a comparison of two networks on the same samples says of a drop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """One-sided ``lower`` and ``upper`` bounds of a drop, each at alpha; ``p_value`` is for "the drop is >= limit"."""

    drop: float
    lower: float
    upper: float
    p_value: float
    method: str
