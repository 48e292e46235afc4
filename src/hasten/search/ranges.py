"""Which calibration method? The one whose quantized network answers most like the float one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from hasten.frontends.onnx import load
from hasten.machine import instruction_sets
from hasten.passes.clean import Clean
from hasten.passes.quantize import variants
from hasten.protocols import Context, NotApplicable
from hasten.quant.ranges import METHODS
from hasten.samples import SampleStore
from hasten.search.build import Calibration, divergences


def choose(
    source: str, engine: str, directory: str, store: str, calibrate: list[int], judge: list[int], output: int
) -> dict[str, Any]:
    """Build the first variant for ``engine`` with every method and compare the answers on the samples ``judge``.

    Returns ``{"ranges": names best first, "text": "method error, ..."}``. One float run serves all methods.
    Runs in a worker.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    calibration = Calibration(SampleStore.open(Path(store)), tuple(calibrate), folder.parent / "stats.npz")
    context = Context(feeds=calibration.feeds, stats=calibration.stats, instruction_sets=instruction_sets())
    model = load(Path(source))
    with suppress(NotApplicable):
        model = Clean()(model, context)
    paths = {}
    for method in METHODS:
        path = folder / f"{method}.onnx"
        try:
            replace(variants(engine)[0], ranges=method)(model, context).save(path)
        except NotApplicable as reason:
            return {"ranges": list(METHODS[:2]), "text": str(reason)}
        paths[method] = path
    errors = divergences(source, [str(p) for p in paths.values()], "onnxruntime", store, judge, output)
    ranked = sorted(zip(errors, paths, strict=True))
    text = ", ".join(f"{name} {error:.1e}" for error, name in ranked if error < inf)
    for path in paths.values():
        path.unlink(missing_ok=True)
        path.with_suffix(".data").unlink(missing_ok=True)
    return {"ranges": [name for _, name in ranked], "text": text}
