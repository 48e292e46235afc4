"""What each exact rewrite does to int8: the divergence with it and without it, network by network.

    python -m benchmarks.int8_forms NETS SCRATCH [NAME ...]

NETS holds the folders that ``python -m benchmarks.networks`` prepares; a credit-like network joins them. A row is a
rewrite that the clean-up applies. Int8 everywhere (ranges by mse, biases corrected) is built behind the whole clean-up
and behind the clean-up without that rewrite, and compared with the float network on two sets of samples that it was
not calibrated on. Where ``times`` is above 1 in both sets, the rewrite makes int8 worse.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tabular
from benchmarks.contest.arena import specs
from benchmarks.networks import bundle
from hasten.frontends.onnx import load
from hasten.graph import evaluate
from hasten.measure.divergence import DECIDES, mean_divergence
from hasten.model import Model
from hasten.passes import clean
from hasten.passes.clean import Rules, Whole
from hasten.passes.quantize import Quantize
from hasten.passes.rewrite import Settled, known
from hasten.protocols import Array, Feeds, NotApplicable
from hasten.samples import SampleStore, load_samples
from hasten.search.workshop import Calibration

RESULT = Path(__file__).parent / "results" / "int8_forms.json"
SCHEMES = ("onnxruntime", "openvino")
CALIBRATE, COMPARED = 32, 24  # samples to calibrate on, and in each set that is compared
WORSE = 1.25  # chosen: both sets must show it


@dataclass(frozen=True)
class Given:
    """A network with its samples: those to calibrate on, and two sets of feeds with the float network's answers."""

    name: str
    model: Model
    calibration: Calibration
    sets: tuple[list[Feeds], list[Feeds]]
    wanted: tuple[list[list[Array]], list[list[Array]]]
    outputs: tuple[str, ...]
    classes: bool


def given(folder: Path, scratch: Path) -> Given:
    """A prepared network."""
    found = bundle.read(folder)
    samples = load_samples(found.data, groups=found.meta.groups or None, state=found.meta.state)
    store = samples.spool(scratch / found.meta.name, specs(found.model)[0])
    outputs = (found.meta.output,) if found.meta.output else ()
    return of(found.meta.name, found.model, store, scratch, outputs, found.meta.metric in DECIDES)


def credit(scratch: Path) -> Given:
    """The credit-like network."""
    table = tabular.make(scratch / "credit_like.onnx")
    store = load_samples({"x": table.known}).spool(scratch / "credit_like", specs(table.model)[0])
    return of("credit_like", table.model, store, scratch, (), False)


def of(name: str, path: Path, store: SampleStore, scratch: Path, outputs: tuple[str, ...], classes: bool) -> Given:
    """With the float network's answers."""
    model = load(path)
    calibration = Calibration(store, tuple(range(CALIBRATE)), scratch / f"{name}.npz")
    other = Calibration(store, tuple(range(CALIBRATE, CALIBRATE + 2 * COMPARED)), scratch / f"{name}-other.npz")
    feeds: list[Feeds] = [dict(one) for one in islice(other.steps(model), 2 * COMPARED)]
    sets = feeds[:COMPARED], feeds[COMPARED:]
    outputs = outputs or tuple(o.name for o in model.outputs if o.dtype.startswith("float"))
    session = evaluate.session(model.graph, optimise=True)
    wanted = [[session.run(list(outputs), dict(one)) for one in part] for part in sets]
    return Given(name, model, calibration, sets, (wanted[0], wanted[1]), outputs, classes)


def divergences(one: Given, model: Model, scheme: str) -> list[float] | None:
    """Of int8 everywhere on both sets; None where nothing can be int8."""
    try:
        made = Quantize(scheme=scheme, ranges="mse", bias="corrected")(model, one.calibration.context())
    except NotApplicable:
        return None
    session = evaluate.session(made.graph, optimise=True, fused=False)
    found = []
    for feeds, wanted in zip(one.sets, one.wanted, strict=True):
        got = [session.run(list(one.outputs), dict(feed)) for feed in feeds]
        found.append(float(mean_divergence(wanted, got, classes=one.classes)))
    return found


def cleaned(one: Given, stages: Sequence[Whole | Rules], told: str) -> tuple[Model, Settled]:
    """The network after these stages; its history keeps statistics apart."""
    start = one.model.clone_graph()
    known(start)
    found = clean.run_stages(start, lambda candidate, tolerance: "", stages)
    graph = start if found.graph is None else found.graph
    return one.model.with_graph(graph, told), found


def without(name: str) -> list[Whole | Rules]:
    """All stages but for one rewrite."""
    return [
        replace(s, rewrites=tuple(r for r in s.rewrites if r.name != name)) if isinstance(s, Rules) else s
        for s in clean.STAGES
    ]


def row(one: Given) -> dict[str, Any]:
    """One network: int8 behind each clean-up."""
    whole, found = cleaned(one, clean.STAGES, "float")
    named = {r.name for s in clean.STAGES if isinstance(s, Rules) for r in s.rewrites}
    applied = [name for name in dict.fromkeys(site.rewrite for site in found.done) if name in named]
    variants = {"for int8": cleaned(one, clean.FOR_INT8, "int8")[0]}
    variants |= {f"without {name}": cleaned(one, without(name), f"without {name}")[0] for name in applied}
    told: dict[str, Any] = {"network": one.name, "rewrites": applied, "schemes": {}}
    for scheme in SCHEMES:
        base = divergences(one, whole, scheme)
        if base is None:
            continue
        rows: dict[str, Any] = {"float form": base}
        for label, model in variants.items():
            got = divergences(one, model, scheme)
            if got is not None:
                times = [round(a / max(b, 1e-12), 3) for a, b in zip(base, got, strict=True)]
                rows[label] = {"divergence": got, "times": times, "worse": min(times) > WORSE}
        told["schemes"][scheme] = rows
    return told


def show(told: dict[str, Any]) -> None:
    """Print one network."""
    for scheme, rows in told["schemes"].items():
        print(f"{told['network']} {scheme}: float form {rows['float form'][0]:.2e} {rows['float form'][1]:.2e}")
        for label, found in rows.items():
            if label != "float form":
                mark = "  worse with it" if found["worse"] else ""
                print(f"    {label:34} {found['times'][0]:8.2f} {found['times'][1]:8.2f} times{mark}", flush=True)


def main() -> None:
    """All networks, or those named; the stored table grows by them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    rows = {r["network"]: r for r in json.loads(RESULT.read_text())["rows"]} if RESULT.exists() else {}
    folders = {p.parent.name: p.parent for p in sorted(options.nets.glob("*/meta.json"))}
    for name in options.names or ["credit_like", *folders]:
        one = credit(options.scratch) if name == "credit_like" else given(folders[name], options.scratch)
        with np.errstate(all="ignore"):
            rows[name] = row(one)
        show(rows[name])
        RESULT.write_text(json.dumps({"rows": [rows[k] for k in sorted(rows)]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
