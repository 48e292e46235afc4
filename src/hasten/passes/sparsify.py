"""Set single weights to zero and let the others of their row make up for them. For engines that skip zeros; few do.

x -> MatMul(W) -> y      =>      x -> MatMul(W' with every second weight 0) -> nearly y
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hasten.errors import UsageError, did_you_mean
from hasten.graph import edit
from hasten.graph.affine import affine, rewrite
from hasten.graph.moments import moments
from hasten.model import Model
from hasten.passes import patterns
from hasten.protocols import Context, NotApplicable
from hasten.quant import sparse

METHODS = ("sparsegpt", "wanda", "magnitude")
OPERATORS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class Sparsify:
    """Zeros in the weights of every linear layer (``quant.sparse``).

    ``pattern`` is a share of each row, ``"0.5"``, or n zeros in every m neighbours, ``"2:4"``. ``method`` picks what
    goes and what is done about it: ``sparsegpt`` (error-compensated), ``wanda`` or ``magnitude``.

    Raises:
        NotApplicable: the network is quantized, or has no linear layers that a sample reaches.
        UsageError: an option is none of those above.
    """

    pattern: str = "2:4"
    method: str = "sparsegpt"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"sparsify has no method {self.method!r}", help=did_you_mean(self.method, METHODS))
        try:
            sparse.parse_pattern(self.pattern)
        except ValueError:
            raise UsageError(f"sparsify cannot read the pattern {self.pattern!r}", help="write 0.5 or 2:4") from None

    def __call__(self, model: Model, context: Context) -> Model:
        quantized = patterns.quantized_already(model.graph)
        if quantized:
            raise NotApplicable(f"the network is quantized already: {quantized}")
        graph = model.clone_graph()
        edit.infer(graph)
        done = self._write(graph, context)
        if not done:
            raise NotApplicable("no linear layer could be thinned out")
        edit.prune(graph)
        return model.with_graph(graph, repr(self))

    def _write(self, graph: ir.Model, context: Context) -> int:
        pattern, taken, done = sparse.parse_pattern(self.pattern), edit.names(graph), 0
        nodes = {n.outputs[0].name or "": n for n in graph.graph if n.op_type in OPERATORS and affine(n) is not None}
        for name, seen in moments(graph, list(nodes), context.feeds()).items():
            view = affine(nodes[name])
            if view is None or not seen.count:
                continue
            if self.method == "magnitude":
                w = sparse.magnitude(view.w, pattern)
            else:
                w = (sparse.wanda if self.method == "wanda" else sparse.sparsegpt)(view.w, seen.zz, pattern)
            rewrite(graph.graph, view.node, w, np.zeros(len(w)), taken)
            done += 1
        return done
