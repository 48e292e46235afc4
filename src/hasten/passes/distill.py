"""Train what a change left over to answer as the original does, on samples without labels and for a limited time.

x -> [ original, fixed ] -> y
x -> [ pruned, trained ] -> z        minimise |z - y|^2 / var(y), by Adam over weights and biases of linear layers

(Ba & Caruana, NIPS 2014: the outputs as they are, since no labels are at hand.) The graph goes to torch and back by
``passes.autograd``: no code of the network's owner is needed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from hasten.errors import EnvironmentFault
from hasten.extras import pip
from hasten.graph import edit, evaluate
from hasten.graph.moments import batches
from hasten.model import Model
from hasten.passes import autograd, patterns
from hasten.protocols import Array, Context, Feeds, NotApplicable

MOST = 1024  # samples held in memory
HELD_OUT = 0.2  # of them: what decides which weights are kept
CHECKS = 12  # times that it is looked whether they got better
FEW = 10  # samples, below which nothing can be learnt and checked


@dataclass(frozen=True)
class Distill:
    """A short training against ``context.original``: the network before the first step that took something out.

    ``seconds`` of training at most, ``rate`` of Adam at its start (it falls to nothing along a cosine). The weights of
    the best check on held-out samples are kept; where nothing got better, the network stays as it was.

    Raises:
        NotApplicable: there is no original, the network is quantized, or an operator cannot be trained through.
        EnvironmentFault: torch is not installed.
    """

    seconds: float = 15.0
    rate: float = 3e-4

    def __call__(self, model: Model, context: Context) -> Model:
        quantized = patterns.quantized_already(model.graph)
        if quantized:
            raise NotApplicable(f"the network is quantized already: {quantized}")
        if context.original is None:
            raise NotApplicable("nothing was taken out of this network before")
        torch = _torch()
        graph = model.clone_graph()
        edit.infer(graph)
        pairs = lessons(context.original.graph, graph, context)
        trained = autograd.parameters(torch, graph)
        if not trained or all(y.dtype.kind != "f" for y in pairs[0].wanted):
            raise NotApplicable("no linear layer could be trained, or no output is a float")
        before, after = self._train(torch, graph, trained, pairs)
        if not after < before:
            raise NotApplicable(f"training made nothing better ({after:.2e} against {before:.2e})")
        _write(graph, trained)
        return model.with_graph(graph, repr(self))

    def _train(
        self, torch: Any, graph: ir.Model, trained: dict[str, Any], pairs: Sequence[Lesson]
    ) -> tuple[float, float]:
        """(held-out loss before, best one); ``trained`` then holds the best weights."""
        held = max(1, round(HELD_OUT * len(pairs)))
        check, learn = pairs[:held], pairs[held:]
        scale = [max(float(np.var(y)), 1e-12) for y in each_output(pairs)]

        def lost(lesson: Lesson) -> Any:
            outputs = autograd.run(torch, graph, trained, lesson.feeds)
            gaps = (
                ((z - torch.from_numpy(y)) ** 2).mean() / s
                for z, y, s in zip(outputs, lesson.wanted, scale, strict=True)
                if y.dtype.kind == "f"
            )
            return sum(gaps)

        def checked() -> float:
            with torch.no_grad():
                return float(np.mean([float(lost(lesson)) for lesson in check]))

        optimiser = torch.optim.Adam(trained.values(), self.rate)
        first = best = checked()
        kept = {name: t.detach().clone() for name, t in trained.items()}
        begin, looked, random = time.perf_counter(), 0, np.random.default_rng(0)
        while (spent := (time.perf_counter() - begin) / self.seconds) < 1:
            for group in optimiser.param_groups:
                group["lr"] = self.rate * 0.5 * (1 + np.cos(np.pi * spent))
            optimiser.zero_grad()
            lost(learn[int(random.integers(len(learn)))]).backward()
            optimiser.step()
            if spent * CHECKS > looked + 1:
                looked += 1
                now = checked()
                if now < best:
                    best, kept = now, {name: t.detach().clone() for name, t in trained.items()}
        trained.update(kept)
        return first, best


@dataclass(frozen=True)
class Lesson:
    """Inputs of a batch, and what the original answers to them."""

    feeds: Mapping[str, Array]
    wanted: tuple[Array, ...]


def lessons(original: ir.Model, graph: ir.Model, context: Context) -> list[Lesson]:
    """The calibrate split in batches where the network allows them.

    Raises:
        NotApplicable: there are too few samples.
    """
    samples: list[Feeds] = list(islice(context.feeds(), MOST))
    if len(samples) < FEW:
        raise NotApplicable(f"{len(samples)} samples are too few to train on")
    session = evaluate.session(original, optimise=True)
    names = [v.name for v in graph.graph.outputs]
    return [Lesson(feeds, tuple(session.run(names, dict(feeds)))) for _, feeds in batches(graph, samples)]


def each_output(pairs: Sequence[Lesson]) -> list[Array]:
    """Each output's numbers over all lessons, as one vector."""
    count = len(pairs[0].wanted)
    return [np.concatenate([p.wanted[k].reshape(-1) for p in pairs]) for k in range(count)]


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise EnvironmentFault("distillation needs torch", help=pip("torch")) from None
    return torch


def _write(graph: ir.Model, trained: Mapping[str, Any]) -> None:
    for name, tensor in trained.items():
        value = graph.graph.initializers.get(name)
        if value is not None:
            value.const_value = ir.tensor(tensor.detach().numpy().astype(np.float32), name=name)
