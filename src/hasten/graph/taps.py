"""Look inside the float network: stream inner tensors into statistics, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hasten.model import Model
from hasten.protocols import Feeds
from hasten.quant.histogram import TensorStats


def collect(
    model: Model,
    names: Sequence[str],
    feeds: Callable[[], Iterator[Feeds]],
    *,
    memory_bytes: int = 256 << 20,
    channels: bool = False,
) -> dict[str, TensorStats]:
    """Statistics of the inner tensors ``names`` over all samples of ``feeds()``."""
    raise NotImplementedError
