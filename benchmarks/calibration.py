"""Peak memory and time of calibration against the number of samples, beside ONNX Runtime's entropy calibrator.

    python benchmarks/calibration.py MODELS --samples 64 512 2048 --peer-samples 2 4 8

MODELS holds ``ppocr_v4/ch_PP-OCRv4_det_infer.onnx``. Every line is a fresh process; its peak is VmHWM, and "above"
is that minus the peak of plain inference over the same samples. Samples are rendered pages of 640x640.
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
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

NETWORK = "ppocr_v4/ch_PP-OCRv4_det_infer.onnx"
RESULT = Path(__file__).parent / "results" / "calibration.json"
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "2048", "invoices", "wait")


def page(seed: int, side: int = 640) -> NDArray[np.float32]:
    """A page of text on paper, normalised as the detector's owner does: float32[1, 3, side, side]."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(seed)
    paper = tuple(int(v) for v in rng.integers(170, 256, 3))
    image = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(image)
    top = int(rng.integers(5, 40))
    while top < side - 40:
        size = int(rng.integers(12, 34))
        text = " ".join(rng.choice(WORDS, 8))
        ink = tuple(int(v) for v in rng.integers(0, 120, 3))
        draw.text((int(rng.integers(5, 60)), top), text, fill=ink, font=ImageFont.load_default(size))
        top += size + int(rng.integers(4, 30))
    pixels = np.asarray(image, np.float32) / 255
    pixels = (pixels - np.array([0.485, 0.456, 0.406], np.float32)) / np.array([0.229, 0.224, 0.225], np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def pages(count: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    return ({"x": page(seed)} for seed in range(count))


def plain(network: Path, count: int) -> None:
    """The network alone, on the session settings that the collection uses."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    for feeds in pages(count):
        session.run(None, feeds)


def hasten(network: Path, count: int) -> None:
    """All tensors, all range methods."""
    import onnx_ir as ir

    from hasten.graph.taps import collect
    from hasten.model import Model, TensorSpec
    from hasten.quant.ranges import METHODS, choose_range

    graph = ir.load(network)
    names = [value.name for node in graph.graph for value in node.outputs if value.name]
    model = Model(graph, (TensorSpec("x", ("n", 3, "h", "w"), "float32"),), ())
    stats = collect(model, ["x", *names], lambda: pages(count))
    for tensor in stats.values():
        for method in METHODS:
            choose_range(tensor, method)


def peer(network: Path, count: int) -> None:
    """ONNX Runtime's own entropy calibrator over all tensors."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.pages = pages(count)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.pages, None)

    with TemporaryDirectory() as folder:
        augmented = f"{folder}/augmented.onnx"
        calibrator = create_calibrator(
            network, augmented_model_path=augmented, calibrate_method=CalibrationMethod.Entropy
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()


KINDS = {"plain": plain, "hasten": hasten, "onnxruntime-entropy": peer}


def child(kind: str, network: Path, count: int, limit_gib: float) -> None:
    if limit_gib:
        resource.setrlimit(resource.RLIMIT_AS, (int(limit_gib * 2**30),) * 2)
    begin = time.perf_counter()
    KINDS[kind](network, count)
    seconds = time.perf_counter() - begin
    line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM"))
    print(json.dumps({"peak_mib": int(line.split()[1]) / 1024, "seconds": seconds}))


def measure(kind: str, models: Path, count: int, limit_gib: float = 0) -> dict[str, Any]:
    """One fresh process; ``failed`` holds the last line of its complaint when it did not finish."""
    command = [sys.executable, __file__, str(models), "--child", kind, str(count), str(limit_gib)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row: dict[str, Any] = {"kind": kind, "samples": count}
    if done.returncode == 0:
        row.update(json.loads(done.stdout.splitlines()[-1]))
        return row
    return row | {"failed": (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1][:200]}


def show(row: dict[str, Any], base: dict[str, Any] | None) -> None:
    head = f"{row['kind']:20} {row['samples']:>7}"
    if "failed" in row:
        print(f"{head}  did not finish: {row['failed']}")
        return
    above = f"{row['above_mib']:>9.0f}" if base else " " * 9
    ratio = f"{row['seconds'] / base['seconds']:>8.2f}" if base else " " * 8
    print(f"{head} {row['peak_mib']:>9.0f} {above} {row['seconds'] / row['samples']:>10.3f} {ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 512, 2048])
    parser.add_argument("--peer-samples", type=int, nargs="*", default=[2, 4, 8])
    parser.add_argument("--peer-memory", type=float, default=12, help="address space of the peer, GiB")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, count, limit = options.child
        child(kind, options.models / NETWORK, int(count), float(limit))
        return
    rows = []
    print(f"{'':20} {'samples':>7} {'peak MiB':>9} {'above':>9} {'s/sample':>10} {'× plain':>8}")
    plan = [("hasten", n) for n in options.samples] + [("onnxruntime-entropy", n) for n in options.peer_samples]
    for kind, count in plan:
        base = measure("plain", options.models, count)
        row = measure(kind, options.models, count, options.peer_memory if kind != "hasten" else 0)
        if "failed" not in row:
            row["above_mib"] = row["peak_mib"] - base["peak_mib"]
        show(base, None)
        show(row, base)
        rows += [base, row]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"network": NETWORK, "side": 640, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
