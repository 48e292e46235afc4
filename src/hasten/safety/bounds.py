"""How large a network becomes: functions are counted as inlined, and numbers of values and dimensions are bounded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hasten.errors import InputError
from hasten.safety.tensors import AGAIN, MAX_ELEMENTS

if TYPE_CHECKING:
    import onnx

Key = tuple[str, str, str]
MAX_INLINED = 500_000  # nodes, once every function is inlined
MAX_CALLS = 100  # functions inside functions
MAX_VALUES = 20_000  # inputs or outputs of a graph or a node
MAX_ATTRIBUTES = 1000  # of a node
MAX_ENTRIES = 1 << 26  # numbers or texts in one attribute
MAX_RANK = 64
INLINED = "export it with its functions inlined: onnx.inliner.inline_local_functions(model)"


def check_bounds(model: onnx.ModelProto) -> None:
    """Count what the walk over single nodes and tensors cannot see.

    Raises:
        InputError: a function calls itself, functions inline to too many nodes, or a number of values is absurd.
    """
    for what, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        if len(values) > MAX_VALUES:
            cause = f"it has {len(values):,}, over {MAX_VALUES:,}"
            raise InputError(f"the graph has too many {what}", cause=cause, help=AGAIN)
        for value in values:
            _check_shape(value)
    check_inlined(model)


def check_node(node: onnx.NodeProto) -> None:
    """Bound the lists of one node.

    Raises:
        InputError: one is too long.
    """
    lists = {"inputs": (len(node.input), MAX_VALUES), "outputs": (len(node.output), MAX_VALUES)}
    lists["attributes"] = (len(node.attribute), MAX_ATTRIBUTES)
    entries = max((len(a.ints) + len(a.floats) + len(a.strings) for a in node.attribute), default=0)
    lists["entries in an attribute"] = (entries, MAX_ENTRIES)
    for what, (count, most) in lists.items():
        if count > most:
            name = f"node {node.name or '(unnamed)'!r:.60} ({node.op_type[:40]})"
            raise InputError(f"{name} has too many {what}", cause=f"{count:,}, over {most:,}", help=AGAIN)


def _check_shape(value: onnx.ValueInfoProto) -> None:
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
    if len(dims) > MAX_RANK or math.prod(d for d in dims if d > 0) > MAX_ELEMENTS:
        raise InputError(f"{value.name!r:.80} is too large to be real", cause=f"shape {dims[:8]}", help=AGAIN)


def check_inlined(model: onnx.ModelProto) -> None:
    """Count the nodes of the graph with every function inlined, without inlining one.

    Raises:
        InputError: a function calls itself, or the count is over ``MAX_INLINED``.
    """
    calls = {_key(f): _calls(f.node) for f in model.functions}
    sizes: dict[Key, int] = {}
    for start in calls:
        pending = [(start, False)]
        inside: set[Key] = set()
        while pending:
            key, done = pending.pop()
            if done:
                inside.discard(key)
                sizes[key] = _total(calls[key], sizes, key)
            elif key not in sizes:
                if key in inside or len(inside) > MAX_CALLS:
                    what = "calls itself" if key in inside else f"nests calls more than {MAX_CALLS} deep"
                    raise InputError(f"function {key[1]!r:.80} {what}", help=INLINED)
                inside.add(key)
                pending.append((key, True))
                pending += [(inner, False) for inner in calls[key] if inner in calls]
    _total(_calls(model.graph.node), sizes, ("", "the graph", ""))


def _total(called: Mapping[Key, int], sizes: Mapping[Key, int], key: Key) -> int:
    total = sum(count * sizes.get(inner, 1) for inner, count in called.items())
    if total > MAX_INLINED:
        cause = f"with its functions inlined, {key[1]!r:.80} has {total:,} nodes, over {MAX_INLINED:,}"
        raise InputError("the network is too large", cause=cause, help="export it with fewer nested functions")
    return total


def _calls(nodes: Iterable[onnx.NodeProto]) -> Counter[Key]:
    """The operators and functions that nodes call, those of bodies too, with how often."""
    found: Counter[Key] = Counter()
    pending = [nodes]
    while pending:
        for node in pending.pop():
            found[_key(node)] += 1
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g.node)
                pending += [graph.node for graph in attribute.graphs]
    return found


def _key(of: onnx.NodeProto | onnx.FunctionProto) -> Key:
    name = of.op_type if hasattr(of, "op_type") else of.name
    return "" if of.domain == "ai.onnx" else of.domain, name, of.overload
