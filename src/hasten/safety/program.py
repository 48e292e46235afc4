"""Exported torch programs (``.pt2``): arithmetic, if nobody tampered with them.

torch's reader trusts such a file in six places: weights, constants and sample inputs may be pickles, or opaque ones;
sizes are expressions that ``sympy`` evaluates; guards are Python that is executed; the description of nested inputs
may import any module; an operator is any attribute that can be reached from ``torch``; and a compiled library may lie
in the archive. Each is checked here against a list of what the exporter writes; nothing else passes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hasten.errors import InputError
from hasten.safety import archive as archives

MAX_JSON = 256 << 20
TRUST = "if you made the file yourself, add --trust"
MEMBER = re.compile(
    r"models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version"
)
PAYLOAD = re.compile(r"(weight|tensor)_\d+")
OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision)\.\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|associative_scan|wrap_with_autocast"
    r"|wrap_with_set_grad_enabled)"
    r"|torch\.sym_\w+|torch\._sym_sqrt|math\.[a-z]+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|abs|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
)
REACHES_OUT = re.compile(r"torch\.ops\.aten\.(from_file|_print|save)\b")
FUNCTIONS = re.compile(
    r"Max|Min|Mod|Abs|Eq|Ne|Lt|Le|Gt|Ge|Or|And|Not|Piecewise|FloorDiv|CeilDiv|PythonMod|CleanDiv|ModularIndexing"
    r"|FloorToInt|CeilToInt|TruncToInt|TruncToFloat|ToFloat|IntTrueDiv|FloatTrueDiv|PowByNatural|RoundToInt|Where"
    r"|Identity|floor|ceiling|sqrt|Add|Mul|Pow|Integer|Rational|Float"
)
WRITTEN_OUT = re.compile(
    r"Symbol\('([a-z]+\d+)'(, \w+=(True|False))*\)|torch\.utils\._sympy\.functions\.(?=[A-Z])", re.ASCII
)
SYMBOL = re.compile(r"[a-z]+\d+|True|False|oo|int_oo")
CONTAINERS = frozenset({"builtins.dict", "builtins.list", "builtins.tuple", "collections.OrderedDict"})


def check_program(path: Path, target: Path) -> None:
    """Check the archive at ``path`` and write what was checked to ``target``.

    Raises:
        InputError: it holds something that could run code, or is damaged.
    """
    with archives.opened(path) as archive:
        members = {name: _member(name, path) for name in archive.namelist()}
        by_name = {short: full for full, short in members.items()}
        for short in ("models/model.json", "data/weights/model_weights_config.json"):
            if short not in by_name:
                raise InputError(
                    f"{path.name} is not a whole exported program", cause=f"no {short}", help=archives.AGAIN
                )
        _check_graph(_json(archives.read(archive, by_name["models/model.json"], MAX_JSON), path), path)
        for short in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
            if short in by_name:
                _check_payload(_json(archives.read(archive, by_name[short], MAX_JSON), path), path)
        archives.repack(archive, target, lambda name: f"program/{members[name]}")


def _member(name: str, path: Path) -> str:
    """An entry's name below the archive's own folder."""
    short = name.partition("/")[2]
    if not MEMBER.fullmatch(short):
        raise refusal(path, f"entry {name!r:.80} is not something that torch.export.save writes for arithmetic")
    return short


def refusal(path: Path, cause: str) -> InputError:
    """The one message for a file that may hold code."""
    return InputError(f"{path.name} could run code when it is loaded", cause=cause, help=TRUST)


def _json(data: bytes, path: Path) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is damaged", cause=str(error)[:200], help=archives.AGAIN) from error


def _check_payload(config: Any, path: Path) -> None:
    for key, value in _walk(config):
        if key == "path_name" and not (isinstance(value, str) and PAYLOAD.fullmatch(value)):
            raise refusal(path, f"a weight is kept in {value!r:.80}, which may be a pickle")


def _check_graph(program: Any, path: Path) -> None:
    if not isinstance(program, dict) or "graph_module" not in program:
        raise InputError(f"{path.name} is not an exported program", cause="no graph_module", help=archives.AGAIN)
    _check_kinds(program, path)
    if program.get("guards_code"):
        program["guards_code"] = [g for g in program["guards_code"] if not _guard(g)]
        if program["guards_code"]:
            raise refusal(path, f"guard {program['guards_code'][0]!r:.80}")
    for name in program.get("range_constraints") or {}:
        if not SYMBOL.fullmatch(name):
            raise refusal(path, f"size {name!r:.80}")
    for key, value in _walk(program):
        if key == "target" and isinstance(value, str) and not _operator(value):
            raise refusal(path, f"operator {value!r:.80}")
        if key == "expr_str" and not (isinstance(value, str) and plain_expression(value)):
            raise refusal(path, f"size {value!r:.80}")
        if key in ("in_spec", "out_spec") and not (isinstance(value, str) and _plain_containers(value)):
            raise refusal(path, f"nested inputs or outputs {value!r:.80}")


def _check_kinds(program: dict[str, Any], path: Path) -> None:
    for field, kind in (("guards_code", list), ("range_constraints", dict)):
        if not isinstance(program.get(field) or kind(), kind):
            raise InputError(f"{path.name} is damaged", cause=f"{field} is no {kind.__name__}", help=archives.AGAIN)


def _operator(target: str) -> bool:
    return bool(OPERATOR.fullmatch(target)) and not REACHES_OUT.match(target)


def plain_expression(text: str) -> bool:
    """True for a sum, product or known function of symbols and numbers: nothing that an evaluator could be led by.

    >>> plain_expression("Add(Symbol('s7', positive=True, integer=True), Integer(-1))")
    True
    >>> plain_expression("().__class__"), plain_expression("open(s7)"), plain_expression("9**9**9")
    (False, False, False)
    """
    text = WRITTEN_OUT.sub(lambda m: m[1] or "", text)
    if "**" in text or not re.fullmatch(r"[\w+\-*/%(),<>=!&|~. ]*", text, re.ASCII):
        return False
    for match in re.finditer(r"\.?[A-Za-z_]\w*(\s*\()?", text, re.ASCII):
        word, call = match[0].rstrip("( ").strip(), match[1]
        if not (FUNCTIONS if call else SYMBOL).fullmatch(word):
            return False
    return True


def _guard(text: Any) -> bool:
    """True for a condition on the inputs' sizes, such as ``L['x'].size()[0] >= 2``."""
    if not isinstance(text, str):
        return False
    sizes = re.sub(
        r"L(\['\w+'\]|\[\d+\])+\.(size|stride)\(\)\[\d+\]|L(\['\w+'\]|\[\d+\])+\.storage_offset\(\)", "s0", text
    )
    return plain_expression(re.sub(r"\b(not|and|or)\b", "+", sizes))


def _plain_containers(spec: str) -> bool:
    """True for a tree of lists, tuples and dicts with text or numbers for keys."""
    try:
        version, tree = json.loads(spec) if spec else (1, {"type": None})
    except (ValueError, TypeError, RecursionError):
        return False
    if version != 1:
        return False
    for key, value in _walk(tree):
        if key == "type" and value is not None and value not in CONTAINERS:
            return False
        if key == "context" and not _plain_context(value):
            return False
    return True


def _plain_context(context: Any) -> bool:
    """Keys of a dict as JSON text; torch turns ``{"__enum__": ...}`` in there into an import."""
    try:
        keys = json.loads(context) if isinstance(context, str) else context
    except (ValueError, RecursionError):
        return False
    return keys is None or (isinstance(keys, list) and all(isinstance(k, str | int) for k in keys))


def _walk(root: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) of nested JSON, without recursion."""
    pending = [root]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield from value.items()
            pending += value.values()
        elif isinstance(value, list):
            pending += value
