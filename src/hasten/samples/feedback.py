"""A state that nobody feeds: which output could be fed back, for whoever forgot to say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher

from hasten.errors import InputError
from hasten.model import TensorSpec
from hasten.samples.fit import ANY_RANK

ALIKE = 0.4  # of two names: h0 and hn, c_in and c_out, state and stateN


@contextmanager
def telling_of_state(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Iterator[None]:
    """Where data lacks an input that an output could feed, the refusal also says how."""
    try:
        yield
    except InputError as fault:
        pairs = fed_back([spec for spec in inputs if spec.name in fault.missing], outputs)
        options = " ".join(f"--state {name}={source}" for name, source in pairs.items())
        fault.help += f"; optimize and bench feed a state back: {options}" if pairs else ""
        raise


def fed_back(missing: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, str]:
    """Inputs without data, each with the output of a like name that fits it; no output twice."""
    found: dict[str, str] = {}
    for spec in missing:
        able = {o.name: _alike(spec.name, o.name) for o in outputs if _fits(o, spec) and o.name not in found.values()}
        best = max(able, key=lambda name: able[name], default=None)
        if best is not None and able[best] >= ALIKE:
            found[spec.name] = best
    return found


def _alike(name: str, other: str) -> float:
    return SequenceMatcher(None, name.lower(), other.lower()).ratio()


def _fits(output: TensorSpec, spec: TensorSpec) -> bool:
    if output.dtype != spec.dtype:
        return False
    if (ANY_RANK,) in (output.shape, spec.shape):
        return True
    sizes = zip(output.shape, spec.shape, strict=False)
    equal = all(a == b for a, b in sizes if isinstance(a, int) and isinstance(b, int))
    return equal and len(output.shape) == len(spec.shape)
