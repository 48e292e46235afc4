"""In which order inputs of linear layers can be taken out, the rest making up for each as well as it can.

A layer y = W x with H = cov(x) + lambda I loses E |W x - V x_S|^2 at the best V when it goes without the columns u:

    loss(u) = tr(W_u ([H^-1]_uu)^-1 W_u'),    W <- W - W_u ([H^-1]_uu)^-1 [H^-1]_u:

(Optimal Brain Surgeon: Hassibi & Stork, NIPS 1992, equations 5 and 6, for blocks as in OBC, Frantar & Alistarh,
NeurIPS 2022, equations 3 and 4.) Only W'W and H^-1 are carried along: each removal is one update of low rank to both.
Several layers may read the same units; each one's loss counts as a share of the variance of its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Ints = NDArray[np.int64]
RIDGE = 0.01
STEPS = 64  # rounds of removal; in each round the cheapest units go together


@dataclass(frozen=True)
class Reader:
    """A layer that reads the units: weights float64[outputs, k], covariance of its input [k, k].

    ``owner`` int64[k] names the unit of each column, numbered from 0; below 0 are columns that stay.
    """

    w: F64
    covariance: F64
    owner: Ints


@dataclass(frozen=True)
class Elimination:
    """``order``: units, the first to go first; ``loss[i]``: the loss, in shares, once ``i`` of them are gone.

    ``loss`` has one entry more than ``order``.
    """

    order: Ints
    loss: F64


def by_energy(readers: Sequence[Reader], units: int) -> Elimination:
    """Each unit by itself, nothing made up for: tr(W_u cov_uu W_u'), activation energy times next weights."""
    cost = np.zeros(units)
    for reader in readers:
        grown = (reader.w.T @ reader.w) * reader.covariance
        total = max(float(grown.sum()), np.finfo(np.float64).tiny)
        for u in range(units):
            at = np.flatnonzero(reader.owner == u)
            cost[u] += grown[np.ix_(at, at)].sum() / total
    order = np.argsort(cost, kind="stable").astype(np.int64)
    return Elimination(order, np.concatenate([[0.0], np.cumsum(cost[order])]))


def with_compensation(readers: Sequence[Reader], units: int, ridge: float = RIDGE, steps: int = STEPS) -> Elimination:
    """Greedy: what costs least once the rest has made up for it goes next. The last unit stays last."""
    states = [_State(reader, ridge) for reader in readers]
    alive = np.ones(units, bool)
    order: list[int] = []
    loss = [0.0]
    batch = max(1, units // steps)
    while alive.any():
        cost = np.sum([state.costs(units) for state in states], axis=0) if states else np.zeros(units)
        cost[~alive] = np.inf
        gone = np.argsort(cost, kind="stable")[: min(batch, int(alive.sum()))]
        before = loss[-1]
        total = before + sum(state.remove(gone) for state in states)
        # inside a round the joint loss is shared out in proportion to the units' own
        own = np.cumsum(cost[gone])
        share = own / own[-1] if own[-1] > 0 else np.arange(1, len(gone) + 1) / len(gone)
        loss += (before + (total - before) * share).tolist()
        order += [int(u) for u in gone]
        alive[gone] = False
    return Elimination(np.array(order, np.int64), np.array(loss))


class _State:
    """What is left of one reader: W'W and H^-1 over the columns that are still there."""

    def __init__(self, reader: Reader, ridge: float) -> None:
        k = len(reader.owner)
        strength = ridge * float(np.trace(reader.covariance)) / max(k, 1) + 1e-12
        self.inverse = np.linalg.inv(reader.covariance + strength * np.eye(k))
        self.square = reader.w.T @ reader.w
        self.owner = reader.owner.copy()
        self.total = max(float((self.square * reader.covariance).sum()), np.finfo(np.float64).tiny)

    def costs(self, units: int) -> F64:
        """The loss of taking out each unit alone; 0 for units that this layer does not read."""
        cost = np.zeros(units)
        order = np.argsort(self.owner, kind="stable")
        names, starts, sizes = np.unique(self.owner[order], return_index=True, return_counts=True)
        for size in np.unique(sizes):
            picked = (sizes == size) & (names >= 0)
            if not picked.any():
                continue
            at = order[starts[picked][:, None] + np.arange(size)]
            blocks = np.linalg.solve(
                self.inverse[at[:, :, None], at[:, None]], self.square[at[:, :, None], at[:, None]]
            )
            cost[names[picked]] = np.trace(blocks, axis1=1, axis2=2)
        return cost / self.total

    def remove(self, units: Ints) -> float:
        """Take these units out together; returns the loss that this adds."""
        gone = np.isin(self.owner, units)
        if not gone.any():
            return 0.0
        u, kept = np.flatnonzero(gone), np.flatnonzero(~gone)
        a = np.linalg.solve(self.inverse[np.ix_(u, u)], self.inverse[u])  # ([H^-1]_uu)^-1 [H^-1]_u:
        block = np.linalg.solve(self.inverse[np.ix_(u, u)], self.square[np.ix_(u, u)])
        added = float(np.trace(block)) / self.total
        change = self.square[:, u] @ a
        square = self.square - change - change.T + a.T @ self.square[np.ix_(u, u)] @ a
        inverse = self.inverse - self.inverse[:, u] @ a
        keep = np.ix_(kept, kept)
        self.square, self.inverse, self.owner = square[keep], inverse[keep], self.owner[kept]
        return added
