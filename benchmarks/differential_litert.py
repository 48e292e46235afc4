"""TensorFlow Lite in the differential test: what we write runs in LiteRT, what we read back in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from benchmarks.random_graphs.graphs import Case, Feeds
from hasten.errors import HastenError
from hasten.graph import evaluate

Array = NDArray[Any]
Changed = Callable[[Mapping[str, Feeds]], dict[str, list[Array] | str]]
FEEDS = ("sample", "other", "wide")  # edges and NaN are the engine's own


def there_and_back(case: Case, model: ir.Model) -> Iterator[tuple[str, Changed | str]]:
    """The file in LiteRT, and the file as ONNX again; a text in place of either where writing or reading failed."""
    from hasten.export import tflite as export
    from hasten.frontends import tflite as door

    try:
        data = export.encode(model)
    except HastenError:
        yield "tflite written", ""
        return
    except Exception as error:
        yield "tflite written", f"failed: {type(error).__name__}: {error}"
        return
    names = [v.name or "" for v in model.graph.inputs]
    yield "tflite written", lambda feeds: _litert(data, names, feeds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.tflite")
        path.write_bytes(data)
        try:
            back = door.load(path)
        except HastenError:
            yield "tflite read", ""
            return
        except Exception as error:
            yield "tflite read", f"failed: {type(error).__name__}: {error}"
            return
        yield "tflite read", lambda feeds: _back(back.graph, names, feeds)


def _litert(data: bytes, names: list[str], feeds: Mapping[str, Feeds]) -> dict[str, list[Array] | str]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    answers: dict[str, list[Array] | str] = {}
    for name in FEEDS:
        if name not in feeds:
            continue
        try:
            kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter = Interpreter(model_content=data, experimental_op_resolver_type=kind, num_threads=1)
            details = interpreter.get_input_details()
            values = [feeds[name][n] for n in names]
            for detail, value in zip(details, values, strict=True):
                interpreter.resize_tensor_input(detail["index"], value.shape)
            interpreter.allocate_tensors()
            for detail, value in zip(details, values, strict=True):
                interpreter.set_tensor(detail["index"], value)
            interpreter.invoke()
            answers[name] = [np.array(interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]
        except (RuntimeError, ValueError):  # LiteRT says that it has no kernel for it
            continue
    return answers


def _back(graph: ir.Model, names: list[str], feeds: Mapping[str, Feeds]) -> dict[str, list[Array] | str]:
    try:
        session = evaluate.session(graph, threads=1)
    except Exception as error:
        return dict.fromkeys(feeds, f"does not load: {error}")
    answers: dict[str, list[Array] | str] = {}
    own = [v.name or "" for v in graph.graph.inputs]
    for name in FEEDS:
        if name not in feeds:
            continue
        try:
            values = [feeds[name][n] for n in names]
            answers[name] = list(session.run(None, dict(zip(own, values, strict=True))))
        except Exception as error:
            answers[name] = f"raises: {error}"
    return answers
