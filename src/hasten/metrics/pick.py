"""Which output a metric looks at, and in what shape its labels come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import InputError, did_you_mean

Array = NDArray[Any]
Rows = NDArray[np.float64]


def chosen(outputs: Mapping[str, Array], name: str | None) -> tuple[str, Array]:
    """The output called ``name``, else the first floating one, else the first of whole numbers: (name, array [b, ...]).

    Raises:
        InputError: there is none of that name, or none of numbers.
    """
    if name is None:
        kinds = {n: np.asarray(a).dtype.kind for n, a in outputs.items()}
        name = next((n for wanted in ("f", "iub") for n, kind in kinds.items() if kind in wanted), None)
        if name is None:
            have = ", ".join(f"{n} {np.asarray(a).dtype}" for n, a in outputs.items())
            raise InputError(f"no output holds numbers: {have}", help="name the output to score")
    elif name not in outputs:
        raise InputError(f"the network has no output called {name!r}", help=did_you_mean(name, outputs))
    array = np.asarray(outputs[name])
    if array.ndim == 0:
        raise InputError(f"output {name!r} is a single number, not one a sample", help="name another output to score")
    return name, array.astype(np.float32) if array.dtype == np.float16 else array


def one_a_sample(labels: Array, samples: int, metric: str) -> Array:
    """Labels [b] from [b] or [b, 1].

    Raises:
        InputError: another shape, or another number of samples.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (samples,):
        raise InputError(
            f"labels {list(labels.shape)} do not fit {samples} samples", help=f"{metric} needs one a sample"
        )
    return labels
