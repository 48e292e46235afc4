"""Which function translates which operator of TensorFlow Lite."""

from __future__ import annotations

from hasten.frontends.tflite_call import Translate
from hasten.frontends.tflite_ops import (
    activation,
    blocks,
    convolution,
    elementwise,
    matrix,
    recurrent,
    reduction,
    shape,
    slicing,
)

OPERATORS: dict[str, Translate] = {
    **activation.TABLE,
    **blocks.TABLE,
    **convolution.TABLE,
    **elementwise.TABLE,
    **matrix.TABLE,
    **recurrent.TABLE,
    **reduction.TABLE,
    **shape.TABLE,
    **slicing.TABLE,
}
