"""Rewrites: small exact edits with names, applied until none fits, and found by name when an answer moves.

A rule looks at one node, edits the graph around it, and says whether it did. When the rewritten network fails its
check, the number of applications is bisected: the first one that spoils it is told, left out, and the rest stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from hasten.graph import edit, sizes, walk

log = logging.getLogger(__name__)

SWEEPS = 60  # far more than any network needs: what does not settle by then undoes itself
REFUSALS = 8  # sites that one stage may lose before it is left out as a whole

Rule = Callable[[ir.Node, set[str]], bool]


@dataclass(frozen=True)
class Rewrite:
    """A rule with the name that a report gives it; ``since`` is the operator set that its result needs.

    ``float_only`` tells of a node whether the result there is exact in float and worse in eight bits.
    """

    name: str
    rule: Rule
    since: int = 1
    float_only: Callable[[ir.Node], bool] | None = None

    def for_int8(self) -> Rewrite:
        """The same, but for the nodes where it suits float alone."""
        rule, spares = self.rule, self.float_only
        return (
            self if spares is None else replace(self, rule=lambda node, taken: not spares(node) and rule(node, taken))
        )


@dataclass(frozen=True)
class Site:
    """One application: which rewrite, and at which node (its name, or its first output's)."""

    rewrite: str
    node: str

    def __str__(self) -> str:
        return f"{self.rewrite} at {self.node!r}" if self.node else self.rewrite


def named(*rules: Rule, since: int = 1, **more: Any) -> tuple[Rewrite, ...]:
    """Rewrites called as their functions are, with blanks for underscores."""
    return tuple(Rewrite(rule.__name__.replace("_", " "), rule, since, **more) for rule in rules)


def apply(
    model: ir.Model, rewrites: Sequence[Rewrite], *, skip: Collection[Site] = (), limit: int | None = None
) -> list[Site]:
    """Edit the main graph in place until nothing fits; returns every application in order.

    Shapes must be ``known``, and are so afterwards. ``skip`` are sites to leave alone; ``limit`` ends after so many
    applications.
    """
    taken, done = edit.names(model), list[Site]()
    usable = [r for r in rewrites if walk.opset(model) >= r.since]
    for _ in range(SWEEPS):
        before = len(done)
        for node in [n for n in model.graph if n.inputs]:  # those without inputs are constants, which no rule edits
            site = node.name or node.outputs[0].name or node.op_type
            for rewrite in usable:
                if limit is not None and len(done) >= limit:
                    return done
                here = Site(rewrite.name, site)
                # a rule that fits twice at one place (a node that absorbs several others) is one site each time
                if node.graph is not None and here not in skip and _applied(rewrite, node, taken, here):
                    done.append(here)
        if len(done) == before:
            break
        edit.prune(model)
        known(model)
    return done


class Failed(Exception):
    """A rule raised; the graph may be half edited."""

    def __init__(self, site: Site, why: str) -> None:
        super().__init__(why)
        self.site = site


def _applied(rewrite: Rewrite, node: ir.Node, taken: set[str], site: Site) -> bool:
    try:
        return rewrite.rule(node, taken)
    except Exception as error:  # a graph that its author did not think of must cost this rewrite, not the clean-up
        raise Failed(site, f"{type(error).__name__}: {error}") from error


def known(model: ir.Model) -> None:
    """Derive all inner shapes and types, and those of the outputs, from facts; equal sizes get one name.

    ``as_declared`` gives the outputs back the shapes of their file.
    """
    edit.infer(model, outputs=True)
    sizes.unify(model)


def as_declared(model: ir.Model, original: ir.Model) -> ir.Model:
    """``model`` with the output shapes that ``original`` declares, where no known shape contradicts them."""
    for value, old in zip(model.graph.outputs, original.graph.outputs, strict=True):
        edit.declare(value, old.shape)
    return model


@dataclass(frozen=True)
class Settled:
    """A rewritten graph (None when nothing fits), what was done, and what had to be left out, with reasons."""

    graph: ir.Model | None
    done: tuple[Site, ...] = ()
    refused: tuple[tuple[Site, str], ...] = ()


def settle(
    graph: ir.Model, rewrites: Sequence[Rewrite], problem: Callable[[ir.Model], str], skip: Collection[Site] = ()
) -> Settled:
    """Apply ``rewrites`` to a copy, but for ``skip``; ``problem`` says what is wrong with a candidate, or nothing.

    Sites that spoil it are found by bisection and left out, so that one bad rewrite costs only itself.
    """
    refused: list[tuple[Site, str]] = []
    while len(refused) < REFUSALS:
        without = {*skip, *(site for site, _ in refused)}
        candidate = graph.clone()
        try:
            done = apply(candidate, rewrites, skip=without)
        except Failed as failed:
            log.warning("left out the rewrite %s, which failed: %s", failed.site, failed)
            refused.append((failed.site, f"it failed: {failed}"))
            continue
        if not done:
            return Settled(None, (), tuple(refused))
        reason = problem(candidate)
        if not reason:
            return Settled(candidate, tuple(done), tuple(refused))
        site = culprit(graph, rewrites, problem, without, done)
        log.warning("left out the rewrite %s: %s", site, reason)
        refused.append((site, reason))
    return Settled(None, (), tuple(refused))


def culprit(
    graph: ir.Model,
    rewrites: Sequence[Rewrite],
    problem: Callable[[ir.Model], str],
    skip: Collection[Site],
    done: Sequence[Site],
) -> Site:
    """The first of the applications ``done`` after which there is a problem, by bisection."""
    good, bad = 0, len(done)
    while bad - good > 1:
        middle = (good + bad) // 2
        candidate = graph.clone()
        apply(candidate, rewrites, skip=skip, limit=middle)
        edit.prune(candidate)
        good, bad = (good, middle) if problem(candidate) else (middle, bad)
    return done[bad - 1]
