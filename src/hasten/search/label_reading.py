"""The user's labels in the notation that metrics read; each change is told in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hasten import bounded
from hasten.errors import InputError
from hasten.metrics.classes import IGNORED
from hasten.metrics.pick import chosen
from hasten.metrics.readings import CLASSES_FILE, reading, seen
from hasten.protocols import Array
from hasten.samples import SampleStore
from hasten.search.field import Run
from hasten.search.question import Question

LOOKED_AT = 512  # labels, spread evenly
LIST_BYTES = 1 << 20


def read_labels(run: Run, question: Question, outputs: Mapping[str, Array], probe: Sequence[int]) -> None:
    """Find out how the labels are written, beside the ``outputs`` on the samples ``probe``, and write them anew.

    A function of the user's gets the labels as they are.
    """
    store, metric = run.evaluator.store, question.metric
    own = metric is not None and (not isinstance(metric, str) or ":" in metric)
    if store.labels is None or own or not outputs:
        return
    try:
        _, scores = chosen(outputs, question.output)
    except InputError:
        return
    sample = joined(store, probe)
    if len(sample) != len(scores):
        return
    rows = np.unique(np.linspace(0, len(store) - 1, min(LOOKED_AT, len(store))).astype(int))
    found = seen(np.asarray(store.labels[int(i)]) for i in rows)
    name = metric if isinstance(metric, str) else None
    for step in reading(found, scores, sample, name, store.classes or class_list(question.data)):
        store.relabel(step.change)
        run.say("note", step.told)


def class_list(data: object) -> list[str]:
    """The lines of ``classes.txt`` beside the data or in its folder; none where there is no such file."""
    if not isinstance(data, str | Path):
        return []
    for folder in (Path(data), Path(data).parent):
        path = folder / CLASSES_FILE
        if folder.is_dir() and path.is_file():
            with bounded.opened(path, LIST_BYTES) as file:
                text = file.read().decode("utf-8-sig", "replace")
            return [line.strip() for line in text.splitlines() if line.strip()]
    return []


def joined(store: SampleStore, ids: Sequence[int]) -> Array:
    """The labels of ``ids`` along axis 0: a row a sample, or a row a step for sequences."""
    assert store.labels is not None
    parts = [np.asarray(store.labels[i]) for i in ids]
    if store.sequential:
        joined = np.concatenate(parts)
        return np.asarray(joined[joined != IGNORED])
    longest = max((len(p) for p in parts if p.ndim), default=0)
    ragged = len({p.shape for p in parts}) > 1
    rest = [[(0, 0)] * (p.ndim - 1) for p in parts]
    padded = [
        np.pad(p, [(0, longest - len(p)), *r], constant_values=-1) if ragged else p
        for p, r in zip(parts, rest, strict=True)
    ]
    return np.stack(padded)
