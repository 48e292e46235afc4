"""A sample of a network with state is a sequence; here it becomes one feed a step."""

from __future__ import annotations

from collections.abc import Mapping

from hasten.samples.store import Array, SampleStore


def unroll(store: SampleStore, feeds: Mapping[str, Array]) -> list[Mapping[str, Array]]:
    """The steps of a sequence, [T, ...] inputs cut along T; anything else is a single step.

    State inputs start at zero; who runs the network replaces them by what it carries.
    """
    if not store.sequential:
        return [feeds]
    moving = [entry.name for entry in store.inputs if entry.per_step]
    length = len(feeds[moving[0]])
    return [{**store.initial, **{n: a[t] if n in moving else a for n, a in feeds.items()}} for t in range(length)]
