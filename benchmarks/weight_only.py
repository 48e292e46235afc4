"""Peak memory and speed of four-bit weight quantization on a stack of random transformer blocks, beside ONNX Runtime's.

    python benchmarks/weight_only.py FOLDER --gigabytes 3

FOLDER takes the generated network (kept for the next time) and what is made of it. Every line is a fresh process: its
peak is VmHWM, "above" that minus the peak of an interpreter that has imported the same packages and done nothing.
GB/s are bytes of float weights over the seconds from loading the network to having saved its successor. GPTQ is left
out unless named: a matrix of 8,192 inputs takes it most of a minute.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

RESULT = Path(__file__).parent / "results" / "weight_only.json"
WIDTH, INNER, TOKENS = 2048, 8192, 16
BLOCK = 32
KINDS = {
    "hasten nearest": "nearest",
    "hasten kquant": "kquant",
    "hasten nearest, 8 bits": "nearest8",
    "hasten gptq": "gptq",
    "onnxruntime default": "DEFAULT",
    "onnxruntime k_quant": "k_quant",
    "onnxruntime rtn": "RTN",
}


class Weights:
    """Random matrices in one file, written one at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self.end, self.random = path, 0, np.random.default_rng(0)
        self.values: list[ir.Value] = []

    def add(self, *shape: int) -> ir.Value:
        array = self.random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[0]))
        with self.path.open("ab") as file:
            array.tofile(file)
        name = f"w{len(self.values)}"
        tensor = ir.ExternalTensor(
            self.path.name, self.end, array.nbytes, ir.DataType.FLOAT, shape=ir.Shape(shape), name=name,
            base_dir=self.path.parent,
        )  # fmt: skip
        self.end += array.nbytes
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT), const_value=tensor)
        self.values.append(value)
        return value


def generate(folder: Path, gigabytes: float) -> Path:
    """Blocks of attention and a feed-forward layer until the weights reach the size."""
    path, data = folder / "stack.onnx", folder / "stack.data"
    if path.exists() and data.stat().st_size >= gigabytes * 1e9:
        return path
    data.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    weights, nodes = Weights(data), list[ir.Node]()

    def add(kind: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        node = ir.node(kind, list(inputs), attributes, name=f"n{len(nodes)}")
        node.outputs[0].name = f"v{len(nodes)}"
        nodes.append(node)
        return node.outputs[0]

    x = given = ir.Value(name="x", shape=ir.Shape([1, "tokens", WIDTH]), type=ir.TensorType(ir.DataType.FLOAT))
    while weights.end < gigabytes * 1e9:
        h = add("LayerNormalization", x, weights.add(WIDTH), axis=-1)
        q, k, v = (add("MatMul", h, weights.add(WIDTH, WIDTH)) for _ in range(3))
        scores = add("Softmax", add("MatMul", q, add("Transpose", k, perm=[0, 2, 1])), axis=-1)
        x = add("Add", x, add("MatMul", add("MatMul", scores, v), weights.add(WIDTH, WIDTH)))
        h = add(
            "Relu", add("MatMul", add("LayerNormalization", x, weights.add(WIDTH), axis=-1), weights.add(WIDTH, INNER))
        )
        x = add("Add", x, add("MatMul", h, weights.add(INNER, WIDTH)))
    x.shape, x.type = given.shape, given.type
    graph = ir.Graph([given], [x], nodes=nodes, initializers=weights.values, opset_imports={"": 17}, name="stack")
    ir.save(ir.Model(graph, ir_version=8), path)
    return path


def samples(count: int = 8) -> Iterator[dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(1)
    return ({"x": rng.standard_normal((1, TOKENS, WIDTH)).astype(np.float32)} for _ in range(count))


def ours(network: Path, out: Path, method: str) -> None:
    from hasten.frontends.onnx import load
    from hasten.passes.quantize_weights import QuantizeWeights
    from hasten.protocols import Context

    bits = 8 if method.endswith("8") else 4
    step = QuantizeWeights(bits=bits, block=BLOCK, method=method.removesuffix("8"))
    context = Context(feeds=samples, stats=lambda model, names, channels=(): {}, instruction_sets=("avx512_vnni",))
    step(load(network), context).save(out)


def peers(network: Path, out: Path, algorithm: str) -> None:
    from onnxruntime.quantization import matmul_nbits_quantizer as theirs

    made = {
        "DEFAULT": lambda: theirs.DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, accuracy_level=4),
        "k_quant": theirs.KQuantWeightOnlyQuantConfig,
        "RTN": theirs.RTNWeightOnlyQuantConfig,
    }
    quantizer = theirs.MatMulNBitsQuantizer(
        str(network), block_size=BLOCK, is_symmetric=True, accuracy_level=4, algo_config=made[algorithm]()
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(out), use_external_data_format=True)


def child(kind: str, network: Path, out: Path, limit_gib: float) -> None:
    method = KINDS.get(kind, "")

    import hasten.frontends.onnx
    import hasten.passes.quantize_weights  # noqa: F401

    if limit_gib:
        resource.setrlimit(resource.RLIMIT_AS, (int(limit_gib * 2**30),) * 2)
    begin = time.perf_counter()
    if kind.startswith("hasten"):
        ours(network, out, method)
    elif method:
        peers(network, out, method)
    seconds = time.perf_counter() - begin
    line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM"))
    print()  # behind the progress bar of some
    print(json.dumps({"peak_mib": int(line.split()[1]) / 1024, "seconds": seconds}))


def weight_error(network: Path, made: Path) -> float:
    """||W8 - W|| / ||W|| of the first matrix, read from the artefact itself."""
    from hasten.graph import walk
    from hasten.quant.blocks import GRIDS

    nodes = {n.op_type: n for n in reversed(list(ir.load(made).graph)) if n.op_type == "MatMulNBits"}
    w = ir.load(network).graph.initializers["w1"].const_value
    assert w is not None
    packed, scales, *zeros = (walk.constant(v) for v in nodes["MatMulNBits"].inputs[1:])
    assert packed is not None
    assert scales is not None
    bits = int(nodes["MatMulNBits"].attributes["bits"].value)
    halves = np.stack([packed & 15, packed >> 4], -1) if bits == 4 else packed
    codes = halves.reshape(WIDTH, -1, BLOCK).astype(np.float32)
    point: Any = np.float32((GRIDS[bits].qmax + 1) // 2)
    if zeros and zeros[0] is not None:
        both = np.stack([zeros[0] & 15, zeros[0] >> 4], -1) if bits == 4 else zeros[0]
        point = both.reshape(WIDTH, -1)[:, :, None]
    rounded = ((codes - point) * scales.reshape(WIDTH, -1, 1)).reshape(WIDTH, -1).T
    return float(np.linalg.norm(rounded - w.numpy()) / np.linalg.norm(w.numpy()))


def measure(kind: str, network: Path, folder: Path, limit_gib: float = 0) -> dict[str, Any]:
    """One fresh process; ``failed`` holds the last line of its complaint when it did not finish."""
    out = folder / "out" / "made.onnx"
    out.parent.mkdir(exist_ok=True)
    for old in out.parent.iterdir():
        old.unlink()
    command = [sys.executable, __file__, str(folder), "--child", kind, str(network), str(out), str(limit_gib)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row: dict[str, Any] = {"kind": kind}
    if done.returncode != 0:
        return row | {"failed": (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1][:200]}
    row.update(json.loads(done.stdout.splitlines()[-1]))
    if kind in KINDS:
        row["file_mb"] = sum(p.stat().st_size for p in out.parent.iterdir()) / 1e6
        row["weight_error"] = weight_error(network, out)
    return row


def kept(size: int) -> list[dict[str, Any]]:
    """Rows of an earlier run on a network of this size: kinds that are not run again stay."""
    if not RESULT.exists():
        return []
    old: dict[str, Any] = json.loads(RESULT.read_text())
    return list(old["rows"]) if old["weights_bytes"] == size else []


def show(row: dict[str, Any]) -> None:
    if "failed" in row:
        print(f"{row['kind']:26} did not finish: {row['failed']}", flush=True)
        return
    head = f"{row['kind']:26} {row['peak_mib']:>9.0f} {row['above_mib']:>9.0f} {row['seconds']:>8.1f}"
    print(f"{head} {row['gb_per_second']:>7.3f} {row['file_mb']:>8.0f} {row['weight_error']:>8.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--peer-memory", type=float, default=16, help="address space of the peer, GiB")
    parser.add_argument("--kinds", nargs="*", default=[k for k in KINDS if k != "hasten gptq"])
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, network, out, limit = options.child
        child(kind, Path(network), Path(out), float(limit))
        return
    network = generate(options.folder, options.gigabytes)
    size = network.with_suffix(".data").stat().st_size
    base = measure("nothing", network, options.folder)
    print(f"{size / 1e9:.2f} GB of float weights; the interpreter with its imports takes {base['peak_mib']:.0f} MiB")
    print(f"{'':26} {'peak MiB':>9} {'above':>9} {'seconds':>8} {'GB/s':>7} {'MB':>8} {'error':>8}")
    found = {"weights_bytes": size, "width": WIDTH, "inner": INNER, "block": BLOCK, "base_mib": base["peak_mib"]}
    rows = {row["kind"]: row for row in kept(size)}
    for kind in options.kinds:
        row = measure(kind, network, options.folder, 0 if kind.startswith("hasten") else options.peer_memory)
        if "failed" not in row:
            row["above_mib"] = row["peak_mib"] - base["peak_mib"]
            row["gb_per_second"] = size / 1e9 / row["seconds"]
        show(row)
        rows[kind] = row
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps({**found, "rows": list(rows.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
