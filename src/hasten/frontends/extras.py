"""Packages that only some front doors need: asked for by name, with the pip line that brings them."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hasten.errors import EnvironmentFault
from hasten.extras import pip

LEAST = {"torch": (2, 10), "keras": (3, 15)}  # older ones run code that a file brings, even in their safe modes


def need(package: str, extra: str, what: str) -> Any:
    """The imported ``package``, which reading ``what`` takes.

    Raises:
        EnvironmentFault: it is missing, broken, or so old that its safe mode is not safe.
    """
    line = pip(extra)
    try:
        module = import_module(package)
    except Exception as error:  # a broken install raises whatever it likes
        missing = isinstance(error, ModuleNotFoundError)
        cause = f"{package} is not installed" if missing else f"{package}: {type(error).__name__}: {error}"
        raise EnvironmentFault(f"reading {what} needs {package}", cause=cause[:300], help=line) from error
    if package in LEAST and installed(package) < LEAST[package]:
        least = ".".join(map(str, LEAST[package]))
        cause = f"before {least} even a safe load could run code"
        raise EnvironmentFault(f"{package} {version(package)} is too old", cause=cause, help=f"{line} --upgrade")
    return module


def installed(package: str) -> tuple[int, ...]:
    """Its version as numbers, (0,) when it is not installed; nothing is imported."""
    try:
        parts = version(package).split("+")[0].split(".")
    except PackageNotFoundError:
        return (0,)
    return tuple(int(p) for p in parts if p.isdigit())


def quiet_torch() -> Any:
    """torch, told never to unpickle: not even where its own code says otherwise.

    Raises:
        EnvironmentFault: as ``need``.
    """
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch = need("torch", "torch", "PyTorch files")
    need("onnxscript", "torch", "PyTorch files")
    return torch
