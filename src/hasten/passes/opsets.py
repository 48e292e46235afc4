"""Change of operator set: refused where an operator inside a branch or loop would change its meaning.

The converter of onnx rewrites the main graph only, and there it leaves a Hardmax as it is, and a Softmax that does not
run along the last axis. A Hardmax of operator set 11 that stays inside a body would be read
as one of set 17, which works along another axis.
"""

from __future__ import annotations

import logging

import onnx_ir as ir

from hasten.graph import edit, walk

FLAT, ONE_AXIS, ALLOWZERO = frozenset({"Softmax", "LogSoftmax", "Hardmax"}), 13, 14
HELD = "hasten.held"
log = logging.getLogger(__name__)

# these keep their signature, and mean something else from that operator set on
SILENT = {"AveragePool": 19, "LpPool": 18, "GroupNormalization": 21}


def converted(graph: ir.Model, *targets: int) -> ir.Model | None:
    """A copy in the first of the operator sets ``targets`` that it can be brought to; None when none can be reached."""
    from onnx import version_converter

    for target in targets:
        changed = changed_inside(graph, target)
        if changed:
            log.info("operator set %d is out of reach: %s in a body has another meaning there", target, changed)
            continue
        if target < ALLOWZERO and any(axis is None for _, axis in _flat(graph)):
            log.info("operator set %d is out of reach: a Softmax over several axes", target)
            continue
        try:
            held = ir.to_proto(_hold(graph))
            found = _release(ir.from_proto(version_converter.convert_version(held, target)))
        except Exception as error:  # the converter raises whatever its C++ side raises
            log.info("operator set %d is out of reach: %s", target, error)
            continue
        for side, other in ((graph.graph.outputs, found.graph.outputs), (graph.graph.inputs, found.graph.inputs)):
            for old, new in zip(side, other, strict=True):
                new.shape, new.type = old.shape, old.type
        return found
    return None


def _flat(graph: ir.Model) -> list[tuple[ir.Node, int | None]]:
    """Each node that works on two axes up to set 12 and on one from 13 on, with that one axis where they agree."""
    if walk.opset(graph) >= ONE_AXIS:
        return []
    found: list[tuple[ir.Node, int | None]] = []
    for node in graph.graph:
        if node.op_type in FLAT and node.domain == "":
            sizes, axis = walk.dims(node.inputs[0]), int(walk.attribute(node, "axis", 1))
            inside = sizes is not None and -len(sizes) <= axis < len(sizes)
            alike = sizes is not None and inside and all(size == 1 for size in sizes[axis % len(sizes) + 1 :])
            found.append((node, axis if alike else None))
    return found


def _hold(graph: ir.Model) -> ir.Model:
    """A copy in which such nodes stand under a domain of our own, past the converter, which has them wrong."""
    copy = graph.clone()
    for node, axis in _flat(copy):
        node.domain = HELD
        node.attributes.add(ir.AttrInt64("axis", int(walk.attribute(node, "axis", 1))))
        node.attributes.add(ir.AttrInt64("one", int(axis is not None)))
        copy.graph.opset_imports[HELD] = 1
    return copy


def _release(graph: ir.Model) -> ir.Model:
    """Each held node in its new words: along one axis, or flattened and brought back to its shape."""
    taken = edit.names(graph)
    for node in [n for n in graph.graph if n.domain == HELD]:
        x, axis, base = node.inputs[0], walk.attribute(node, "axis", 1), node.outputs[0].name
        if walk.attribute(node, "one", 0):
            edit.swap(node, node.op_type, [x], taken, axis=axis)
            continue
        flat = edit.add_node(node, "Flatten", [x], edit.fresh(taken, f"{base}/flat"), {"axis": axis})
        soft = edit.add_node(node, node.op_type, [flat], edit.fresh(taken, f"{base}/soft"), {"axis": -1})
        shape = edit.add_node(node, "Shape", [x], edit.fresh(taken, f"{base}/shape"))
        edit.swap(node, "Reshape", [soft, shape], taken, allowzero=1)
    graph.graph.opset_imports.pop(HELD, None)
    return graph


def changed_inside(graph: ir.Model, target: int) -> str:
    """The first operator in a body or function that would mean something else in operator set ``target``."""
    bodies = [g for g in graph.graphs() if g is not graph.graph]
    for node in (n for body in bodies for n in body):
        if node.domain in ("", "ai.onnx") and not same_meaning(node.op_type, walk.opset(graph), target):
            return node.op_type
    return ""


def same_meaning(op_type: str, old: int, new: int) -> bool:
    """True when a node of operator set ``old`` reads the same in ``new``: nothing removed, no default changed."""
    from onnx import defs

    try:
        before, after = (defs.get_schema(op_type, version, "") for version in (old, new))
    except Exception:  # onnx has no class of its own for an operator that it does not know
        return False
    if before.since_version == after.since_version:
        return True
    if after.deprecated or old < SILENT.get(op_type, 0) <= new:
        return False
    return _attributes(before) <= _attributes(after) and _extends(before, after)


def _attributes(schema: object) -> set[tuple[str, str]]:
    """Each attribute with its default."""
    return {(name, str(a.default_value)) for name, a in schema.attributes.items()}  # type: ignore[attr-defined]


def _extends(before: object, after: object) -> bool:
    """The same inputs and outputs in the same order, and none more that a node must have."""
    for side in ("inputs", "outputs"):
        old, new = getattr(before, side), getattr(after, side)
        if [p.name for p in old] != [p.name for p in new[: len(old)]]:
            return False
        if any(p.option.name == "Single" for p in new[len(old) :]):
            return False
    return not any(a.required and n not in before.attributes for n, a in after.attributes.items())  # type: ignore[attr-defined]
