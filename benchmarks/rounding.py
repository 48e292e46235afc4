"""How far real float32 engines differ from each other, and float16 and bfloat16 arithmetic from them.

``python -m benchmarks.rounding [--store] [FOLDER ...]``: deep random networks of every family, and prepared ones
(``model.onnx`` and ``samples.npz`` in a folder). ``compare.FLOAT32`` must pass every engine in float32, and refuse
float16 everywhere. A narrow float is a graph whose products read rounded operands and whose outputs are rounded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from tests import networks, tiny

from hasten import compare, registry
from hasten.frontends.onnx import load
from hasten.graph import walk
from hasten.model import Model
from hasten.passes.clean import Clean
from hasten.passes.floats import round_floats
from hasten.protocols import Feeds, NotApplicable

SAMPLES = 64
RESULT = Path(__file__).parent / "results" / "rounding.json"
NARROW = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}


def built(folder: Path) -> Iterator[tuple[str, Path, list[Feeds]]]:
    """Random networks, deep enough for rounding to add up."""
    for depth in (4, 24):
        path = networks.cnn(folder / f"cnn{depth}.onnx", depth=depth)
        x = np.random.default_rng(1).standard_normal((SAMPLES, 1, 3, 32, 32)).astype(np.float32)
        yield f"convolutions, {depth}", path, [{"x": one} for one in x]
    made = {
        "multilayer perceptron": tiny.mlp(), "residual convolutions": tiny.residual_cnn(), "mobile": tiny.mobile(),
        "transformer, 12 blocks": transformer(12), "LSTM, 3 of 64 steps": recurrent(3, 64),
    }  # fmt: skip
    for name, model in made.items():
        path = folder / f"{name.replace(' ', '_')}.onnx"
        model.save(path)
        yield name, path, tiny.feeds(model, SAMPLES)


def transformer(blocks: int, width: int = 64, length: int = 16) -> Model:
    """Blocks of attention and a GELU, each behind a normalisation, as in encoders for text."""
    net, h = tiny.Net(), "x"
    for _ in range(blocks):
        n = net.add("LayerNormalization", h, net.w(width, shift=1, scale=0.1), net.w(width), axis=-1)
        q, k, v = (net.add("MatMul", n, net.w(width, width)) for _ in range(3))
        scores = net.add(
            "Mul", net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 1])), net.const(np.float32(0.125))
        )
        mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), v)
        h = net.add("Add", h, net.add("MatMul", mixed, net.w(width, width)))
        n = net.add("LayerNormalization", h, net.w(width, shift=1, scale=0.1), net.w(width), axis=-1)
        f = net.add("MatMul", n, net.w(width, 4 * width, scale=0.125))
        e = net.add("Erf", net.add("Mul", f, net.const(np.float32(0.5**0.5))))
        g = net.add("Mul", net.add("Mul", f, net.add("Add", e, net.const(np.float32(1)))), net.const(np.float32(0.5)))
        h = net.add("Add", h, net.add("MatMul", g, net.w(4 * width, width, scale=0.0625)))
    net.add("Identity", h, out="y")
    return net.model({"x": ["batch", length, width]}, {"y": ["batch", length, width]})


def recurrent(layers: int, steps: int, width: int = 32) -> Model:
    """Stacked LSTMs over one sequence."""
    net, h = tiny.Net(), "x"
    for _ in range(layers):
        weights = [net.w(1, 4 * width, width, scale=0.3) for _ in range(2)]
        y = net.add("LSTM", h, *weights, net.w(1, 8 * width, scale=0.1), hidden_size=width)
        h = net.add("Squeeze", y, net.const(np.array([1], np.int64)))
    net.add("Identity", h, out="y")
    return net.model({"x": [steps, "batch", width]}, {"y": [steps, "batch", width]})


def prepared(folder: Path) -> tuple[str, Path, list[Feeds]]:
    """A network with its own samples."""
    model = ir.load(folder / "model.onnx")
    arrays = np.load(folder / "samples.npz")
    takes = [str(v.name) for v in model.graph.inputs if v.name in arrays]
    ids = np.random.default_rng(0).permutation(len(arrays[takes[0]]))[:SAMPLES]
    held = {name: arrays[name] for name in takes}
    return folder.name, folder / "model.onnx", [{n: a[i : i + 1] for n, a in held.items()} for i in ids]


def answers(name: str, path: Path, feeds: Sequence[Feeds], folder: Path) -> list[list[compare.Array]]:
    """All outputs for all samples."""
    engine = registry.find("engines", name)
    place = Path(tempfile.mkdtemp(dir=folder))
    runner = engine.load(engine.export(path, place), engine.settings(2)[0])
    found = [[np.array(a) for a in runner.run(one)] for one in feeds]
    runner.close()
    return found


def narrowed(path: Path, folder: Path, name: str) -> Path:
    """The network with the operands of its products in a narrow float."""
    graph = ir.load(path)
    labels = [walk.label(n) for n in graph.graph if walk.weight(n) is not None]
    target = folder / f"{path.stem}-{name}.onnx"
    ir.save(round_floats(graph, labels, NARROW[name]), target)
    return target


def measured(path: Path, feeds: Sequence[Feeds], folder: Path) -> dict[str, Any]:
    """The difference of each engine, and of each narrow float, from ONNX Runtime as it is: worst output."""
    names = [str(v.name) for v in ir.load(path).graph.outputs]
    wanted = answers("onnxruntime", path, feeds, folder)
    tidy = folder / f"{path.stem}-tidy.onnx"
    try:
        Clean()(load(path), tiny.context(feeds[:4])).save(tidy)
    except NotApplicable:
        tidy = path
    found: dict[str, Any] = {}
    tried = {
        **{f"{engine}, tidied": (engine, tidy) for engine in ("onnxruntime", "openvino", "litert")},
        **{name: ("onnxruntime", narrowed(path, folder, name)) for name in NARROW},
    }
    for label, (engine, file) in tried.items():
        try:
            got = answers(engine, file, feeds, folder)
        except Exception as fault:  # an engine's own words: no operator, an old operator set
            found[label] = str(fault).splitlines()[0][:120]
            continue
        seen = compare.outputs(wanted, got, names).values()
        found[label] = {
            "largest": max(d.relative for d in seen), "mean": max(d.mean_relative for d in seen),
            "miscounted": sum(d.miscounted for d in seen),
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--store", action="store_true", help=f"write {RESULT.name}")
    arguments = parser.parse_args()
    table = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, path, feeds in [*built(Path(scratch)), *(prepared(f) for f in arguments.folders)]:
            table[name] = measured(path, feeds, Path(scratch))
            print(name, json.dumps(table[name], default=str), flush=True)
    if arguments.store:
        RESULT.write_text(json.dumps({"tolerance": compare.FLOAT32.relative, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
