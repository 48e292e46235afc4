"""A first timing: a few blocks, each beside one of the baseline, and the interval that they give.

One block was wrong by a factor of two in both directions. Only what is behind by intervals is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

AWAKE = 2.0  # times as fast as where two threads share a core
SHORT_MS = 1.0  # a call; in longer ones such threads part
NEAR = 1.25  # times as slow: first timings without an interval differ by less on a noisy machine


@dataclass(frozen=True)
class Span:
    """Milliseconds of a call, and the interval in which they lie."""

    low: float
    middle: float
    high: float

    def slowed(self, times: float) -> Span:
        """The same of calls that take so many times as long."""
        return Span(times * self.low, times * self.middle, times * self.high)

    def behind(self, other: Span) -> bool:
        """Do the intervals show that ``other`` is faster?

        Threads that wake for a short call may share a core, in one process and not in the next, for minutes.
        """
        low = self.low / AWAKE if self.middle < SHORT_MS else self.low
        return low > other.high


NOTHING = Span(inf, inf, inf)  # never timed: whatever was timed is faster


def of_ratios(ratios: Sequence[float], unit_ms: float, noise: float = 1.0) -> Span:
    """From times over the baseline's in the same round: all of them, widened by what the baseline differs by from
    itself, on the scale of ``unit_ms`` for the baseline."""
    return Span(min(ratios) * unit_ms / noise, median(ratios) * unit_ms, max(ratios) * unit_ms * noise)


def alone(ms: float) -> Span:
    """Of one time without an interval: two such are told apart where one takes ``NEAR`` times as long."""
    return Span(ms / NEAR**0.5, ms, ms * NEAR**0.5)
