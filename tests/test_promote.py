"""Operands of different types become one, as torch makes them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.frontends.promote import of_one_type
from hasten.graph.evaluate import run


@pytest.mark.parametrize("operator", ["Sub", "Mul", "Less", "Where"])
@pytest.mark.parametrize("one", [np.int32(1), np.float64(1), np.int64(1)])
def test_a_number_takes_the_type_of_the_tensor_beside_it(operator: str, one: np.generic) -> None:
    fed = ["on", "one", "gate"] if operator == "Where" else ["one", "gate"]
    out = TensorProto.BOOL if operator == "Less" else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["x"], ["gate"]), helper.make_node(operator, fed, ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", out, ["N", 3])],
        [numpy_helper.from_array(np.asarray(one), "one"), numpy_helper.from_array(np.array(True), "on")],
        value_info=[helper.make_tensor_value_info("gate", TensorProto.FLOAT, ["N", 3])],
    )  # fmt: skip
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    of_one_type(model.graph)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    answer = run(model, [{"x": np.zeros((2, 3), np.float32)}])[0]["y"]
    assert answer.tolist() == np.full((2, 3), {"Sub": 0.5, "Mul": 0.5, "Less": False, "Where": 1.0}[operator]).tolist()
