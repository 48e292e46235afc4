"""What each recovery buys: divergence and score of int8 alone and with each, on ONNX Runtime and OpenVINO.

    python -m benchmarks.recovery NETS SCRATCH [NAME ...]

NETS holds the folders that ``python -m benchmarks.networks`` prepares; ``breaking`` is made on the spot. Calibration
takes 64 samples of hasten's calibrate split, the judging ones are of its search split. "plain" is int8 with the one
range method that is best for all tensors; every recovery comes on top of that.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import breaking
from benchmarks.contest.arena import specs
from benchmarks.networks import bundle
from benchmarks.networks.bundle import Bundle
from hasten import registry
from hasten.frontends.onnx import load
from hasten.measure.divergence import divergence
from hasten.metrics import resolve
from hasten.model import Model
from hasten.passes.clean import Clean
from hasten.passes.correct import Correct
from hasten.passes.equalize import Equalize
from hasten.passes.own_ranges import own_ranges
from hasten.passes.quantize import Quantize
from hasten.passes.round_weights import RoundWeights
from hasten.passes.smooth import Smooth
from hasten.protocols import Context, NotApplicable, Pass
from hasten.quant.ranges import METHODS
from hasten.samples import SampleStore, load_samples
from hasten.search.prepare import cut
from hasten.search.workshop import Calibration

RESULT = Path(__file__).parent / "results" / "recovery.json"
ENGINES: dict[str, dict[str, Any]] = {"onnxruntime": {}, "openvino": {"precision": "f32"}}
CALIBRATE = 64
JUDGED = {
    "ppocr_det": 64,
    "ppocr_rec": 400,
    "magika": 600,
    "efficientnet_lite0": 400,
    "minilm_l6": 400,
    "breaking": 800,
}
PER_TENSOR = ("efficientnet_lite0", "breaking")  # also with one scale a weight
Array = NDArray[Any]

BEFORE: dict[str, Sequence[Pass]] = {
    "equalize": (Equalize(),),
    "equalize, clips kept": (Equalize(clip="skip"),),
    "equalize + absorb": (Equalize(absorb=True),),
    "smooth, folded only": (Smooth(insert=False),),
    "smooth": (Smooth(),),
    "equalize + smooth": (Equalize(clip="skip"), Smooth()),
}
BEHIND: dict[str, Sequence[Pass]] = {
    "bias, fast": (Correct(method="fast"),),
    "bias, sequential": (Correct(),),
    "weights, mse": (RoundWeights(method="mse"),),
    "weights, adaround": (RoundWeights(method="adaround"),),
    "weights, gptq": (RoundWeights(method="gptq"),),
    "weights, gptq + bias": (RoundWeights(method="gptq"), Correct()),
}


@dataclass
class Bench:
    """A network with its calibration samples and the samples that it is judged on."""

    bundle: Bundle
    model: Model
    store: SampleStore
    context: Context
    judged: list[int]
    float_answers: list[list[Array]] = field(default_factory=list)

    @property
    def output(self) -> int:
        """Position of the output that counts."""
        names = [o.name for o in self.model.outputs]
        return names.index(self.bundle.meta.output) if self.bundle.meta.output else 0

    def answers(self, model: Model, engine: str) -> list[list[Array]]:
        """All outputs on each judging sample, by the artefact that the engine would serve."""
        runtime = registry.find("engines", engine)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            model.save(path)
            runner = runtime.load(runtime.export(path, Path(folder)), ENGINES[engine])
            found = [[np.array(a) for a in runner.run(self.store.sample(i))] for i in self.judged]
            runner.close()
        return found

    def judge(self, model: Model, engine: str) -> tuple[float, float]:
        """(divergence, score)."""
        answers, k = self.answers(model, engine), self.output
        pairs = zip(self.float_answers, answers, strict=True)
        far = [divergence(w[k], a[k]) for w, a in pairs]
        return float(np.mean(far)), self.score(answers)

    def score(self, answers: list[list[Array]]) -> float:
        """The network's own metric."""
        metric_name, output = self.bundle.meta.metric, self.bundle.meta.output or None
        labels = (
            None if self.store.labels is None else np.stack([np.asarray(self.store.labels[i]) for i in self.judged])
        )
        named = self._named(answers)
        metric = resolve(metric_name, output=output, sample=(named, labels))
        truth = metric.reference(self._named(self.float_answers)) if labels is None else labels
        return metric.value(metric.rows(named, truth))

    def _named(self, answers: list[list[Array]]) -> dict[str, Array]:
        return {o.name: np.concatenate([a[k] for a in answers]) for k, o in enumerate(self.model.outputs)}


def stacked(labels: list[Array]) -> Array:
    """Labels as one array; texts of different lengths are filled up with -1."""
    longest = max((len(one) for one in labels if one.ndim == 1), default=0)
    return np.stack(
        [np.pad(one, (0, longest - len(one)), constant_values=-1) if one.ndim == 1 else one for one in labels]
    )


def prepared(found: Bundle, scratch: Path) -> Bench:
    meta, inputs = found.meta, specs(found.model)[0]
    samples = load_samples(found.data, groups=meta.groups or None, state=meta.state)
    store = samples.spool(scratch / meta.name, inputs)
    splits = cut(store)
    calibration = Calibration(store, tuple(int(i) for i in splits.calibrate[:CALIBRATE]), scratch / f"{meta.name}.npz")
    context = Context(feeds=calibration.feeds, stats=calibration.stats)
    model = load(found.model)
    with suppress(NotApplicable):
        model = Clean()(model, context)
    bench = Bench(found, model, store, context, [int(i) for i in splits.search[: JUDGED[meta.name]]])
    bench.float_answers = bench.answers(model, "onnxruntime")
    return bench


def rows(bench: Bench, engine: str, per_channel: bool) -> list[dict[str, Any]]:
    """Every recovery on one engine."""
    found: list[dict[str, Any]] = []
    name = bench.bundle.meta.name + ("" if per_channel else ", one scale a weight")
    base = bench.score(bench.float_answers)

    def tell(recovery: str, build: Callable[[], Model]) -> dict[str, Any]:
        row: dict[str, Any] = {
            "network": name,
            "engine": engine,
            "recovery": recovery,
            "n": len(bench.judged),
            "float": base,
        }
        begin = time.perf_counter()
        try:
            model = build()
        except NotApplicable as reason:
            row["not_applicable"] = str(reason)
        else:
            row["seconds"] = round(time.perf_counter() - begin, 2)
            row["divergence"], row["score"] = bench.judge(model, engine)
        found.append(row)
        show(row)
        return row

    step = Quantize(scheme=engine, per_channel=per_channel)
    tried = {
        m: tell(f"int8, {m}", lambda m=m: replace(step, ranges=m)(bench.model, bench.context))  # type: ignore[misc]
        for m in METHODS
    }
    best = min(METHODS, key=lambda m: tried[m].get("divergence", np.inf))
    plain = replace(step, ranges=best)

    def built(before: Sequence[Pass] = (), behind: Sequence[Pass] = (), quantizer: Quantize = plain) -> Model:
        model = bench.model
        for one in before:
            model = one(model, bench.context)
        context = replace(bench.context, reference=model)
        model = quantizer(model, context)
        for one in behind:
            model = one(model, context)
        return model

    tell(f"plain ({best})", built)
    tell("own ranges", lambda: built(quantizer=ranged(bench, plain)))
    for recovery, passes in BEFORE.items():
        tell(recovery, lambda passes=passes: built(before=passes))  # type: ignore[misc]
    for recovery, passes in BEHIND.items():
        tell(recovery, lambda passes=passes: built(behind=passes))  # type: ignore[misc]
    return found


def ranged(bench: Bench, plain: Quantize) -> Quantize:
    output = bench.bundle.meta.output
    better = own_ranges(bench.model, bench.context, plain, divergence, output=output, seconds=240)
    if better == plain:
        raise NotApplicable("no tensor needs a range of its own")
    return better


def show(row: dict[str, Any]) -> None:
    head = f"{row['network']:36} {row['engine']:12} {row['recovery']:22}"
    if "not_applicable" in row:
        print(f"{head} -- {row['not_applicable']}", flush=True)
        return
    print(
        f"{head} {row['divergence']:10.2e} {row['score']:8.4f} of {row['float']:.4f} {row['seconds']:8.1f} s",
        flush=True,
    )


def save(found: list[dict[str, Any]]) -> None:
    """Put the rows in place of older ones of the same network and engine."""
    old = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    new = {(row["network"], row["engine"]) for row in found}
    kept = [row for row in old if (row["network"], row["engine"]) not in new]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"calibrate": CALIBRATE, "rows": kept + found}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(JUDGED))
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    for name in options.names or JUDGED:
        made = name == "breaking"
        found = breaking.prepare(options.scratch / "breaking_net") if made else bundle.read(options.nets / name)
        bench = prepared(found, options.scratch)
        for engine in ENGINES:
            for per_channel in (True, False) if name in PER_TENSOR else (True,):
                save(rows(bench, engine, per_channel))


if __name__ == "__main__":
    main()
