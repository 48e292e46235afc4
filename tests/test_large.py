"""A network of more than 2 GB, which is more than protobuf can hold: through the whole search, and out again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import hasten
from hasten.model import file_digest
from hasten.search import final, first_timing, pace

ROWS, WIDTH, BLOCK = 560_000, 1024, 10_000  # 2.3 GB in a single tensor
MOST = 2 * ROWS * WIDTH * 4  # bytes of memory of all processes together: two of them hold the weights at a time
DISK = 5 * ROWS * WIDTH * 4  # given, staged, built, written, and what a runtime dumps of its own graph


def wide(folder: Path) -> Path:
    """ids[N, 16] -> Gather of 2.3 GB -> mean -> Gemm -> y[N, 8], its weights in a file beside it."""
    block = np.random.default_rng(0).standard_normal((BLOCK, WIDTH)).astype(np.float32)
    with (folder / "wide.weights").open("wb") as file:
        for k in range(ROWS // BLOCK):
            file.write((block * (1 + k / 100)).tobytes())
    outside = TensorProto.EXTERNAL
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[ROWS, WIDTH], data_location=outside)
    for key, value in (("location", "wide.weights"), ("offset", "0"), ("length", str(ROWS * WIDTH * 4))):
        table.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["found"]),
            helper.make_node("ReduceMean", ["found"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("Gemm", ["mean", "w"], ["y"]),
        ],
        "wide",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8])],
        [table, numpy_helper.from_array(block[:WIDTH, :8].copy(), "w")],
    )
    path = folder / "wide.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.slow
def test_a_network_over_two_gigabytes_goes_in_and_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.disk_usage(tmp_path).free < 1.5 * DISK:
        pytest.skip(f"needs {1.5 * DISK / 1e9:.0f} GB of disk")
    monkeypatch.setattr(pace, "SIZES", ((1, 8),))
    # where the pages lie makes one process slower than the next
    monkeypatch.setattr(first_timing.Span, "behind", lambda *_: False)
    monkeypatch.setattr(final, "AS_FAST", 0.0)
    path, out = wide(tmp_path), tmp_path / "out"
    given = file_digest(tmp_path / "wide.weights")
    ids = np.random.default_rng(1).integers(0, ROWS, (40, 16))
    try:
        result = hasten.optimize(path, None, engines=["onnxruntime"], threads=1, seconds=600, out=out)
        print(f"peak memory of all processes together: {result.peak_bytes / 2**30:.2f} GiB")
        assert result.verdict in ("met", "nothing_faster"), "each is right on some machine"
        tried = next(t for t in result.trials if t.candidate.steps)
        assert (tried.status, tried.candidate.lossless) == ("ok", True)
        assert (tried.bytes or 0) > 2 << 30
        assert result.peak_bytes < MOST
        assert (out / "model.onnx").stat().st_size < 1 << 20
        np.savez(tmp_path / "data.npz", ids=ids)
        ran = subprocess.run([sys.executable, str(out / "example.py"), str(tmp_path / "data.npz")], capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode()
        assert hasten.verify(out)["checks"][0]["ok"]
        assert file_digest(tmp_path / "wide.weights") == given, "the input is never touched"
    finally:
        for file in tmp_path.rglob("*"):  # gigabytes that pytest would keep
            if file.is_file():
                file.unlink()
