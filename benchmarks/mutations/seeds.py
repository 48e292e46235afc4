"""Good files of every kind, small, made here: what is damaged afterwards."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NEEDS = {
    "pt2": ("torch", "onnxscript"), "keras": ("keras", "torch", "h5py"),
    "savedmodel": ("tensorflow", "tf2onnx", "keras"),
    "tflite": ("ai_edge_litert",), "parquet": ("pyarrow",), "png": ("PIL",), "tiff": ("PIL",), "jpeg": ("PIL",),
}  # fmt: skip


def make(kind: str, folder: Path) -> list[Path]:
    """Seeds of ``kind`` in ``folder``: files, and for a SavedModel a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Path], list[Path]]] = {
        "onnx": _onnx, "tflite": _tflite, "pt2": _pt2, "keras": _keras, "savedmodel": _saved_model,
        "npz": _npz, "npy": _npy, "csv": _csv, "csv.gz": _csv_gz, "parquet": _parquet,
    }  # fmt: skip
    if kind in ("png", "tiff", "jpeg"):
        return _images(folder, kind)
    return makers[kind](folder) if kind in makers else _result(folder, kind)


def _onnx(folder: Path) -> list[Path]:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tests import networks
    from tests.adversary.test_networks import doubling, sparse

    many = doubling(5)
    weights = np.eye(4, dtype=np.float32)
    body = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "b", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    )
    choice = helper.make_node("If", ["c"], ["h"], then_branch=body, else_branch=body)
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    graph = helper.make_graph(
        [condition, choice, helper.make_node("MatMul", ["h", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    graph.sparse_initializer.append(sparse("w", weights, flat=True))
    branches = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx", 17)], ir_version=9)
    for name, proto in (("functions", many), ("branches", branches)):
        onnx.save(proto, folder / f"{name}.onnx")
    mlp = networks.mlp(folder / "mlp.onnx", width=8)
    cnn = networks.cnn(folder / "cnn.onnx", channels=4, depth=2, size=8)
    return [mlp, cnn, folder / "functions.onnx", folder / "branches.onnx"]


def _tflite(folder: Path) -> list[Path]:
    from tests import networks

    from hasten import registry

    made = []
    for name, path in (("a", networks.mlp(folder / "a.onnx", width=8)), ("b", _small_cnn(folder / "b.onnx"))):
        place = folder / name
        place.mkdir()
        made.append(registry.find("engines", "litert").export(path, place).rename(folder / f"{name}.tflite"))
    return made


def _small_cnn(path: Path) -> Path:
    from tests import networks

    return networks.cnn(path, channels=4, depth=2, size=8)


def _pt2(folder: Path) -> list[Path]:
    import torch
    from tests.doors import programs

    network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    return [programs.save(folder / "seed.pt2", network, (torch.zeros(2, 6),))]


def _keras(folder: Path) -> list[Path]:
    from tests.doors import kerases

    return [kerases.make(folder, "mlp")]


def _saved_model(folder: Path) -> list[Path]:
    from tests.doors import kerases

    return [kerases.make(folder, "mlp", "saved_model", backend="tensorflow")]


def table() -> tuple[Any, Any]:
    """Forty samples of three values, with labels."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 3)).astype(np.float32), np.arange(40) % 4


def _npz(folder: Path) -> list[Path]:
    x, labels = table()
    np.savez(folder / "plain.npz", x=x, labels=labels)
    np.savez_compressed(folder / "packed.npz", x=np.asfortranarray(x), labels=labels, group=labels)
    return [folder / "plain.npz", folder / "packed.npz"]


def _npy(folder: Path) -> list[Path]:
    x, _ = table()
    np.save(folder / "c.npy", x)
    np.save(folder / "f.npy", np.asfortranarray(x))
    return [folder / "c.npy", folder / "f.npy"]


def _csv(folder: Path) -> list[Path]:
    x, labels = table()
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["a", "b", "c", "labels"])
    writer.writerows([*row, label] for row, label in zip(x.tolist(), labels.tolist(), strict=True))
    (folder / "headed.csv").write_text(out.getvalue())
    (folder / "bare.csv").write_text("\n".join(",".join(map(str, row)) for row in x.tolist()))
    return [folder / "headed.csv", folder / "bare.csv"]


def _csv_gz(folder: Path) -> list[Path]:
    made = []
    for path in _csv(folder):
        made.append(path.with_suffix(".csv.gz"))
        made[-1].write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return made


def _parquet(folder: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    x, labels = table()
    parquet.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "labels": labels}), folder / "flat.parquet")
    parquet.write_table(pa.table({"f": x.tolist(), "labels": labels}), folder / "lists.parquet")
    return [folder / "flat.parquet", folder / "lists.parquet"]


def _images(folder: Path, kind: str) -> list[Path]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    deep = (pixels[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    made = {"rgb": Image.fromarray(pixels), "grey": Image.fromarray(pixels[..., 0])}
    if kind != "jpeg":
        made |= {"deep": Image.fromarray(deep), "palette": Image.fromarray(pixels).convert("P")}
    if kind == "tiff":
        made["float"] = Image.fromarray(pixels[..., 0].astype(np.float32))
    paths = []
    for name, image in made.items():
        paths.append(folder / f"{name}.{kind}")
        image.save(paths[-1], kind, **({"compression": "tiff_deflate"} if name == "grey" and kind == "tiff" else {}))
    return paths


def _result(folder: Path, kind: str) -> list[Path]:
    """The files of a result folder, or the journal of a run."""
    if kind == "journal":
        from hasten.journal import line

        records: list[dict[str, Any]] = [{"schema": 1, "identity": {"model": "m", "data": "d"}}, {"do": "start"}]
        for k in range(6):
            step = {"step": "screen", "key": f"k{k}", "at": float(k)}
            records += [{"do": "begin", **step}, {"do": "done", **step, "value": {"ms": [1.0, 2.0], "n": k}}]
        (folder / "journal.jsonl").write_bytes(b"".join(map(line, records)))
        return [folder / "journal.jsonl"]
    from tests import result_folders

    return [result_folders.write(folder) / f"{kind}.json"]
