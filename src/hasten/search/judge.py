"""How far a graph's answers lie from the float network's, on a few samples. Runs in a builder process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import onnx_ir as ir

from hasten.graph import evaluate
from hasten.measure.divergence import mean_divergence
from hasten.protocols import Array, Feeds
from hasten.search.workshop import Material, first_feeds, inferred

MOST, LEAST = 64, 6  # samples


@dataclass(frozen=True)
class Judge:
    """What a harm is measured with: feeds, the float network's answers to them, and which outputs count."""

    feeds: Sequence[Feeds]
    wanted: Sequence[Sequence[Array]]
    outputs: tuple[str, ...]
    classes: bool

    def harm(self, graph: ir.Model, feeds: Sequence[Feeds] | None = None, threads: int = 2) -> float:
        """The mean divergence of ``graph``'s answers; infinite when it does not run."""
        try:
            loaded = evaluate.session(graph, optimise=True, fused=False, threads=threads)
            got = [loaded.run(list(self.outputs), dict(one)) for one in feeds or self.feeds]
        except Exception:  # whatever the runtime raises: this way of narrowing is of no use
            return float("inf")
        return mean_divergence(self.wanted, got, classes=self.classes)


@lru_cache(2)
def judge(of: Material, outputs: tuple[str, ...], classes: bool, count: int) -> Judge:
    """The float network's answers on the first ``count`` feeds of the calibrate split."""
    feeds, loaded = first_feeds(of, count), evaluate.session(inferred(of).graph, optimise=True)
    wanted = [loaded.run(list(outputs), dict(one)) for one in feeds]
    return Judge(feeds, wanted, outputs, classes)


def samples_for(of: Material, runs: int, seconds: float) -> int:
    """How many samples ``runs`` runs of the network can afford, from the time that one takes."""
    loaded, feeds = evaluate.session(inferred(of).graph, optimise=True), first_feeds(of, 3)
    loaded.run(None, dict(feeds[0]))
    start = time.perf_counter()
    for one in feeds:
        loaded.run(None, dict(one))
    each = (time.perf_counter() - start) / len(feeds)
    return max(LEAST, min(MOST, int(1.5 * seconds / (max(each, 1e-5) * max(runs, 1)))))
