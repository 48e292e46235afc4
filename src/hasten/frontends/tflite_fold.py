"""What is folded in the file itself, before its operators are translated.

DEQUANTIZE(constant)                                                     =>  constant in float32
SPACE_TO_BATCH_ND(block, pads) -> CONV_2D -> BATCH_TO_SPACE_ND(block, crops)
                                              =>  CONV_2D (dilation = block, pads - crops), as old converters spelt it
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

from hasten.frontends.tflite_file import File, Operator, numbers

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def fold(file: File) -> File:
    """The same network with fewer operators; the file itself where nothing fits."""
    return fold_dilations(fold_constants(file))


def fold_constants(file: File) -> File:
    """Half-float and eight-bit weights that are stored narrow and dequantized at once."""
    tensors, gone = list(file.tensors), set()
    for operator in file.operators:
        if operator.kind != "DEQUANTIZE" or len(operator.inputs) != 1 or len(operator.outputs) != 1:
            continue
        source, target = tensors[operator.inputs[0]], tensors[operator.outputs[0]]
        if source.data is None or target.shape != source.shape:
            continue
        array = numbers(source.data, source.quantization)
        tensors[target.index] = replace(target, data=array, dims=source.shape, dtype=array.dtype.name)
        gone.add(operator.index)
    operators = tuple(o for o in file.operators if o.index not in gone)
    return replace(file, tensors=tuple(tensors), operators=operators) if gone else file


def fold_dilations(file: File) -> File:
    """Each chain of three as one convolution."""
    readers: dict[int, list[Operator]] = defaultdict(list)
    for operator in file.operators:
        for index in operator.inputs:
            readers[index].append(operator)
    kept = {i for _, i in file.outputs}
    new: dict[int, Operator | None] = {}
    for operator in file.operators:
        if operator.kind == "SPACE_TO_BATCH_ND" and len(operator.outputs) == 1:
            new.update(_folded(file, operator, readers, kept))
    if not new:
        return file
    operators = (new.get(o.index, o) for o in file.operators)
    return replace(file, operators=tuple(o for o in operators if o is not None))


def _folded(
    file: File, start: Operator, readers: dict[int, list[Operator]], kept: set[int]
) -> dict[int, Operator | None]:
    """The operators to put in place of a chain, None for those that go; nothing when it is no such chain."""

    def only(operator: Operator) -> Operator | None:
        found = readers[operator.outputs[0]]
        return found[0] if len(found) == 1 and operator.outputs[0] not in kept else None

    conv = only(start)
    if conv is None or conv.kind not in CONVOLUTIONS or conv.inputs[0] != start.outputs[0]:
        return {}
    end = only(conv)
    if end is None or end.kind != "BATCH_TO_SPACE_ND" or end.inputs[0] != conv.outputs[0]:
        return {}
    first, last = _numbers(file, start), _numbers(file, end)
    o = conv.options
    plain = all(getattr(o, n, 1) == 1 for n in ("padding", "strideW", "strideH", "dilationWFactor", "dilationHFactor"))
    if first is None or last is None or first[0] != last[0] or not plain:
        return {}
    pads = [a - b for a, b in zip(first[1], last[1], strict=True)]
    if min(pads) < 0:
        return {}
    (high, wide), (top, bottom, left, right) = first[0], pads
    options = SimpleNamespace(**vars(o))
    options.dilationHFactor, options.dilationWFactor = high, wide
    options.pads = [top, left, bottom, right]
    joined = replace(conv, inputs=(start.inputs[0], *conv.inputs[1:]), outputs=end.outputs, options=options)
    return {start.index: None, conv.index: joined, end.index: None}


def _numbers(file: File, operator: Operator) -> tuple[list[int], list[int]] | None:
    """(two block sizes, four amounts) of the constants of an operator."""
    if len(operator.inputs) != 3 or min(operator.inputs) < 0:
        return None
    arrays = [file.tensors[i].data for i in operator.inputs[1:]]
    if any(a is None for a in arrays):
        return None
    blocks, amounts = ([int(v) for v in a.reshape(-1)] for a in arrays if a is not None)
    fits = len(blocks) == 2 and len(amounts) == 4 and min(blocks) > 0 and min(amounts) >= 0
    return (blocks, amounts) if fits else None
