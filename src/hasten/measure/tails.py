"""Tails and quantiles of the distributions that proofs need, in float64.

The same numbers as ``scipy.stats``, which takes half a second and 40 MB to import, from the functions below it.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


def normal_quantile(p: float) -> float:
    """z with P(Z <= z) = ``p``."""
    return float(special.ndtri(p))


def normal_upper(p: float) -> float:
    """z with P(Z > z) = ``p``."""
    return -float(special.ndtri(p))


def normal_below(z: float) -> float:
    """P(Z <= ``z``)."""
    return float(special.ndtr(z))


def normal_above(z: float) -> float:
    """P(Z > ``z``), exact far out as well."""
    return float(special.ndtr(-z))


def student_upper(p: float, freedom: float) -> float:
    """t with P(T > t) = ``p``."""
    return -float(special.stdtrit(freedom, p))


def student_below(t: float, freedom: float) -> float:
    """P(T <= ``t``)."""
    return float(special.stdtr(freedom, t))


def binomial_at_most(k: ArrayLike, n: int, share: float) -> Any:
    """P(K <= ``k``) for each k in 0..n."""
    return special.bdtr(k, n, share)


def binomial_more_than(k: int, n: int, share: float) -> float:
    """P(K > ``k``) for k in -1..n."""
    return 1.0 if k < 0 else float(special.bdtrc(k, n, share))


def hypergeometric_at_most(k: int, n: int, marked: int, drawn: int) -> float:
    """P(X <= k) for the marked among ``drawn`` of ``n`` things, of which ``marked`` are marked: Fisher's exact test."""
    least, most = max(0, drawn + marked - n), min(k, marked, drawn)
    found = np.arange(least, most + 1)
    if not len(found):
        return 0.0
    logs = _log_choose(marked, found) + _log_choose(n - marked, drawn - found) - _log_choose(n, np.array([drawn]))
    return float(min(1.0, np.exp(logs).sum()))


def _log_choose(n: int, k: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


def binomial_quantile(p: float, n: int, share: float) -> int:
    """The smallest k with P(K <= k) >= ``p``."""
    k = max(0, ceil(float(special.bdtrik(p, n, share))))  # the inverse over all reals, off by a rounding at most
    return k - 1 if k and special.bdtr(k - 1, n, share) >= p else k


def beta_quantile(p: float, a: float, b: float) -> float:
    """x with P(X <= x) = ``p``."""
    return float(special.betaincinv(a, b, p))


def beta_upper(p: float, a: float, b: float) -> float:
    """x with P(X > x) = ``p``."""
    return float(special.betainccinv(a, b, p))
