"""Does a told speed-up hold? The final timing of many searches, with processes that differ and no networks.

Run ``python -m benchmarks.speed_claims``: a table on the screen, the numbers in benchmarks/results/speed_claims.json.
``search.final.settle`` decides as in a search; its final timing draws blocks instead of running workers. Each process
is slower or faster for as long as it lives, by a normal effect; each block scatters by 3 % around that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from hasten.measure import speed, timing
from hasten.search import final
from hasten.search.pace import SIZES
from hasten.trial import Candidate, Quality, Timing, Trial

EFFECTS = (0.02, 0.05, 0.10)  # standard deviation of a process
SCATTER = 0.03  # of a block
RIVALS = 4
RESTARTS, FINAL_ROUNDS = SIZES[0]
EARLIER = (4, 8)  # restarts and rounds, pooled, of version 0.1
REPETITIONS = 3_000
RESULTS = Path(__file__).parent / "results" / "speed_claims.json"
INSIDE = Quality(
    split="confirm", metric="top1", n=2000, baseline=0.9, value=0.9, drop=0.0, lower=-0.001, upper=0.001,
    p_value=0.0, method="Tango", met=True, certificate="guaranteed", guaranteed_upper=0.001,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """Shares of simulated searches, at one process effect.

    ``covered``: the told interval holds the true speed-up; ``covered_pooled``: that of pooled rounds, as it was.
    ``covered_winner``: of the one chosen among equal rivals; ``covered_chosen``: its interval in the timing that chose.
    ``told_faster``: of equal rivals, none of them faster than the network as given. Widths are medians of high / low.
    """

    effect: float
    covered: float
    width: float
    covered_pooled: float
    width_pooled: float
    covered_winner: float
    covered_chosen: float
    told_faster: float
    repetitions: int


def blocks(
    random: np.random.Generator, true: dict[str, float], effect: float, restarts: int, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of each block: every restart has processes of its own."""
    shape = (restarts, rounds)
    found = {}
    for key, speedup in true.items():
        logs = (
            -np.log(speedup) + effect * random.standard_normal((restarts, 1)) + SCATTER * random.standard_normal(shape)
        )
        found[key] = np.exp(logs).ravel().tolist()
    return found


class Search:
    """What ``settle`` needs of a run: rivals that passed the test, and a final timing that draws."""

    def __init__(self, true: dict[str, float], effect: float, raced: float, random: np.random.Generator) -> None:
        self.true, self.effect, self.random = true, effect, random
        self.given, self.objective, self.stopping = "given", "latency", lambda: False
        self.budget, self.splits = SimpleNamespace(max_drop=0.01), SimpleNamespace(confirm=())
        self.chosen_in: Timing | None = None
        guess = timed([raced] * 12, [1.0] * 12, 1)
        self.trials = {
            key: Trial(
                candidate=Candidate(steps=(), engine=key), status="ok", timing=guess,
                confirm=None if key == "given" else INSIDE,
            )
            for key in true
        }  # fmt: skip

    def update(self, key: str, **changes: Any) -> None:
        self.trials[key] = replace(self.trials[key], **changes)

    def final_timing(self, _: Any, keys: Sequence[str], restarts: int, rounds: int) -> dict[str, list[float]]:
        drawn = blocks(self.random, {k: self.true[k] for k in keys}, self.effect, restarts, rounds)
        for key in keys:
            self.update(key, timing=timed(drawn["given"], drawn[key], restarts))
        return drawn

    def settle(self) -> str:
        """The key of what is returned."""
        with mock.patch.object(final, "final_timing", self.final_timing):
            return final.settle(self, "rival 0", "given", RESTARTS, FINAL_ROUNDS)  # type: ignore[arg-type]


def timed(given: Sequence[float], candidate: Sequence[float], restarts: int) -> Timing:
    """The timing as the final timing makes it; the first calls are as fast as all."""
    return timing.timing(given, candidate, waking=(given, candidate), restarts=restarts)


def simulate(effect: float, repetitions: int = REPETITIONS, seed: int = 0) -> Row:
    """All shares at one process effect."""
    random = np.random.default_rng([seed, int(1e4 * effect)])
    pair = {"given": 1.0, "candidate": 2.0}
    new, old = [], []
    for _ in range(repetitions):
        drawn = blocks(random, pair, effect, RESTARTS, FINAL_ROUNDS)
        new.append(timed(drawn["given"], drawn["candidate"], RESTARTS))
        pooled = np.subtract(*(np.log(v) for v in blocks(random, pair, effect, *EARLIER).values()))
        old.append(speed.sign_interval(pooled))
    winners, faster = [], 0
    for _ in range(repetitions):
        equal = Search({"given": 1.0, **{f"rival {k}": 2.0 for k in range(RIVALS)}}, effect, 2.0, random)
        told = equal.trials[equal.settle()].timing
        winners.append(told is not None and told.low <= 2 <= told.high)
        none = Search({"given": 1.0, **{f"rival {k}": 1.0 for k in range(RIVALS)}}, effect, 1.1, random)
        faster += none.settle() != "given"
    return Row(
        effect=effect, covered=_share(t.low <= 2 <= t.high for t in new),
        width=float(np.median([t.high / t.low for t in new])),
        covered_pooled=_share(low <= 2 <= high for low, high in old),
        width_pooled=float(np.median([high / low for low, high in old])),
        covered_winner=_share(winners), covered_chosen=_in_the_choice(random, effect, repetitions),
        told_faster=faster / repetitions, repetitions=repetitions,
    )  # fmt: skip


def _in_the_choice(random: np.random.Generator, effect: float, repetitions: int) -> float:
    """How often the fastest of equal rivals has the truth in its own interval, in the timing that chose it."""
    true, found = {"given": 1.0, **{f"rival {k}": 2.0 for k in range(RIVALS)}}, []
    for _ in range(repetitions):
        drawn = blocks(random, true, effect, *EARLIER)
        given = np.log(drawn.pop("given"))
        best = max((given - np.log(v) for v in drawn.values()), key=np.median)
        low, high = speed.sign_interval(best)
        found.append(low <= 2 <= high)
    return _share(found)


def _share(values: Any) -> float:
    return float(np.mean([bool(v) for v in values]))


def main() -> None:
    """Print the table and store the numbers."""
    rows = []
    print("process  told covers (width)  pooled rounds (width)  winner covers  where it was chosen  equal told faster")
    for effect in EFFECTS:
        row = simulate(effect)
        rows.append(asdict(row))
        print(
            f"{effect:7.0%}{row.covered:13.1%} ({row.width - 1:.1%}){row.covered_pooled:15.1%} "
            f"({row.width_pooled - 1:.1%}){row.covered_winner:14.1%}{row.covered_chosen:21.1%}{row.told_faster:19.1%}",
            flush=True,
        )
    RESULTS.write_text(json.dumps({"restarts": RESTARTS, "rounds": FINAL_ROUNDS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
