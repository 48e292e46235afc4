"""Are a graph's names sound: each value made once, each use made somewhere, no circles?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hasten.errors import InputError

if TYPE_CHECKING:
    import onnx

HELP = "export the model again, and run onnx.checker.check_model on it"


def check_structure(model: onnx.ModelProto) -> None:
    """Check the main graph and, with the names around them, the bodies in it.

    Raises:
        InputError: a value made twice, a use of what nobody makes, or a circle.
    """
    pending: list[tuple[onnx.GraphProto, frozenset[str]]] = [(model.graph, frozenset())]
    while pending:
        graph, outer = pending.pop()
        known = _given(graph)
        made = _made(graph.node, known)
        _check_uses(graph, known, made.keys(), outer)
        inner = None
        for node in graph.node:
            for attribute in node.attribute:
                bodies = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                if bodies and inner is None:
                    inner = outer | known | made.keys()
                pending += [(body, inner or frozenset()) for body in bodies]


def _given(graph: onnx.GraphProto) -> set[str]:
    given = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    return given | {t.values.name for t in graph.sparse_initializer}


def _made(nodes: Iterable[onnx.NodeProto], known: set[str]) -> dict[str, int]:
    made: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.output:
            if name and (name in made or name in known):
                raise InputError(f"the value {name!r:.80} is made twice", cause=f"again by {_label(node)}", help=HELP)
            made[name] = index
    made.pop("", None)
    return made


def _check_uses(graph: onnx.GraphProto, known: set[str], made: Iterable[str], outer: frozenset[str]) -> None:
    names = known | set(made)
    late: dict[str, str] = {}  # used before made: only a circle if no other order works
    ready = set(known)
    for node in graph.node:
        for name in node.input:
            if name and name not in names and name not in outer:
                raise InputError(f"{_label(node)} uses {name!r:.80}, which nothing makes", help=HELP)
            if name in names and name not in ready:
                late[name] = _label(node)
        ready.update(node.output)
    for value in graph.output:
        if value.name not in names and value.name not in outer:
            raise InputError(f"nothing makes the output {value.name!r:.80}", help=HELP)
    if late and _circular(graph, known):
        name, user = next(iter(late.items()))
        raise InputError(f"{user} uses {name!r:.80} in a circle", help=HELP)


def _circular(graph: onnx.GraphProto, known: set[str]) -> bool:
    """Kahn's algorithm over the nodes."""
    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    waits = [{maker[n] for n in node.input if n in maker and n not in known} for node in graph.node]
    users: dict[int, list[int]] = {}
    for i, needs in enumerate(waits):
        for need in needs:
            users.setdefault(need, []).append(i)
    left = [len(needs) for needs in waits]
    free = [i for i, count in enumerate(left) if count == 0]
    done = 0
    while free:
        done += 1
        for user in users.get(free.pop(), ()):
            left[user] -= 1
            if left[user] == 0:
                free.append(user)
    return done < len(left)


def _label(node: onnx.NodeProto) -> str:
    return f"node {node.name or '(unnamed)'!r:.60} ({node.op_type[:40]})"
