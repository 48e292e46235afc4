"""``load_samples``: every form in which data comes, as one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hasten.model import TensorSpec
from hasten.samples.store import Array, SampleStore


@dataclass(frozen=True)
class Item:
    """One sample as it came: arrays by input name ("" for the only input), its label and group, a name for messages."""

    inputs: Mapping[str, Array]
    id: str
    label: Any = None
    group: Any = None


@dataclass
class Stream:
    """Samples on their way in; ``once`` holds arrays that serve every sample."""

    items: Iterator[Item]
    once: dict[str, Array] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Data that has been recognised but not read: ``open`` starts a pass over it for a network's inputs."""

    open: Callable[[tuple[TensorSpec, ...]], Stream]
    source: str
    state: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None

    def spool(self, directory: Path, inputs: tuple[TensorSpec, ...]) -> SampleStore:
        """Check every sample against ``inputs`` and write them all to ``directory``; nothing is left there on error."""
        raise NotImplementedError


def load_samples(
    data: object,
    *,
    labels: str = "labels",
    groups: str | None = None,
    state: Mapping[str, str] | None = None,
    preprocess: str | Callable[[Array], Array] | None = None,
    limit: int | None = None,
) -> Samples:
    """Recognise ``data``; nothing is read yet beyond what that takes."""
    raise NotImplementedError
