"""A look at a few samples before the network is known: for networks that say what they take only when they are run."""

from __future__ import annotations

import numpy as np

from hasten.errors import HastenError
from hasten.samples.load import load_samples
from hasten.samples.stream import Array


def peek(data: object, most: int, labels: str = "labels", groups: str | None = None) -> dict[str, Array] | None:
    """The first samples stacked, by the names that the data gives; None where that cannot be had.

    Images are fitted to the network's input, so that there is nothing to see before it is known.
    """
    if data is None or hasattr(data, "__next__"):
        return None
    try:
        stream = load_samples(data, labels=labels, groups=groups).open(())
        found = [item for _, item in zip(range(most), stream.items, strict=False)]
        return {k: np.stack([item.inputs[k] for item in found]) for k in found[0].inputs} if found else None
    except (HastenError, ValueError, KeyError, IndexError, OSError):
        return None
