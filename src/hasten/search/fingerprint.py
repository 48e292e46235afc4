"""What a Python function is made of, so that two askings with it can be told apart.

Its file, its code, its defaults, what its closure holds and the plain globals that it reads: two functions that one
factory made with other thresholds are two functions. What cannot be read is new each time.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from uuid import uuid4

import numpy as np

PLAIN = (type(None), bool, int, float, complex, str, bytes)


def fingerprint(thing: object) -> str:
    """The sha256 of all that a function, or an object that is called, is made of."""
    return sha256(repr(_parts(thing, set())).encode(errors="surrogatepass")).hexdigest()


def _parts(thing: Any, seen: set[int]) -> list[Any]:
    if isinstance(thing, PLAIN):
        return [type(thing).__name__, repr(thing)]
    if id(thing) in seen:
        return ["again"]
    seen = seen | {id(thing)}
    if isinstance(thing, np.ndarray | np.generic):
        array = np.ascontiguousarray(thing)
        return ["array", str(array.dtype), list(array.shape), sha256(_bytes(array)).hexdigest()]
    for kinds, read in _READERS:
        if isinstance(thing, kinds):
            return read(thing, seen)
    return _object(thing, seen)


def _bytes(array: Any) -> bytes:
    return pickle.dumps(array.tolist()) if array.dtype.hasobject else array.tobytes()


def _function(thing: Any, seen: set[int]) -> list[Any]:
    cells = []
    for cell in thing.__closure__ or ():
        try:
            cells.append(_parts(cell.cell_contents, seen))
        except ValueError:  # not filled yet
            cells.append(["empty"])
    code = thing.__code__
    read = [thing.__globals__.get(name) for name in _names(code)]
    outside = [_parts(value, seen) for value in read if isinstance(value, (*PLAIN, np.ndarray, FunctionType))]
    held = [_parts(value, seen) for value in (thing.__defaults__, thing.__kwdefaults__)]
    return ["function", thing.__qualname__, _source(thing), _code(code), held, cells, outside]


def _code(code: CodeType) -> list[Any]:
    consts = [
        _code(c) if isinstance(c, CodeType) else sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c)
        for c in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), consts]


def _names(code: CodeType) -> Iterable[str]:
    """Names of globals that the code and the functions inside it read."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _source(thing: Any) -> str:
    """The digest of the file that holds it; empty where there is none, as in a notebook."""
    with suppress(TypeError, OSError):
        return sha256(Path(inspect.getsourcefile(thing) or "").read_bytes()).hexdigest()
    return ""


def _object(thing: Any, seen: set[int]) -> list[Any]:
    """An object by its class and what it holds."""
    kind = ["object", *_class(type(thing), seen)]
    if getattr(thing, "__dict__", None):
        return [*kind, _parts(vars(thing), seen)]
    with suppress(Exception):  # whatever pickling raises
        return [*kind, sha256(pickle.dumps(thing, 4)).hexdigest()]
    return [*kind, uuid4().hex]


def _class(thing: Any, seen: set[int]) -> list[Any]:
    return ["class", thing.__module__, thing.__qualname__, _source(thing)]


def _method(thing: Any, seen: set[int]) -> list[Any]:
    return ["method", _parts(thing.__func__, seen), _parts(thing.__self__, seen)]


def _partial(thing: Any, seen: set[int]) -> list[Any]:
    return ["partial", *(_parts(part, seen) for part in (thing.func, thing.args, thing.keywords))]


def _mapping(thing: Any, seen: set[int]) -> list[Any]:
    return ["dict", sorted((repr(_parts(k, seen)), _parts(v, seen)) for k, v in thing.items())]


def _several(thing: Any, seen: set[int]) -> list[Any]:
    return [type(thing).__name__, *(_parts(value, seen) for value in thing)]


def _set(thing: Any, seen: set[int]) -> list[Any]:
    return ["set", *sorted(repr(_parts(value, seen)) for value in thing)]


def _named(thing: Any, seen: set[int]) -> list[Any]:
    return ["named", str(getattr(thing, "__module__", "")), thing.__name__]


_READERS: tuple[tuple[Any, Callable[[Any, set[int]], list[Any]]], ...] = (
    (FunctionType, _function),
    (MethodType, _method),
    (partial, _partial),
    (type, _class),
    ((BuiltinFunctionType, ModuleType, np.ufunc), _named),
    (dict, _mapping),
    ((list, tuple), _several),
    ((set, frozenset), _set),
)
