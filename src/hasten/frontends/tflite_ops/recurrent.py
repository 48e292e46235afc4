"""Recurrent layers over whole sequences. TensorFlow Lite keeps the gates apart; ONNX stacks them.

State tensors start at zero. TensorFlow Lite keeps them from one call to the next; a graph without state cannot, and
a network whose state matters has it as an input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from hasten.frontends.tflite_call import Call, Translate
from hasten.frontends.tflite_file import Array

IOFC = (0, 3, 1, 2)  # from TensorFlow Lite's input, forget, cell, output to ONNX's input, output, forget, cell


def sequence_lstm(call: Call) -> ir.Value:
    """Inputs: x; four input weights, four recurrent ones, three peepholes, four biases; projection; states; norms."""
    w, r, b, p = _gates(call, 1), _gates(call, 5), _gates(call, 12), _peepholes(call, 9)
    _refuse_extras(call, 16, 20)
    x = _time_first(call, call.real(0))
    y = _lstm(call, x, [w], [r], [b], [p], "forward")
    y = call.emit("Squeeze", y, call.fixed(np.array([1])))
    return _time_first(call, y)


def bidirectional_lstm(call: Call) -> list[ir.Value]:
    """Inputs: x; for each direction weights 1-4 and 18-21, recurrent 5-8 and 22-25, peepholes, biases; states."""
    parts = [(_gates(call, o), _gates(call, o + 4), _gates(call, o + 11), _peepholes(call, o + 8)) for o in (1, 18)]
    if any(call.given(k) for k in (16, 17, 33, 34, *range(39, 48))):
        raise call.refuse("it has a projection or an auxiliary input")
    x = _time_first(call, call.real(0))
    w, r, b, p = (list(one) for one in zip(*parts, strict=True))
    y = _lstm(call, x, w, r, b, p, "bidirectional")
    forward, backward = call.emit_many("Split", y, call.fixed(np.array([1, 1])), outputs=2, axis=1)
    sides = [_time_first(call, call.emit("Squeeze", s, call.fixed(np.array([1])))) for s in (forward, backward)]
    return [call.emit("Concat", *sides, axis=-1)] if call.option("mergeOutputs", False) else sides


def sequence_rnn(call: Call) -> ir.Value:
    """Inputs: x, input weights, recurrent weights, bias, state."""
    number = call.option("fusedActivationFunction", 0)
    kind = {1: "Relu", 4: "Tanh"}.get(number)
    if kind is None:
        raise call.refuse(f"its activation has the number {number}")
    w, r, b = (call.known(k) for k in (1, 2, 3))
    inputs = [_time_first(call, call.real(0)), *(call.fixed(a[None]) for a in (w, r, np.concatenate([b, 0 * b])))]
    y = call.emit_many("RNN", *inputs, outputs=2, hidden_size=len(b), activations=[kind])[0]
    return _time_first(call, call.emit("Squeeze", y, call.fixed(np.array([1]))))


def _time_first(call: Call, x: ir.Value) -> ir.Value:
    """[batch, time, features] <-> [time, batch, features]."""
    return x if call.option("timeMajor", False) else call.emit("Transpose", x, perm=[1, 0, 2])


def _gates(call: Call, start: int) -> Array:
    """The four matrices or vectors from input ``start`` on, stacked in ONNX's order."""
    if not call.given(start):
        raise call.refuse("its input gate is coupled to its forget gate")
    return np.concatenate([call.known(start + k) for k in IOFC])


def _peepholes(call: Call, start: int) -> Array | None:
    """Cell to input, output and forget gate."""
    if not call.given(start):
        return None
    return np.concatenate([call.known(start + k) for k in (0, 2, 1)])


def _refuse_extras(call: Call, projection: int, norms: int) -> None:
    if call.given(projection) or any(call.given(k) for k in range(norms, norms + 4)):
        raise call.refuse("it has a projection or a layer normalisation inside")


def _lstm(
    call: Call,
    x: ir.Value,
    w: Sequence[Array],
    r: Sequence[Array],
    b: Sequence[Array],
    p: Sequence[Array | None],
    direction: str,
) -> ir.Value:
    """[time, batch, in] to [time, directions, batch, hidden]."""
    if call.option("cellClip", 0.0) or call.option("projClip", 0.0):
        raise call.refuse("it clips its cell state")
    if call.option("fusedActivationFunction", 4) != 4:
        raise call.refuse("its activation is not tanh")
    bias = [np.concatenate([v, np.zeros_like(v)]) for v in b]
    stacks = [np.stack(list(s)).astype(np.float32) for s in (w, r, bias)]
    holes = None if any(v is None for v in p) else call.fixed(np.stack([v for v in p if v is not None]))
    inputs = [x, *(call.fixed(s) for s in stacks), None, None, None, holes]
    hidden = stacks[1].shape[-1]
    return call.emit_many("LSTM", *inputs, outputs=3, hidden_size=hidden, direction=direction)[0]


TABLE: dict[str, Translate] = {
    "BIDIRECTIONAL_SEQUENCE_LSTM": bidirectional_lstm,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": sequence_lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": sequence_rnn,
}
