"""Where engines answer otherwise than ONNX: what their modules declare, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hasten import registry

Reach = Literal["wide", "nan", "cast", "index", "ties", "double", "always"]


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One way in which some operators of an engine differ from ONNX, and what must be fed to them for it.

    ``reach`` says which values reach it: whole numbers beyond 32 bits (``wide``), NaN (``nan``), numbers beyond the
    type that they are cast to (``cast``), places outside the table (``index``), equal values (``ties``), numbers of 64
    bits (``double``), any (``always``).
    """

    operators: frozenset[str]  # empty: all
    words: str
    reach: Reach


def edges(engine: str) -> Sequence[Edge]:
    """What an engine declares; nothing where it declares nothing."""
    return tuple(getattr(registry.find("engines", engine), "edges", ()))


def declared(engine: str, operator: str) -> list[Edge]:
    """The edges of an operator on an engine."""
    return [edge for edge in edges(engine) if not edge.operators or operator in edge.operators]
