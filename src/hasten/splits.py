"""Sample parts: calibrate (ranges), search (the pilot: choice of candidates), confirm (the test). All others test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError
from hasten.samples import SampleStore

Ids = NDArray[np.int64]
CALIBRATE = 128  # samples at most; more do not change the ranges
PILOT = 256  # samples at most
SHARE, APART = 8, 10  # one sample in so many: of the part that does both, and of each where they are apart
LEAST_TO_TEST = 20  # independent samples; fewer only estimate
GROUPS_TO_TEST = 6  # groups; with five, even all signs alike are no evidence at 5 %
LABELLED_PILOT = 300  # samples: with fewer, the calibrate part is the pilot, and all others test


@dataclass(frozen=True)
class Splits:
    """Sample numbers, sorted within each part. ``calibrate`` and ``search`` may be the same part; ``confirm`` is apart.

    Without a calibrate part (inputs that hasten made up) only candidates that change no answer are tried.
    """

    calibrate: Ids
    search: Ids
    confirm: Ids
    warnings: tuple[str, ...] = ()

    @property
    def lossless_only(self) -> bool:
        """True when no sample may set ranges: only candidates that change no answer may be tried."""
        return len(self.calibrate) == 0

    @property
    def pilot_is_small(self) -> bool:
        """True when the pilot set the ranges too: its labels then count for little, and the divergence ranks."""
        return len(self.calibrate) > 0 and np.array_equal(np.sort(self.calibrate), np.sort(self.search))

    @property
    def scored(self) -> Ids:
        """Samples on which the baseline alone may be scored at any time, the pilot's first."""
        return np.concatenate([self.search, self.confirm]).astype(np.int64)


def split(
    store: SampleStore, *, seed: int | None = None, calibrate: int | None = None, needs_labels: bool = False
) -> Splits:
    """Cut the samples; the same data with the same seed gives the same cut.

    With fewer than 300 samples an eighth of them calibrates and is the pilot too. From there on a tenth calibrates (at
    most 128), and another tenth is the pilot (at most 256). All others test. Samples of one group, and samples
    with equal inputs, stay together; of copies with equal labels only the first tests. With class labels each part
    holds the classes in about the same shares.

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
    first = first_of_copies(store)
    warnings = [*_duplicates(store), *_few(store, count, len(first))]
    if count == 1:
        every = np.arange(n)
        return Splits(every, every, np.empty(0, np.int64), tuple(warnings))
    random = np.random.default_rng([int(store.digest[:16], 16), *([] if seed is None else [seed])])
    order = _interleaved(units, strata(store), random)
    sizes = np.bincount(units)
    apart = n >= LABELLED_PILOT and count >= 2 * APART
    share = n // (APART if apart else SHARE)
    wanted = max(1, min(CALIBRATE, share) if calibrate is None else min(calibrate, n // 2))
    part = np.full(count, 2)
    part[_taken(order, sizes, wanted)] = 0
    rest = order[part[order] == 2]
    if apart and len(rest) > 1:
        part[_taken(rest, sizes, min(PILOT, share))] = 1
    cut = [np.flatnonzero(part[units] == k) for k in range(3)]
    search = cut[1] if len(cut[1]) else cut[0]
    return Splits(cut[0], search, np.intersect1d(cut[2], first), tuple(warnings))


def _taken(order: Ids, sizes: Ids, wanted: int) -> Ids:
    """The first units of ``order`` that hold ``wanted`` samples together, without large groups; one at least.

    One huge group would swallow a small part: it is left to the test.
    """
    small = order[sizes[order] <= wanted]
    if not len(small):
        return order[[int(np.argmin(sizes[order]))]]
    return small[: max(1, int(np.searchsorted(np.cumsum(sizes[small]), wanted, side="right")))]


def first_of_copies(store: SampleStore) -> Ids:
    """Numbers of the samples that are no copy (equal inputs and equal label) of one before them."""
    _, where, counts = np.unique(store.hashes, return_inverse=True, return_counts=True)
    copied = np.flatnonzero(counts[where] > 1)
    seen, copies = set[tuple[int, bytes]](), list[int]()
    for i in copied:
        label = np.asarray(store.labels[int(i)]) if store.labels is not None else np.empty(0)
        told = (int(store.hashes[i]), label.tobytes() if label.dtype.kind != "O" else str(label.tolist()).encode())
        if told in seen:
            copies.append(int(i))
        seen.add(told)
    return np.setdiff1d(np.arange(len(store)), copies)


def _few(store: SampleStore, count: int, distinct: int) -> list[str]:
    """Says what little data cannot do, and that copies count once."""
    n, found = len(store), list[str]()
    if distinct < n:
        found.append(f"{n - distinct} of {n} samples are copies of others: the test counts each once")
    if count == 1:
        found.append("all samples are one independent unit: the search measures how far answers move, and no accuracy")
    elif store.groups is not None and count <= GROUPS_TO_TEST:
        text = f"{n} samples in {count} independent groups: a certificate takes {GROUPS_TO_TEST + 1} groups or more"
        found.append(f"{text}; candidates are estimated")
    elif store.groups is None and count < LEAST_TO_TEST:
        found.append(f"only {n} samples: candidates are estimated; a certificate takes {LEAST_TO_TEST} or more")
    return found


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


def strata(store: SampleStore) -> NDArray[Any] | None:
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
