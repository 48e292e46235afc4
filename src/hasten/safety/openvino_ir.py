"""OpenVINO's own format (``.xml`` with ``.bin``): arithmetic, if nobody tampered with it.

The description may name operators of a loaded extension, places in the weights, and, among its notes, the path of
another file with weights (``__weights_path``). XML itself may define entities that grow without end or name files. Here
only operators of OpenVINO's public sets pass, every place lies inside the ``.bin``, and nothing is defined.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.parsers import expat

from hasten import bounded
from hasten.errors import InputError
from hasten.safety import archive as archives

MAX_XML = 256 << 20  # bytes
MAX_ELEMENTS = 10_000_000
MAX_DEPTH = 200
PUBLIC = re.compile(r"opset[1-9][0-9]?")
NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
HIDDEN = re.compile(r"__\w+")  # names that OpenVINO keeps for itself


class _Elements:
    """Counts and checks elements as they begin."""

    def __init__(self, path: Path, weights: int) -> None:
        self.path, self.weights, self.seen, self.depth = path, weights, 0, 0

    def begin(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.seen, self.depth = self.seen + 1, self.depth + 1
        if self.seen == 1 and tag != "net":
            raise _damaged(self.path, f"it begins with <{tag[:40]}>")
        if self.seen > MAX_ELEMENTS or self.depth > MAX_DEPTH:
            raise _damaged(self.path, "more or deeper elements than a network has")
        version = attributes.get("version", "")
        if tag == "layer" and not PUBLIC.fullmatch(version):
            kind = f"{attributes.get('type', '')[:60]} of {version[:40] or 'no set'}"
            raise _refused(self.path, f"the operator {kind} is in none of OpenVINO's public sets")
        for hidden in (tag, attributes.get("name", "")):
            if HIDDEN.fullmatch(hidden):
                raise _refused(self.path, f"its notes hold {hidden[:60]!r}, which may lead to other files")
        if tag == "data" and "offset" in attributes:
            self._place(attributes["offset"], attributes.get("size", ""))

    def _place(self, offset: str, size: str) -> None:
        if not (NUMBER.fullmatch(offset) and NUMBER.fullmatch(size)):
            return  # an option of an operator that is called so, such as a list
        if int(offset) + int(size) > self.weights:
            cause = f"bytes {offset} to {int(offset) + int(size)} of {self.weights:,} in its .bin"
            raise _damaged(self.path, cause)

    def end(self, _: str) -> None:
        self.depth -= 1

    def refuse_definition(self, *_: object) -> None:
        raise _refused(self.path, "it defines entities or a document type")


def check_ir(path: Path) -> None:
    """Check ``path`` (an ``.xml``) and the ``.bin`` beside it.

    Raises:
        InputError: it is damaged, names operators of extensions, or leads to other files.
    """
    beside = path.with_suffix(".bin")
    with bounded.opened(beside) as file:
        weights = file.seek(0, 2)
    parser = expat.ParserCreate()
    elements = _Elements(path, weights)
    parser.StartElementHandler, parser.EndElementHandler = elements.begin, elements.end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = elements.refuse_definition
    try:
        with bounded.opened(path, MAX_XML) as file:
            parser.ParseFile(file)
    except (expat.ExpatError, ValueError) as fault:
        raise _damaged(path, str(fault)) from fault
    if not elements.seen:
        raise _damaged(path, "it is empty")


def _damaged(path: Path, cause: str) -> InputError:
    return InputError(f"{path.name} is no network of OpenVINO", cause=cause, help=archives.AGAIN)


def _refused(path: Path, cause: str) -> InputError:
    help_text = "do not trust this network; convert the original with openvino.save_model"
    return InputError(f"{path.name} could do more than compute", cause=cause, help=help_text)
