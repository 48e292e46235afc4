"""Rules for operators that map one to one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from hasten.export.tflite_file import Grid
from hasten.export.tflite_step import Rule, Step

Table = dict[str, Rule]


def on(
    kinds: Mapping[str, str], table: str = "", *, inputs: int = 1, fuses: bool = False, int8: str | Grid = ""
) -> Table:
    """``{"Add": "ADD"}``: the same inputs in the same order, and options without fields to set."""
    return {name: Rule(partial(_plain, kind, table, inputs), fuses, int8) for name, kind in kinds.items()}


def _plain(kind: str, table: str, inputs: int, s: Step) -> None:
    s.emit(kind, [s.input(k) for k in range(inputs)], table)
