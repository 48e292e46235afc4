"""Builds one peer's artefact: ``python -m benchmarks.contest.build JOB.json``, in the peers' environment.

Each tool is used as its documentation shows, with its defaults, except where a comment says why not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.contest import feeds as fed
from benchmarks.contest import runtimes
from benchmarks.contest.feeds import Array

PER_CHANNEL_OPSET = 13  # QuantizeLinear has no axis before
LINEAR = ["Conv", "MatMul", "Gemm"]
CALIBRATION = 300  # samples; NNCF's default, given to all


class Reader:
    """Calibration samples as ONNX Runtime asks for them."""

    def __init__(self, items: Iterator[dict[str, Array]]) -> None:
        self.items = items

    def get_next(self) -> dict[str, Array] | None:
        return next(self.items, None)


def prepared(job: dict[str, Any], folder: Path) -> Path:
    """The network at an opset that per-channel Q/DQ needs, then preprocessed as the quantizer advises.

    A network on which the advised step fails is quantized without it, as a person would go on.
    """
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(job["model"])
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    path = folder / "converted.onnx"
    onnx.save(version_converter.convert_version(model, PER_CHANNEL_OPSET) if opset < PER_CHANNEL_OPSET else model, path)
    try:
        quant_pre_process(str(path), str(folder / "preprocessed.onnx"))
    except Exception as error:
        print(f"pre-processing failed: {type(error).__name__}: {error}", file=sys.stderr)
        return path
    return folder / "preprocessed.onnx"


def ort_static(job: dict[str, Any], operators: list[str] | None = None) -> Path:
    """U8S8 Q/DQ, weights per channel, MinMax calibration."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    CalibrationDataReader.register(Reader)
    out = Path(job["out"], "model.onnx")
    split = fed.read(Path(job["calibrate"]))
    run = runtimes.onnxruntime(Path(job["model"]), {}, [])
    quantize_static(
        str(prepared(job, out.parent)),
        str(out),
        Reader(fed.single_feeds(split, CALIBRATION, run)),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=not job["per_tensor"],
        op_types_to_quantize=operators,
    )
    return out


def ort_static_linear(job: dict[str, Any]) -> Path:
    """The same, only for convolutions and matrix products."""
    return ort_static(job, LINEAR)


def ort_dynamic(job: dict[str, Any]) -> Path:
    """int8 weights per channel, activations quantized at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = Path(job["out"], "model.onnx")
    quantize_dynamic(
        str(prepared(job, out.parent)), str(out), per_channel=not job["per_tensor"], weight_type=QuantType.QInt8
    )
    return out


def nncf_inputs(job: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """(network, calibration set, options). Transformers are named as such, which NNCF's documentation asks for."""
    import nncf
    import openvino as ov

    split = fed.read(Path(job["calibrate"]))
    run = runtimes.onnxruntime(Path(job["model"]), {}, [])
    items = list(fed.single_feeds(split, CALIBRATION, run))
    options: dict[str, Any] = {"model_type": nncf.ModelType.TRANSFORMER} if job["transformer"] else {}
    options["subset_size"] = len(items)
    if job["per_tensor"]:
        weights = nncf.quantization.advanced_parameters.QuantizationParameters(per_channel=False)
        options["advanced_parameters"] = nncf.AdvancedQuantizationParameters(weights_quantization_params=weights)
    return ov.Core().read_model(job["model"]), nncf.Dataset(items), options


def nncf_int8(job: dict[str, Any]) -> Path:
    """Post-training quantization with the default preset."""
    import nncf
    import openvino as ov

    model, data, options = nncf_inputs(job)
    out = Path(job["out"], "model.xml")
    ov.save_model(nncf.quantize(model, data, **options), out, compress_to_fp16=False)
    return out


def nncf_accuracy(job: dict[str, Any]) -> Path:
    """Quantization with accuracy control: layers go back to float until the drop on the search split is allowed."""
    import nncf
    import openvino as ov

    from hasten.metrics import resolve

    model, data, options = nncf_inputs(job)
    if "advanced_parameters" in options:
        options["advanced_quantization_parameters"] = options.pop("advanced_parameters")
    split = fed.read(Path(job["search"]))
    assert split.labels is not None
    labels = split.labels
    output = job["metric_output"] or None

    def score(compiled: Any, ids: Any) -> float:
        chosen = [int(i) for i in ids]
        answers = fed.answers(split, chosen, job["batch"], runtimes.openvino_compiled(compiled, job["outputs"]))
        metric = resolve(job["metric"], output=output, sample=(answers, labels[chosen]))
        return metric.value(metric.rows(answers, labels[chosen]))

    quantized = nncf.quantize_with_accuracy_control(
        model,
        data,
        nncf.Dataset(list(range(len(split)))),
        validation_fn=score,
        max_drop=job["max_drop"],
        **options,
    )
    out = Path(job["out"], "model.xml")
    ov.save_model(quantized, out, compress_to_fp16=False)
    return out


BUILDERS = {
    "ort_static": ort_static,
    "ort_static_linear": ort_static_linear,
    "ort_dynamic": ort_dynamic,
    "nncf_int8": nncf_int8,
    "nncf_accuracy": nncf_accuracy,
}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    Path(job["out"]).mkdir(parents=True, exist_ok=True)
    path = BUILDERS[job["build"]](job)
    Path(job["out"], "built.json").write_text(json.dumps({"path": str(path)}))


if __name__ == "__main__":
    main()
