"""Three disjoint sets of samples: calibrate (ranges), search (choice), confirm (proof)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.samples import SampleStore

Ids = NDArray[np.int64]
CALIBRATE = (100, 512)  # samples; more do not change the ranges
SEARCH_CAP = 2000  # beyond this, samples serve the proof better
ENOUGH = 60  # fewer independent samples cannot prove any budget of use


@dataclass(frozen=True)
class Splits:
    """Sample numbers, sorted within each part. Without enough data all samples are ``search`` and nothing is proven."""

    calibrate: Ids
    search: Ids
    confirm: Ids
    warnings: tuple[str, ...] = ()

    @property
    def lossless_only(self) -> bool:
        """True when there is nothing to confirm on: only candidates that change no answer can get a certificate."""
        return len(self.confirm) == 0


def split(
    store: SampleStore,
    *,
    seed: int | None = None,
    calibrate: int | None = None,
    confirm_share: float = 0.6,
    needs_labels: bool = False,
) -> Splits:
    """Cut the samples in three; the same data with the same seed gives the same cut.

    Samples of one group, and samples with equal inputs, stay together. With integer labels each part holds the
    classes in about the same shares. ``calibrate`` defaults to a tenth of the samples, from 100 to 512 and at most a
    quarter; of the rest ``confirm_share`` or more goes to confirm, since search takes no more than 2,000.

    Raises:
        InputError: ``needs_labels`` and there are none.
    """
    if needs_labels and store.labels is None:
        raise InputError(
            "the metric needs labels, and the data has none",
            help="add them under 'labels' (or --labels NAME), or use --max-drop agree:99%, which needs none",
        )
    n = len(store)
    units = together(store.groups, store.hashes)
    count = int(units.max()) + 1
    warnings = _duplicates(store)
    if count < ENOUGH:
        of = f"{n} samples" if count == n else f"{n} samples in {count} independent groups"
        text = f"only {of}: too few for a certificate, so that changed answers get an estimate (give {ENOUGH} or more)"
        none = np.empty(0, np.int64)
        return Splits(none, np.arange(n), none, (*warnings, text))
    random = np.random.default_rng([int(store.digest[:16], 16), *([] if seed is None else [seed])])
    wanted = min(max(n // 10, CALIBRATE[0]), CALIBRATE[1], n // 4) if calibrate is None else min(calibrate, n // 2)
    order = _interleaved(units, _strata(store), random)
    sizes = np.bincount(units)
    big = sizes[order] > max(wanted, n // 10)  # one huge group would swallow a small part: leave it to confirm
    order = np.concatenate([order[~big], order[big]])
    search = min(SEARCH_CAP, int((n - wanted) * (1 - confirm_share)))
    ends = np.cumsum(sizes[order])
    part = np.empty(count, np.int64)
    part[order] = (ends > wanted).astype(np.int64) + (ends > wanted + search)
    cut = [np.flatnonzero(part[units] == k) for k in range(3)]
    if min(map(len, cut)) == 0:
        raise InputError(
            f"{count} groups cannot be cut in three", cause="a few hold nearly all samples", help="give more groups"
        )
    return Splits(cut[0], cut[1], cut[2], tuple(warnings))


def together(groups: Ids | None, hashes: NDArray[np.uint64]) -> Ids:
    """[n] numbers of the sets that must not be cut: linked by a group or by equal inputs, through any chain."""
    same = np.unique(hashes, return_inverse=True)[1].astype(np.int64)
    if groups is None:
        return same
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group = np.unique(groups, return_inverse=True)[1]
    shift = int(group.max()) + 1
    nodes = shift + int(same.max()) + 1
    graph = coo_array((np.ones(len(same), np.int8), (group, shift + same)), shape=(nodes, nodes))
    found = connected_components(graph, directed=False)[1][group]
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _strata(store: SampleStore) -> NDArray[Any] | None:
    """[n] class of each sample when the labels are classes: whole numbers or texts, each of them often."""
    labels = store.labels
    if not isinstance(labels, np.ndarray) or labels.size != len(labels):
        return None
    flat = labels.reshape(-1)
    whole = flat.dtype.kind in "iubU" or (flat.dtype.kind == "f" and bool((flat == np.round(flat)).all()))
    if not whole:
        return None
    classes, inverse = np.unique(flat, return_inverse=True)
    return inverse if 1 < len(classes) <= len(flat) // 3 else None


def _interleaved(units: Ids, strata: NDArray[Any] | None, random: np.random.Generator) -> Ids:
    """A random order of the units in which every stretch holds the classes in about their overall shares."""
    count = int(units.max()) + 1
    shuffled = random.permutation(count)
    if strata is None:
        return shuffled
    first = np.unique(units, return_index=True)[1]
    kind = strata[first][shuffled]
    place = np.empty(count)
    for value in np.unique(kind):
        members = np.flatnonzero(kind == value)
        place[members] = (np.arange(len(members)) + random.random()) / len(members)
    return shuffled[np.argsort(place, kind="stable")]


def _duplicates(store: SampleStore) -> list[str]:
    labels = store.labels
    if not isinstance(labels, np.ndarray) or labels.ndim != 1:
        return []
    inverse = np.unique(store.hashes, return_inverse=True)[1]
    pairs = np.unique(np.stack([inverse, np.unique(labels, return_inverse=True)[1]]), axis=1)
    clashes = pairs.shape[1] - (int(inverse.max()) + 1)
    return [f"{clashes} inputs occur with different labels"] if clashes else []
