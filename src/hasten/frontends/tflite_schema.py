"""The schema of TensorFlow Lite files, from the package that ships it, and texts out of such a file."""

from __future__ import annotations

import unicodedata
from typing import Any

from hasten.errors import EnvironmentFault
from hasten.extras import pip


def schema() -> Any:
    """The generated schema module.

    Raises:
        EnvironmentFault: the package that ships it is missing.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as fault:
        raise EnvironmentFault("TensorFlow Lite files need LiteRT", cause=str(fault), help=pip("tflite")) from fault
    return schema_py_generated


def names_of(enumeration: Any) -> dict[int, str]:
    """Number to name of one of the schema's enumerations."""
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int)}


def text(value: bytes | None) -> str:
    """A name that is safe to show and to hand on: no control characters, at most 200 characters."""
    found = unicodedata.normalize("NFC", (value or b"").decode("utf-8", "replace"))
    return "".join(c for c in found if unicodedata.category(c)[0] != "C")[:200]
