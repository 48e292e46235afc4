"""Which candidate to try next: the largest expected gain in log speed a second, each kind on each engine first.

Functions over values. A kind's speed is taken from its first timings on this network, else from ``PRIOR``; its cost
from the first builds and loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import median

from hasten.search import policy
from hasten.trial import Candidate

PRIOR = {  # times as fast as the same engine in float32
    "float32": 1.0,
    "narrow float": 1.8,
    "int8": 2.2,
    "dynamic int8": 1.5,
    "narrow weights": 1.2,
}


@dataclass(frozen=True)
class Costs:
    """Seconds: of loading, of a first timing, and of builds by kind, as seen so far."""

    load: float
    timing: float
    builds: Mapping[str, float]


@dataclass(frozen=True)
class Action:
    """A candidate to try, its expected speed-up over the network as given, and what that takes."""

    candidate: Candidate
    speed: float
    seconds: float

    def worth(self, best: float) -> float:
        """Expected gain in log speed over ``best``, a second."""
        return log(max(self.speed / best, 1.0)) / max(self.seconds, 1e-3)


def kind_of(candidate: Candidate) -> str:
    """What its arithmetic is: a key of ``PRIOR``."""
    names = {step.name for step in candidate.steps}
    if "quantize" in names:
        return "int8"
    if "quantize_dynamic" in names:
        return "dynamic int8"
    if "quantize_weights" in names:
        return "narrow weights"
    return "float32" if candidate.lossless else "narrow float"


def expected(candidate: Candidate, seen: Sequence[tuple[Candidate, float]]) -> float:
    """Its speed-up, from the speed-ups of others that were ``seen`` on this network."""
    engine = [s for c, s in seen if c.engine == candidate.engine and c.lossless]
    wide = max(engine, default=1.0)
    kind = kind_of(candidate)
    alike = [s for c, s in seen if c.engine == candidate.engine and kind_of(c) == kind and not c.lossless]
    if alike:
        return max(alike)
    elsewhere = [s / base for c, s in seen if kind_of(c) == kind and (base := _wide(c.engine, seen)) and not c.lossless]
    return wide * (median(elsewhere) if elsewhere else PRIOR[kind])


def _wide(engine: str, seen: Sequence[tuple[Candidate, float]]) -> float:
    return max((s for c, s in seen if c.engine == engine and c.lossless), default=0.0)


def actions(candidates: Sequence[Candidate], seen: Sequence[tuple[Candidate, float]], costs: Costs) -> list[Action]:
    """What trying each would bring and take."""
    return [
        Action(c, expected(c, seen), costs.load + costs.timing + costs.builds.get(kind_of(c), 0.0)) for c in candidates
    ]


def in_order(several: Sequence[Action], best: float) -> list[Action]:
    """The most worth its seconds first; a second setting of one engine and kind only behind the first of each."""
    ranked = sorted(several, key=lambda a: (-a.worth(best), -a.speed / a.seconds))
    heads: dict[tuple[str, str], Action] = {}
    for action in several:  # in the order given, stock settings come first
        heads.setdefault((action.candidate.engine, kind_of(action.candidate)), action)
    firsts = list(heads.values())
    return [*(a for a in ranked if a in firsts), *(a for a in ranked if a not in firsts)]


def build_guess(kind: str, ms: float, samples: int) -> float:
    """Seconds of a first build of its kind; statistics run the network on ``samples`` with all that is inside."""
    return float(policy.BUILD_SECONDS) + (3 * samples * ms / 1000 if kind == "int8" else 0.0)
