"""Deciding early and deciding often, without paying for it in false claims."""

from __future__ import annotations

from math import pi

LOOKS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)  # samples after which a candidate may be given up
FUTILE = 0.01  # how sure: one candidate in a hundred at the limit is given up wrongly, none is accepted wrongly


FIRST = 0.8  # of alpha for the first question; of what is left of a question's level for its next candidate


def worn_alpha(alpha: float, look: int) -> float:
    """The part of alpha for the ``look``-th question (1, 2, ...) to the same test samples.

    The first gets four fifths; the later ones share the last fifth, the j-th of them by 6 / (pi j)^2. All questions
    together spend alpha, however many follow.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    return alpha * FIRST if look == 1 else alpha * (1 - FIRST) * 6 / (pi**2 * (look - 1) ** 2)
