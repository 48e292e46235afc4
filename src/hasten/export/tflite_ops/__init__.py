"""Which function writes which ONNX operator for LiteRT; those of the domain ``litert`` come from ``tflite_lower``."""

from __future__ import annotations

from hasten.export.tflite_lower import DOMAIN
from hasten.export.tflite_ops import convolution, elementwise, matrix, pooling, reduction, shape
from hasten.export.tflite_step import Rule

OPERATORS: dict[tuple[str, str], Rule] = {
    **{
        (DOMAIN, name): rule
        for table in (convolution.TABLE, pooling.TABLE, matrix.PRODUCTS)
        for name, rule in table.items()
    },
    **{
        ("", name): rule
        for table in (elementwise.TABLE, matrix.TABLE, reduction.TABLE, shape.TABLE)
        for name, rule in table.items()
    },
}
