"""Answers to rows: runs samples through a worker, keeps one small row a sample, never the outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hasten import replies
from hasten.errors import InputError
from hasten.metrics.classes import IGNORED
from hasten.protocols import Array, Metric
from hasten.samples import SampleStore
from hasten.wire import pack, unpack
from hasten.worker import Worker

Rows = NDArray[np.float64]
REPLY_BYTES = 1 << 24  # larger replies are slower: each touches fresh memory
KEPT_BYTES = 8 << 20  # of the baseline's rows, for a run that goes on; more is cheaper to measure again
TELL_SECONDS = 1.0
ALONE = "serve one sample at a time (--batch 1), or judge another output with --output"
CHUNK_SECONDS = 2.0  # about what one request may take, so that there is something to tell


class NewNaN(Exception):
    """A candidate answers NaN or infinity where the baseline did not."""


class Unscorable(NewNaN):
    """A candidate's answers have another shape or type than the baseline's, so that the metric cannot read them."""


@dataclass
class Evaluator:
    """One metric on one store. The baseline's rows (and, without labels, its answers) are kept by sample."""

    store: SampleStore
    metric: Metric
    outputs: tuple[str, ...]
    keep: tuple[int, ...]  # positions of the outputs that the metric reads
    batch: int = 1
    limit_seconds: float = 120.0
    baseline_rows: dict[int, Rows] = field(default_factory=dict)
    reference: dict[int, Array] = field(default_factory=dict)
    also: tuple[Metric, ...] = ()  # further metrics, whose rows are kept beside
    also_known: dict[int, list[Rows]] = field(default_factory=dict)  # the baseline's
    also_rows: dict[int, list[Rows]] = field(default_factory=dict)  # of the candidate that ran last on the sample
    also_reference: dict[tuple[int, int], Array] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)  # samples on which the baseline itself is not finite
    whole: dict[str, str] = field(
        default_factory=dict
    )  # outputs of the last answers that cannot be cut into samples, and why

    def answers(
        self, worker: Worker, ids: Sequence[int], keep: Sequence[int] | None = None
    ) -> Iterator[tuple[int, list[Array]]]:
        """Each sample's outputs at the positions ``keep`` (those that the metric reads), in the order of ``ids``.

        The batch axis is included.
        """
        keep = self.keep if keep is None else keep
        start, size, known = 0, 8, dict[int, int]()
        self.whole.clear()
        while start < len(ids):
            chunk, began = [int(i) for i in ids[start : start + size]], time.monotonic()
            place, limit = self.store.directory, self.limit_seconds
            reply = replies.run(worker, place, chunk, batch=self.batch, keep=keep, seconds=limit)
            arrays, took = reply.arrays, time.monotonic() - began
            yield from self._by_sample(chunk, reply.sizes, arrays, keep, known)
            start += len(chunk)
            used = max(1, sum(a.nbytes for a in arrays) // len(chunk))
            soon = int(len(chunk) * CHUNK_SECONDS / max(took, 1e-6))
            size = max(1, self.store.fixed, min(1024, REPLY_BYTES // used, soon))

    def _by_sample(
        self, ids: list[int], sizes: list[int], arrays: list[Array], keep: Sequence[int], known: dict[int, int]
    ) -> Iterator[tuple[int, list[Array]]]:
        """Batches back into samples: outputs are cut along axis 0 where it holds as many rows for each sample.

        Others stay whole, and ``whole`` names them. ``known`` are the rows of a sample in the batches before.
        """
        at, width = 0, len(keep)
        for number, size in enumerate(sizes):
            results = arrays[number * width : (number + 1) * width]
            each = [_rows_each(r, size) for r in results]
            if size > 1:
                for k, rows in zip(keep, each, strict=True):
                    if rows == 0 or known.setdefault(k, rows) != rows:
                        self.whole[self.outputs[k]] = f"{rows or 'no whole number of'} rows for each of {size} samples"
            cut = [rows if self.outputs[k] not in self.whole else 0 for k, rows in zip(keep, each, strict=True)]
            for k in range(size):
                yield ids[at + k], [r[k * n : (k + 1) * n] if n else r for r, n in zip(results, cut, strict=True)]
            at += size

    def measure_baseline(
        self, worker: Worker, ids: Sequence[int], tell: Callable[[int], None] = lambda _: None
    ) -> None:
        """Fill the baseline's rows for ``ids``; those already known are not run again.

        ``tell`` hears about once a second how many are done.
        """
        told = time.monotonic()
        for done, (i, outputs) in enumerate(self.answers(worker, [i for i in ids if i not in self.baseline_rows])):
            if time.monotonic() > told + TELL_SECONDS:
                told = time.monotonic()
                tell(done)
            named, truth = self._frames(i, outputs)
            if not all(_finite(a) for a in outputs):
                self.broken.add(i)
            if not self.metric.needs_labels:
                truth = self.reference[i] = self.metric.reference(named)
            try:
                self.baseline_rows[i] = self.metric.rows(named, truth)
            except InputError as fault:
                raise InputError(f"sample {i}: {fault.message}", cause=fault.cause, help=fault.help) from fault
            if self.also:
                self.also_reference.update(
                    {(i, k): m.reference(named) for k, m in enumerate(self.also) if not m.needs_labels}
                )
                self.also_known[i] = self._also(i, named)

    def kept(self, ids: Sequence[int]) -> bytes | None:
        """What is known of the baseline on ``ids``, for ``take``; None where that is too much to keep."""
        if self.also:
            return None
        rows = [self.baseline_rows[i] for i in ids]
        truths = [] if self.metric.needs_labels else [self.reference[i] for i in ids]
        if sum(a.nbytes for a in (*rows, *truths)) > KEPT_BYTES or any(a.dtype.hasobject for a in truths):
            return None
        return b"".join(pack({"ids": list(ids), "broken": [i for i in ids if i in self.broken]}, [*rows, *truths]))

    def take(self, kept: bytes) -> None:
        """Know again what ``kept`` gave."""
        message, arrays = unpack(kept)
        ids = [int(i) for i in message["ids"]]
        self.baseline_rows.update(zip(ids, arrays, strict=False))
        self.reference.update(zip(ids, arrays[len(ids) :], strict=False))
        self.broken.update(message["broken"])

    def rows(self, worker: Worker, ids: Sequence[int]) -> Rows:
        """The candidate's rows for ``ids``.

        Raises:
            NewNaN: an answer is not finite where the baseline's was, or (``Unscorable``) is none of its shape or type.
        """
        return np.concatenate([self.row(i, outputs) for i, outputs in self.answers(worker, ids)])

    def row(self, i: int, outputs: list[Array]) -> Rows:
        """The row of a candidate's answers to sample ``i``, of what the metric reads; raises as ``rows``."""
        try:
            finite = all(_finite(a) for a in outputs)
            named, truth = self._frames(i, outputs)
            row = self.metric.rows(named, truth)
            if self.also:
                self.also_rows[i] = self._also(i, named)
        except (InputError, ValueError, TypeError, IndexError) as fault:
            said = fault.message if isinstance(fault, InputError) else str(fault)
            raise Unscorable(f"its answer to sample {i} cannot be scored: {said}") from fault
        if i not in self.broken and not finite:
            raise NewNaN(f"answers NaN or infinity on sample {i}, the baseline does not")
        return row

    def _also(self, i: int, named: dict[str, Array]) -> list[Rows]:
        """The rows of the further metrics on sample ``i``."""
        label = None if self.store.labels is None else np.asarray(self.store.labels[i])
        if label is not None:
            label = label[label != IGNORED] if self.store.sequential else label[None]
        truths = [label if m.needs_labels else self.also_reference[i, k] for k, m in enumerate(self.also)]
        return [m.rows(named, np.asarray(t)) for m, t in zip(self.also, truths, strict=True)]

    def known(self, ids: Sequence[int]) -> Rows:
        """The baseline's rows for ``ids``, as one array."""
        return np.concatenate([self.baseline_rows[int(i)] for i in ids])

    def groups(self, ids: Sequence[int]) -> Array | None:
        """A group for each row: the user's, or the sequence for networks with state; None when rows stand alone."""
        given = self.store.groups
        if given is None and not self.store.state:
            return None
        return np.concatenate(
            [np.full(len(self.baseline_rows[int(i)]), int(i) if given is None else int(given[int(i)])) for i in ids]
        )

    def _frames(self, i: int, outputs: list[Array]) -> tuple[dict[str, Array], Array]:
        """What the metric sees of sample ``i``: a row for it, or a row for each step of a sequence that has a label."""
        named = dict(zip((self.outputs[k] for k in self.keep), outputs, strict=True))
        for name in named.keys() & self.whole.keys():
            cause = f"its first axis holds {self.whole[name]}"
            raise InputError(f"output {name!r} cannot be divided among the samples of a batch", cause=cause, help=ALONE)
        if not self.metric.needs_labels:
            return named, self.reference.get(i, np.empty(0))
        assert self.store.labels is not None
        label = np.asarray(self.store.labels[i])
        if not self.store.sequential:
            return named, label[None]
        known = label != IGNORED
        return {n: a[known] if len(a) == len(known) else a for n, a in named.items()}, label[known]


def _rows_each(array: Array, size: int) -> int:
    """The rows of each sample in a batch of ``size``; 0 where the first axis is no multiple of it."""
    rows = array.shape[0] if array.ndim else 0
    return 0 if size == 1 or rows % size else rows // size


def _finite(array: Array) -> bool:
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
