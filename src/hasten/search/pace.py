"""How long a search takes in all, when its parts have to end, and what the test and the final timing cost.

Functions over values; ``Run`` holds the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log

from hasten.search import policy

SIZES: tuple[tuple[int, int], ...] = (
    (8, 4),
    (6, 4),
    (4, 4),
    (3, 4),
    (2, 4),
    (2, 3),
)  # restarts and rounds of the final timing, best first
SIDES = 5  # of the final timing: the network as given, the winner, an estimate; the choice before it costs as two more
PASSES = 2.0  # of the test samples, in calls of the baseline: its own, and those of candidates, which are faster
REST_SECONDS = 0.13  # between two blocks, on average
BLOCK_SECONDS = 0.04  # of short calls
WARM_CALLS = 4
WRITING_SECONDS = 1.0  # the result, its report and its example


@dataclass(frozen=True)
class Seen:
    """What is known of a network's costs: milliseconds of a call, seconds to load it, samples that a test takes."""

    ms: float
    load: float
    tested: int


@dataclass(frozen=True)
class Ending:
    """The test, then the final timing with so many restarts of so many rounds; all in seconds."""

    restarts: int
    rounds: int
    testing: float
    timing: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.testing + self.timing + WRITING_SECONDS


def auto_seconds(ms: float, end: float = 0.0, compiled: int = 0) -> float:
    """Seconds of a search of a network that answers in ``ms``, when nobody says: 30 to 600, more for a slow one.

    A power of the latency between the two. At least ``LARGE_END`` times what the ``end`` takes; with room for the
    engines that have to compile the network.
    """
    low, high = float(policy.LEAST_SECONDS), float(policy.MOST_SECONDS)
    fast, slow = float(policy.FAST_MS), float(policy.SLOW_MS)
    share = min(1.0, max(0.0, log(ms / fast) / log(slow / fast))) if ms > 0 else 0.0
    wanted: float = max(low * (high / low) ** share, float(policy.LARGE_END) * end)
    return min(high, wanted + compiled * float(policy.COMPILE_SECONDS))


def call_seconds(ms: float) -> float:
    """What a block of timed calls takes with its untimed call; of long calls it is one."""
    return ms / 1000 if ms > float(policy.LONG_MS) else max(BLOCK_SECONDS, 2 * ms / 1000)


def race_seconds(sides: int, rounds: int, ms: float, rest: float = 0.005) -> float:
    """What a race takes: warm-up of each side, then every side once a round."""
    return sides * (min(WARM_CALLS * call_seconds(ms), 3.0) + rounds * (rest + call_seconds(ms)))


def rounds_for(seconds: float, sides: int, ms: float, most: int, least: int) -> int:
    """The rounds of a race that ``seconds`` allow, from ``least`` to ``most``."""
    return next((n for n in range(most, least, -1) if race_seconds(sides, n, ms) <= seconds), least)


def ending(seen: Seen, seconds: float) -> Ending:
    """The test and the most thorough final timing that take no more than ``seconds``; else the smallest."""
    testing = PASSES * seen.tested * seen.ms / 1000 + 2 * seen.load if seen.tested else 0.0
    for restarts, rounds in SIZES:
        once = SIDES * seen.load + race_seconds(SIDES, rounds, seen.ms, REST_SECONDS)
        found = Ending(restarts, rounds, testing, restarts * once)
        if found.seconds <= seconds:
            return found
    return found


def search_seconds(seen: Seen, seconds: float) -> float:
    """The part of ``seconds`` that is for trying candidates; all of it where even the smallest end does not fit.

    Then nothing can be proven in this time, and what was timed is all that there is to report.
    """
    if seconds == inf:
        return inf
    end = ending(seen, float(policy.END_SHARE) * seconds).seconds
    return seconds - end if end < 2 * float(policy.END_SHARE) * seconds else seconds
