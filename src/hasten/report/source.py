"""Strings of others inside code: Python literals, text of a docstring, words of a shell's line. Nothing else may be."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from hasten.report.words import clean


def literal(value: object) -> str:
    """Built-in values as Python source, with an entry a line in dictionaries of several.

    >>> literal({"x\\u2028": (1, None)})
    "{'x\\\\u2028': (1, None)}"
    """
    if not isinstance(value, Mapping) or len(value) < 2:
        return repr(dict(value) if isinstance(value, Mapping) else value)  # escapes what is not printable
    return "{\n" + "".join(f"    {k!r}: {v!r},\n" for k, v in value.items()) + "}"


def docstring(text: str) -> str:
    """Text as a docstring that ends where it ends, whatever is in it.

    >>> docstring('a\\\\b \"\"\"; import os\\n')
    '\"\"\"a\\\\\\\\b \\\\\"\\\\\"\\\\\"; import os\\n\"\"\"'
    """
    return '"""' + clean(text.lstrip("\n"), longest=None).replace("\\", "\\\\").replace('"', '\\"') + '"""'


def shell(text: str) -> str:
    """One word of a line for a POSIX shell; what is not printable is written as bash, zsh and ksh read it.

    >>> shell("out"), shell("it's"), shell("a\\nb")
    ('out', '\\'it\\'"\\'"\\'s\\'', "$'a\\\\x0ab'")
    """
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(c if c.isprintable() and c not in "\\'" else _bytes(c) for c in text) + "'"


def _bytes(character: str) -> str:
    stands_for_a_byte = "\udc80" <= character <= "\udcff"  # of a name that is not UTF-8
    raw = character.encode("utf-8", "surrogateescape" if stands_for_a_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in raw)
