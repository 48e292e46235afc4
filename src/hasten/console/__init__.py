"""What the terminal shows: the verdict, tables, and progress; plain where there is no terminal, narrow where it is."""

from hasten.console.blocks import (
    apply_block,
    bench_table,
    doctor_block,
    facts_block,
    inspect_block,
    prove_block,
    region_table,
    verify_block,
)
from hasten.console.faults import translated
from hasten.console.progress import STOPPING, Progress, line, listening, stopping
from hasten.console.terminal import show, write
from hasten.console.verdict import result_block

__all__ = [
    "STOPPING",
    "Progress",
    "apply_block",
    "bench_table",
    "doctor_block",
    "facts_block",
    "inspect_block",
    "line",
    "listening",
    "prove_block",
    "region_table",
    "result_block",
    "show",
    "stopping",
    "translated",
    "verify_block",
    "write",
]
