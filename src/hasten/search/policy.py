"""Thresholds that decide who gets the seconds of a search: each with its unit, its reason and its evidence.

``evidence`` names a stored measurement, or is ``"chosen"`` where a person decided without one.
"""

from __future__ import annotations

from dataclasses import dataclass

from hasten.measure.timing import LONG_MS as LONG_CALL_MS

CHOSEN = "chosen"


@dataclass(frozen=True)
class Threshold:
    """A number that decides."""

    value: float
    unit: str
    reason: str
    evidence: str = CHOSEN

    def __float__(self) -> float:
        return float(self.value)


LEAST_SECONDS = Threshold(30.0, "s", "a search of a network that answers in FAST_MS: loads and tests alone take half")
MOST_SECONDS = Threshold(600.0, "s", "nobody asked for a longer wait; --time does")
FAST_MS = Threshold(0.1, "ms a call", "a faster network needs no less time: processes start in a second each")
SLOW_MS = Threshold(1000.0, "ms a call", "from here on the time no longer grows")
END_SHARE = Threshold(0.4, "of the time", "the test and the final timing take no more where they can be made smaller")
LARGE_END = Threshold(3.0, "times the end", "with less time than this the end would take most of it")
COMPILE_SECONDS = Threshold(40.0, "s", "a network compiled ahead of time, before the first one was", "pitch.json")

LOSSLESS_SHARE = Threshold(0.25, "of the time", "five float races once took all of it", "clock.json")
LOSSLESS_LOOKS = Threshold(12, "settings", "a handful of each engine; the share of the time ends them earlier")
FIRST_SHARE = Threshold(1 / 3, "of the time", "narrow floats and int8 have their first timing by then", "clock.json")
MIX_SHARE = Threshold(0.6, "of the search", "other settings stop here where a mixed plan is due", "clock.json")
MIXED_FROM = Threshold(0.5, "of the search", "planning and its races take about half of a search")

LONG_MS = Threshold(LONG_CALL_MS, "ms a call", "a block is one call: waking is a small part of it")
TIMING_BLOCKS = Threshold(3, "blocks", "of a first timing, each beside one of the baseline; fewer give no interval")
LONG_ROUNDS = Threshold(6, "rounds", "of a race of long calls: the fewest that give an interval")
TIMING_SHARE = Threshold(0.04, "of the time", "a race takes no more rounds than this allows, LONG_ROUNDS at least")
SCREEN_SHARE = Threshold(0.03, "of the time", "answers of one candidate on search samples, SCREEN_LEAST at least")
SCREEN_LEAST = Threshold(64, "samples", "the first number after which a candidate may be given up")

BUILD_SECONDS = Threshold(2.0, "s", "a first build, before one was seen")
