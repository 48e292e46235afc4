"""Rankings: recall among the first k, reciprocal rank, discounted gain; of a list a sample, or of groups by query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hasten.errors import InputError
from hasten.metrics import totals
from hasten.metrics.classes import check_labels, is_binary_head
from hasten.metrics.pick import Array, Rows, chosen


def recall_at(scores: Rows, relevance: Rows, k: int | None) -> float:
    """Share of the relevant items among the ``k`` highest scores; ties count against the network."""
    wanted = relevance > 0
    ranks = _worst_ranks(scores, wanted)
    return float((ranks <= (len(scores) if k is None else k)).sum() / max(len(ranks), 1))


def reciprocal_rank(scores: Rows, relevance: Rows, k: int | None) -> float:
    """One over the rank of the first relevant item, 0 without one among the first ``k``; ties count against."""
    first = _worst_ranks(scores, relevance > 0).min(initial=len(scores) + 1)
    return 1 / float(first) if first <= (len(scores) if k is None else k) else 0.0


def _worst_ranks(scores: Rows, wanted: Array) -> Array:
    """Ranks from 1 of the wanted items, all others with an equal score ahead of them."""
    order = np.lexsort((wanted, -scores))
    return np.flatnonzero(wanted[order]) + 1


def discounted_gain(scores: Rows, relevance: Rows, k: int | None) -> float:
    """NDCG: relevance over log2(rank + 1), as a share of the best order's; ties share their mean; 0 without any.

    Järvelin and Kekäläinen, TOIS 20:4 (2002); ties as in McSherry and Najork, ECIR 2008.
    """
    discount = 1 / np.log2(np.arange(len(scores)) + 2.0)
    if k is not None:
        discount[k:] = 0
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    sizes = np.diff(np.append(starts, len(scores)))
    gains = np.add.reduceat(relevance[order], starts) / sizes
    best = float((np.sort(relevance)[::-1] * discount).sum())
    return float((gains * np.add.reduceat(discount, starts)).sum() / best) if best > 0 else 0.0


SCORES: Mapping[str, Callable[[Rows, Rows, int | None], float]] = {
    "recall": recall_at, "mrr": reciprocal_rank, "ndcg": discounted_gain,
}  # fmt: skip


def _check_relevance(relevance: Array, metric: str) -> Rows:
    if relevance.dtype.kind not in "fiub" or not np.isfinite(relevance).all() or (relevance < 0).any():
        raise InputError(f"{metric} needs relevances of 0 or more", help="give 0 for an item that does not fit")
    return relevance.astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The ranking of each sample's list: scores [b, items], and relevances [b, items] or the right item [b]."""

    name: str = "ndcg"
    score: str = "ndcg"
    k: int | None = None
    output: str | None = None
    kind: str = "score"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b] in [0, 1]; 0 for a list without a relevant item."""
        name, scores = chosen(outputs, self.output)
        labels = np.asarray(labels)
        if scores.ndim == 2 and scores.shape[1] > 1 and len(labels) == len(scores) and labels[0:1].size == 1:
            whole = check_labels(labels.reshape(-1), scores.shape[1], None)
            labels = (whole[:, None] == np.arange(scores.shape[1])).astype(np.float64)
        if scores.ndim != 2 or scores.shape != labels.shape:
            raise InputError(
                f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit {self.name}",
                help="labels are relevances [b, items]; or, for one score a sample, (query, relevance) [b, 2]",
            )
        relevance = _check_relevance(labels, self.name)
        score, wide = SCORES[self.score], scores.astype(np.float64)
        found = np.array([score(s, r, self.k) for s, r in zip(wide, relevance, strict=True)], dtype=np.float64)
        return np.asarray(np.where(np.isnan(wide).any(axis=1), np.nan, found))

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's first item."""
        return np.asarray(chosen(outputs, self.output)[1].argmax(axis=-1), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class RankedByQuery:
    """The ranking of each query, where a sample is one item: one score a sample, labels (query, relevance) [b, 2].

    Rows are (score, query, relevance). Give the query as the group of a sample too, so that queries stay whole.
    """

    name: str = "ndcg"
    score: str = "ndcg"
    k: int | None = None
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 3]: score, query, relevance."""
        name, scores = chosen(outputs, self.output)
        labels = np.asarray(labels)
        if not is_binary_head(scores) or labels.shape != (len(scores), 2):
            raise InputError(
                f"output {name!r} {list(scores.shape)} and labels {list(labels.shape)} do not fit {self.name}",
                help="give one score a sample, and its (query, relevance) as labels [b, 2]",
            )
        relevance = _check_relevance(labels[:, 1], self.name)
        return np.stack([scores.reshape(-1), labels[:, 0], relevance], axis=1).astype(np.float64)

    def value(self, rows: Rows) -> float:
        """The mean over queries."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the mean [resamples]; a query counts as its rows do on average."""
        queries, kind = np.unique(rows[:, 1], return_inverse=True)
        order = np.argsort(kind, kind="stable")
        starts = np.searchsorted(kind[order], np.arange(len(queries)))
        parts = np.split(rows[order], starts[1:])
        score = SCORES[self.score]
        values = np.array([score(part[:, 0], part[:, 2], self.k) for part in parts])
        sizes = np.array([len(part) for part in parts], dtype=np.float64)

        def counted(counts: Rows) -> Rows:
            weight = np.add.reduceat(np.take(counts, order, axis=1), starts, axis=1) / sizes
            return totals.ratio(weight @ values, weight.sum(axis=1))

        return counted

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's scores as relevances of one query."""
        scores = chosen(outputs, self.output)[1].reshape(-1)
        return np.stack([np.zeros_like(scores), scores - scores.min(initial=0)], axis=1)


RECALL_AT_1 = Ranked(name="recall_at_1", score="recall", k=1)
RECALL_AT_5 = Ranked(name="recall_at_5", score="recall", k=5)
RECALL_AT_10 = Ranked(name="recall_at_10", score="recall", k=10)
MRR = Ranked(name="mrr", score="mrr")
NDCG = Ranked()
NDCG_10 = Ranked(name="ndcg_10", k=10)
