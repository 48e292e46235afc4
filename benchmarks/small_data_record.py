"""Records for ``small_data``: ``python -m benchmarks.small_data_record NETS magika ppocr_cls ...``.

Candidates of every kind are built from 128 calibration samples, also bad ones, and scored on every other sample.
``results/small_data/NAME.npz`` keeps the scores of both networks sample by sample, the divergence of a random part of
the answers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import bundle
from hasten import registry
from hasten.frontends.onnx import load
from hasten.measure.divergence import DECIDES, mean_divergence
from hasten.metrics import resolve
from hasten.samples import load_samples
from hasten.search import space
from hasten.search.build import build
from hasten.trial import Scalar, Step

FOLDER = Path(__file__).with_name("results") / "small_data"
CALIBRATE, WEIGHED, BATCH = 128, 192, 64
SUBSETS = (0.25, 0.5, 0.75)  # of the layers, left in float
Array = NDArray[Any]
Recipe = tuple[str, tuple[Step, ...], str, dict[str, Scalar]]


def recipes(layers: list[str]) -> Iterator[Recipe]:
    """Label, steps, engine and settings of each candidate."""
    clean, random = space.CLEAN, np.random.default_rng(0)
    yield "openvino bf16", (clean,), "openvino", {"precision": "bf16"}
    yield "dynamic int8", (clean, Step(name="quantize_dynamic")), "onnxruntime", {}
    for bits in (8, 4):
        options: dict[str, Scalar | list[str]] = {"bits": bits, "block": 32, "method": "kquant"}
        yield f"{bits}-bit weights", (clean, Step(name="quantize_weights", options=options)), "onnxruntime", {}
    for engine in ("onnxruntime", "openvino"):
        [first] = space.first_variants(registry.find("engines", engine).scheme, {})
        narrow = space.as_step("quantize", first)
        for ranges in ("minmax", "mse"):
            step = Step(name="quantize", options={**narrow.options, "ranges": ranges})
            yield f"{engine} int8 {ranges}", (clean, step), engine, {}
        for share in SUBSETS:
            kept = [str(n) for n in random.permutation(layers)[: int(share * len(layers))]]
            step = Step(name="quantize", options={**narrow.options, "exclude": kept})
            yield f"{engine} int8, {share:.0%} float", (clean, step), engine, {}


class Network:
    """One network with its samples, and the baseline's answers."""

    def __init__(self, given: bundle.Bundle, work: Path, most: int) -> None:
        self.given, self.work = given, work
        with np.load(given.data) as arrays:
            every = {name: arrays[name] for name in arrays.files}
        self.labels = every.pop("labels")
        order = np.random.default_rng(0).permutation(len(self.labels))
        self.model = load(given.model)
        calibrate = {name: array[order[:CALIBRATE]] for name, array in every.items()}
        store = load_samples(calibrate).spool(work / "samples", self.model.inputs)
        self.arguments: dict[str, Any] = {
            "source": str(given.model), "store": str(store.directory), "calibrate": list(range(CALIBRATE)),
            "cache": str(work / "stats.npz"),
        }  # fmt: skip
        rest = order[CALIBRATE:][:most]
        self.feeds, self.labels = {name: array[rest] for name, array in every.items()}, self.labels[rest]
        self.names = [output.name for output in self.model.outputs]
        self.metric = resolve(given.meta.metric, output=given.meta.output or None)
        self.old = self.answers("onnxruntime", given.model, {})

    def answers(self, engine: str, path: Path, settings: Mapping[str, Scalar]) -> tuple[Array, Array]:
        """Rows of every sample, and the first outputs of some."""
        runner = registry.find("engines", engine).load(path, dict(settings))
        rows, some, n = list[Array](), list[Array](), len(self.labels)
        for start in range(0, n, BATCH):
            part = slice(start, min(n, start + BATCH))
            outputs = runner.run({name: array[part] for name, array in self.feeds.items()})
            named = dict(zip(self.names, outputs, strict=False))
            rows.append(self.metric.rows(named, self.labels[part]))
            some += [outputs[0]] if start < WEIGHED else []
        runner.close()
        return np.concatenate(rows), np.concatenate(some)[:WEIGHED]

    def candidate(self, number: int, recipe: Recipe) -> dict[str, Any] | None:
        """What is kept of one candidate; None where it cannot be built or run."""
        label, steps, engine, settings = recipe
        folder = str(self.work / str(number))
        try:
            made = build(**self.arguments, steps=msgspec.to_builtins(steps), engine=engine, directory=folder)
            rows, some = self.answers(engine, Path(made["artefact"]), settings)
        except (KeyError, RuntimeError, ValueError) as fault:
            print(f"  {label}: {str(fault)[:80]}")
            return None
        classes = self.metric.name in DECIDES
        pairs = zip(self.old[1], some, strict=True)
        harm = np.array([mean_divergence([[a[None]]], [[b[None]]], classes=classes) for a, b in pairs])
        drop = self.metric.value(self.old[0]) - self.metric.value(rows)
        print(f"  {label}: loses {100 * drop:.2f}, harm {harm.mean():.3g}", flush=True)
        return {"label": label, "rows": rows, "harm": harm}


def one(given: bundle.Bundle, most: int) -> None:
    """Record one network."""
    with tempfile.TemporaryDirectory() as work:
        network = Network(given, Path(work), most)
        layers = [n.name for n in network.model.graph.graph if n.op_type in ("Conv", "MatMul", "Gemm") and n.name]
        found = [network.candidate(i, recipe) for i, recipe in enumerate(recipes(layers))]
    kept = [c for c in found if c is not None and np.isfinite(c["rows"]).all()]
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        FOLDER / f"{given.meta.name}.npz",
        baseline=narrowed(network.old[0]), candidates=narrowed(np.stack([c["rows"] for c in kept])),
        harm=narrowed(np.stack([c["harm"] for c in kept])),
        labels=np.array([c["label"] for c in kept]), metric=np.array(given.meta.metric),
    )  # fmt: skip
    print(f"{given.meta.name}: {len(kept)} candidates", flush=True)


def narrowed(rows: Array) -> Array:
    """The smallest type that keeps the scores: they are 0/1, or single precision is enough."""
    return rows.astype(np.uint8) if np.isin(rows, (0, 1)).all() else rows.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--samples", type=int, default=10_000)
    asked = parser.parse_args()
    for name in asked.names:
        print(name, flush=True)
        one(bundle.read(asked.nets / name), asked.samples)


if __name__ == "__main__":
    main()
