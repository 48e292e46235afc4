"""Layers that read the same become one layer. On request: it does not pay everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from hasten.model import Model
from hasten.passes.check import Check
from hasten.passes.merge import PARALLEL
from hasten.passes.rewrite import as_declared, known, settle
from hasten.protocols import Context, NotApplicable


@dataclass(frozen=True)
class Join:
    """Query, key and value as one product, or any MatMul, Gemm or Conv with the same input and attributes.

    x -> MatMul(Q) -> Add q        =>      x -> MatMul([Q K V]) -> Add [q k v] -> Split -> three
    x -> MatMul(K) -> Add k
    x -> MatMul(V) -> Add v

    One large product keeps cores busier than three small ones, but the Split copies; what wins depends on the runtime
    (``benchmarks/results/passes.json``). ``samples`` inputs hold it to the network's answers, as in ``Clean``.

    Raises:
        NotApplicable: no two layers read the same.
    """

    samples: int = 2

    def __call__(self, model: Model, context: Context) -> Model:
        check = Check.of(model.graph, list(islice(context.feeds(), self.samples)))
        graph = model.clone_graph()
        known(graph)
        found = settle(graph, PARALLEL, check.problem)
        refused = ", ".join(str(site) for site, _ in found.refused)
        if found.graph is None:
            raise NotApplicable("no two layers read the same" + (f"; left out {refused}" if refused else ""))
        return model.with_graph(
            as_declared(found.graph, model.graph), repr(self) + (f" without {refused}" if refused else "")
        )
