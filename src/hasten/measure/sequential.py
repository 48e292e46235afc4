"""Deciding early and deciding often, without paying for it in false claims."""

from __future__ import annotations

from math import pi

LOOKS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)  # samples after which a candidate may be given up
FUTILE = 0.01  # how sure: one candidate in a hundred at the limit is given up wrongly, none is accepted wrongly


def worn_alpha(alpha: float, look: int) -> float:
    """What is left of alpha for the ``look``-th look (1, 2, ...) at the same confirm samples: 6 / (pi j)^2 of it.

    All looks together spend alpha. A set that nobody promises to look at again would get all of it at the first.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    return alpha * 6 / (pi**2 * look**2)
