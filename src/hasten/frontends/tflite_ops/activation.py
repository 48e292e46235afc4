"""Activations and normalisations. Those along an axis run along the last one."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hasten.frontends.tflite_call import Call, Translate

LEAST_NORM = 1e-6  # what LiteRT divides by at least


def clip(low: float, high: float | None, call: Call) -> ir.Value:
    return call.clip(call.real(0), low, high)


def plain(op_type: str, call: Call) -> ir.Value:
    return call.emit(op_type, call.real(0))


def gelu(call: Call) -> ir.Value:
    return call.emit("Gelu", call.real(0), approximate="tanh" if call.option("approximate", False) else "none")


def leaky_relu(call: Call) -> ir.Value:
    return call.emit("LeakyRelu", call.real(0), alpha=float(call.option("alpha", 0.0)))


def prelu(call: Call) -> ir.Value:
    return call.emit("PRelu", call.real(0), call.real(1))


def softmax(call: Call) -> ir.Value:
    x, beta = call.real(0), float(call.option("beta", 1.0))
    if beta != 1:
        x = call.emit("Mul", x, call.fixed(np.float32(beta)))
    return call.emit("Softmax", x, axis=-1)


def log_softmax(call: Call) -> ir.Value:
    return call.emit("LogSoftmax", call.real(0), axis=-1)


def l2_normalization(call: Call) -> ir.Value:
    x = call.real(0)
    norm = call.emit("ReduceL2", x, call.fixed(np.array([-1])), keepdims=1)
    return call.activated(call.emit("Div", x, call.emit("Max", norm, call.fixed(np.float32(LEAST_NORM)))))


TABLE: dict[str, Translate] = {
    "ELU": partial(plain, "Elu"),
    "GELU": gelu,
    "HARD_SWISH": partial(plain, "HardSwish"),
    "L2_NORMALIZATION": l2_normalization,
    "LEAKY_RELU": leaky_relu,
    "LOGISTIC": partial(plain, "Sigmoid"),
    "LOG_SOFTMAX": log_softmax,
    "PRELU": prelu,
    "RELU": partial(clip, 0, None),
    "RELU6": partial(clip, 0, 6),
    "RELU_0_TO_1": partial(clip, 0, 1),
    "RELU_N1_TO_1": partial(clip, -1, 1),
    "SOFTMAX": softmax,
    "TANH": partial(plain, "Tanh"),
}
