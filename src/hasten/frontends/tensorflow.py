"""TensorFlow SavedModels: scanned without TensorFlow, then only what a signature reaches is loaded and converted.

TensorFlow's own loader runs functions that the file names. Here the graph is cut down to the signature first, and the
weights are read from the checkpoint as data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hasten.errors import InputError
from hasten.frontends.extras import need
from hasten.frontends.onnx import load as load_onnx
from hasten.model import Model
from hasten.protocols import Door
from hasten.safety import savedmodel

OPSET = 18  # the newest that the converter writes


def accepts(path: Path) -> bool:
    """True for a folder with a ``saved_model.pb``."""
    return path.is_dir() and (path / "saved_model.pb").is_file()


def load(path: Path, options: Door) -> Model:
    """One signature of the SavedModel as a graph, with the names of its arguments and results.

    Raises:
        InputError: it is damaged or reaches operators that are not arithmetic. UsageError: choose a signature.
        EnvironmentFault: TensorFlow is missing.
    """
    contents = savedmodel.read(path)
    name = savedmodel.choose(contents, options.signature, path.name)
    if not options.trust:
        savedmodel.check(contents, name, path.name)
    if not (path / "variables" / "variables.index").is_file() and _has_variables(contents, name):
        raise InputError(f"{path.name} lacks its weights", cause="no variables/variables.index", help=savedmodel.AGAIN)
    start_tensorflow()
    tf2onnx = need("tf2onnx", "tensorflow", "SavedModels")
    signature = contents.signatures[name]
    try:
        frozen = freeze(path, contents, signature)
        converted = options.folder / "converted.onnx"
        renamed = {tensor: key for side in (signature.inputs, signature.outputs) for key, tensor in side.items()}
        tf2onnx.convert.from_graph_def(
            frozen,
            input_names=list(signature.inputs.values()),
            output_names=list(signature.outputs.values()),
            opset=OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
            tensors_to_rename=renamed,
            output_path=str(converted),
        )
    except InputError:
        raise
    except Exception as error:  # TensorFlow and the converter raise whatever they meet
        cause = " ".join(str(error).split())[:400]
        raise InputError(f"{path.name} cannot be written as ONNX", cause=cause, help=savedmodel.AGAIN) from error
    model = load_onnx(converted)
    origin = replace(
        model.origin, format="tensorflow", path=str(path), engine="tensorflow", settings={"signature": name}
    )
    return replace(model, origin=origin)


def _has_variables(contents: savedmodel.Contents, name: str) -> bool:
    return "VarHandleOp" in contents.reached(contents.signatures[name])[2]


def start_tensorflow() -> Any:
    """TensorFlow, silent.

    Raises:
        EnvironmentFault: it is missing.
    """
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    return need("tensorflow", "tensorflow", "SavedModels")


def session(path: Path, contents: savedmodel.Contents, signature: savedmodel.Signature) -> Any:
    """A session over what the signature reaches and nothing else, with its weights in place.

    Raises:
        InputError: a weight is not in the checkpoint.
    """
    tf = start_tensorflow()
    meta = _meta_graph(path)
    nodes, functions, _ = contents.reached(signature)
    pruned: Any = type(meta.graph_def)()
    pruned.CopyFrom(meta.graph_def)
    kept_nodes = [node for node in pruned.node if node.name in nodes]
    kept_functions = [function for function in pruned.library.function if function.signature.name in functions]
    for held, kept in ((pruned.node, kept_nodes), (pruned.library.function, kept_functions)):
        del held[:]
        held.extend(kept)
    del pruned.library.gradient[:]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(pruned, name="")
        opened = tf.compat.v1.Session(graph=graph)
        handles = [op for op in graph.get_operations() if op.type == "VarHandleOp"]
        weights = _weights(tf, path, meta, handles) if handles else {}
        for op in handles:
            value = tf.compat.v1.placeholder(op.get_attr("dtype"))
            assign = tf.raw_ops.AssignVariableOp(resource=op.outputs[0], value=value)
            opened.run(assign, {value: weights[op.name]})
            reads = f"{op.name}/Read/ReadVariableOp"  # by which the freezer finds the value
            if reads not in {o.name for o in graph.get_operations()}:
                tf.raw_ops.ReadVariableOp(resource=op.outputs[0], dtype=op.get_attr("dtype"), name=reads)
    return opened


def _meta_graph(path: Path) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return next((m for m in saved.meta_graphs if "serve" in m.meta_info_def.tags), saved.meta_graphs[0])


def _weights(tf: Any, path: Path, meta: Any, handles: Any) -> dict[str, Any]:
    """Values of the variables by the name of their node, read from the checkpoint as data."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    known = set(reader.get_variable_to_shape_map())
    keys: dict[str, str] = {}
    if "_CHECKPOINTABLE_OBJECT_GRAPH" in known:
        data = reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
        objects = trackable_object_graph_pb2.TrackableObjectGraph.FromString(data)
        keys = {a.full_name: a.checkpoint_key for node in objects.nodes for a in node.attributes}
        keys |= _captured(meta, objects)
    found = {}
    for op in handles:
        shared = op.get_attr("shared_name").decode()
        key = keys.get(op.name) or keys.get(shared) or (shared if shared in known else "")
        if key not in known:
            raise InputError(f"{path.name} lacks the weight {shared or op.name!r}", help=savedmodel.AGAIN)
        found[op.name] = reader.get_tensor(key)
    return found


def _captured(meta: Any, objects: Any) -> dict[str, str]:
    """Checkpoint keys by the name of a variable's node: functions list what they capture by object, calls by node.

    Names of variables may repeat; objects do not. Both object graphs are walked together from their roots.
    """
    pairs, pending = {0: 0}, [0]
    saved = meta.object_graph_def
    while pending:
        at = pending.pop()
        beside = {c.local_name: c.node_id for c in objects.nodes[pairs[at]].children}
        for child in saved.nodes[at].children:
            if child.local_name in beside and child.node_id not in pairs:
                pairs[child.node_id] = beside[child.local_name]
                pending.append(child.node_id)
    found = {}
    for node in meta.graph_def.node:
        function = saved.concrete_functions.get(node.attr["f"].func.name) if "f" in node.attr else None
        if function is None or not function.bound_inputs:
            continue
        inputs = [i for i in node.input if not i.startswith("^")][-len(function.bound_inputs) :]
        for tensor, object_id in zip(inputs, function.bound_inputs, strict=False):
            attributes = objects.nodes[pairs[object_id]].attributes if object_id in pairs else ()
            found.update({savedmodel.node_of(tensor): a.checkpoint_key for a in attributes})
    return found


def freeze(path: Path, contents: savedmodel.Contents, signature: savedmodel.Signature) -> Any:
    """The signature's graph with functions inlined and variables as constants."""
    from tf2onnx.tf_loader import tf_optimize

    tf = start_tensorflow()
    with session(path, contents, signature) as opened, opened.graph.as_default():
        names = sorted({savedmodel.node_of(tensor) for tensor in signature.outputs.values()})
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(opened, opened.graph.as_graph_def(), names)
    with tf.Graph().as_default():
        return tf_optimize(list(signature.inputs.values()), list(signature.outputs.values()), frozen)


def _erfc(ctx: Any, node: Any, name: str, _: Mapping[str, Any]) -> None:
    """erfc(x) = 1 - erf(x), which the converter lacks; TensorFlow's exact GELU is made of it.

    before   x -> Erfc -> y
    after    x -> Erf -> Sub(1, .) -> y
    """
    shape, dtype = ctx.get_shape(node.output[0]), ctx.get_dtype(node.output[0])
    outputs, x = list(node.output), node.input[0]
    one = ctx.make_const(f"{name}_one", np.array(1, np.float32)).output[0]
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [x], dtypes=[dtype], shapes=[shape])
    ctx.make_node("Sub", [one, erf.output[0]], name=name, outputs=outputs, dtypes=[dtype], shapes=[shape])
