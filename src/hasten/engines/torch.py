"""PyTorch on the CPU: eager float32 as its owner runs it, and compiled ahead of time (inductor), float32 or bf16.

It serves exported programs, never the graph: the passes of this package rewrite ONNX. A compiled network is a package
with a library in it (AOTInductor): it loads in hundredths of a second and needs no compiler where it runs.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import numpy as np

from hasten.extras import pip
from hasten.frontends.exported import input_names
from hasten.frontends.extras import installed, quiet_torch
from hasten.frontends.torch import read_program
from hasten.machine import instruction_sets
from hasten.protocols import Array, Feeds, Runner
from hasten.trial import Scalar

name = "torch"
spins = False
takes = ("torch",)
baked = ("compile", "precision")
writes = "pt2"
SETTINGS = {"compile": (True,), "precision": ("f32", "bf16"), "threads": range(1, 4097)}
NATIVE = "compile"  # with this setting the served file holds a compiled library


def missing() -> str | None:
    """None when torch is installed; importing it takes seconds, so only its metadata are read."""
    if installed("torch") == (0,):
        return f"torch is not installed; {pip('torch')}"
    return None


def version() -> str:
    """torch's own version."""
    from importlib.metadata import version as of

    return of("torch")


def formats() -> frozenset[str]:
    """bf16 where the processor multiplies it; int8 would take another graph than the exported one."""
    return frozenset({"f32", "bf16"} if {"avx512_bf16", "amx_tile"} & set(instruction_sets()) else {"f32"})


def settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """Eager first, as everybody starts; compiled where there is a C++ compiler."""
    choices: list[dict[str, Scalar]] = [{}]
    if has_compiler():
        choices.append({"compile": True})
    return choices


def has_compiler() -> bool:
    """True when inductor can build what it generates."""
    return any(shutil.which(c) for c in (os.environ.get("CXX", ""), "g++", "clang++") if c)


def lossy_settings(cores: int) -> Sequence[dict[str, Scalar]]:
    """bf16 for the operators that torch's autocast narrows."""
    return [{"precision": "bf16"}] if "bf16" in formats() else []


def export(source: Path, directory: Path, *, compile: bool = False, precision: str = "f32") -> Path:  # noqa: A002
    """An exported program as it is, narrowed by autocast, or compiled for this machine's processor."""
    if not compile and precision == "f32":
        return source
    torch = quiet_torch()
    program = read_program(source)
    names = input_names(program)
    if precision == "bf16":
        program = _narrowed(program)
    target = directory / "model.pt2"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not compile:
            torch.export.save(program, target)
            return target
        _compile(program, names, target)
    return target


def _compile(program: Any, names: Sequence[str], target: Path) -> None:
    """A package for this machine's processor, with the names of the inputs in it."""
    from torch._inductor import aoti_compile_and_package, config

    config.aot_inductor.metadata = {"hasten_inputs": json.dumps(names)}
    config.cpp.dynamic_threads = True  # threads are chosen where it runs
    for freezing in (True, False):  # weights packed once, for this processor
        config.freezing = freezing
        functional = program.run_decompositions({})  # an author's in-place operators are unknown to the compiler
        try:
            aoti_compile_and_package(functional, package_path=str(target))
            return
        except RuntimeError:  # torch 2.13 loses some constants when it packs: Keras networks have such
            if not freezing:
                raise


def _narrowed(program: Any) -> Any:
    """The same program with its products in bf16; inputs by the same names, outputs in the same order, as float32."""
    import torch
    from torch.utils import _pytree as pytree

    inner, spec, names = program.module(check_guards=False), program.call_spec.in_spec, input_names(program)
    for node in [n for n in inner.graph.nodes if n.target == torch.ops.aten._assert_tensor_metadata.default]:
        inner.graph.erase_node(node)  # a cast of the author's leaves a check that what it casts is float32
    inner.recompile()

    class Narrow(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *flat: Any) -> Any:
            arguments, keywords = pytree.tree_unflatten(list(flat), spec)
            with torch.autocast("cpu", torch.bfloat16):
                answer = self.inner(*arguments, **keywords)
            return pytree.tree_map(lambda t: t.float() if t.dtype == torch.bfloat16 else t, answer)

    places = [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in ("self", *names)]
    Narrow.forward.__signature__ = Signature(places)  # type: ignore[attr-defined]
    flat = pytree.tree_leaves(program.example_inputs)
    free = tuple(dict.fromkeys(range(t.ndim), torch.export.Dim.AUTO) for t in flat)
    with torch.no_grad():
        return torch.export.export(Narrow(), tuple(flat), dynamic_shapes=free)


class _Program:
    """An exported program run eagerly, or its compiled package; both are fed a flat list in the program's order."""

    def __init__(self, path: Path, chosen: Mapping[str, Scalar]) -> None:
        self._torch = torch = quiet_torch()
        self._chosen = chosen
        if "threads" in chosen:
            torch.set_num_threads(int(chosen["threads"]))
        if chosen.get("compile"):
            from torch._inductor import aoti_load_package

            self._package = aoti_load_package(str(path))
            self._names = json.loads(self._package.get_metadata()["hasten_inputs"])
            self._call = self._package.loader.run
        else:
            program = read_program(path)
            self._names, self._call = input_names(program), flat_call(program)

    def run(self, feeds: Feeds) -> list[Array]:
        tensors = [self._torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self._names]
        with self._torch.inference_mode():
            return [t.numpy() for t in self._call(tensors)]

    def executed(self) -> str:
        """What was asked for: inductor keeps no record of what it compiled to."""
        how = "compiled" if self._chosen.get("compile") else "eager"
        return f"{self._chosen.get('precision', 'f32')} ({how})"

    def close(self) -> None:
        del self._call


def flat_call(program: Any) -> Callable[[list[Any]], list[Any]]:
    """The program as a function from its inputs to its outputs, both in flat lists."""
    from torch import Tensor
    from torch.utils import _pytree as pytree

    module, spec = program.module(check_guards=False), program.call_spec.in_spec

    def call(tensors: list[Any]) -> list[Any]:
        arguments, keywords = pytree.tree_unflatten(tensors, spec)
        return [t for t in pytree.tree_leaves(module(*arguments, **keywords)) if isinstance(t, Tensor)]

    return call


def load(path: Path, settings: Mapping[str, Scalar]) -> Runner:
    """A program or a compiled package; the settings are ``compile``, ``precision`` and ``threads``."""
    return _Program(path, settings)


def inner(path: Path, settings: Mapping[str, Scalar], feeds: Feeds) -> Iterator[tuple[str, Array]]:
    """Inner tensors of an exported program by name, in the order in which they are computed."""
    torch = quiet_torch()
    from torch.fx import Interpreter

    program = read_program(path)
    tensors = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in input_names(program)]
    found: list[tuple[str, Array]] = []

    class Watched(Interpreter):  # type: ignore[misc,unused-ignore]
        def run_node(self, node: Any) -> Any:
            value = super().run_node(node)
            if node.op == "call_function" and isinstance(value, torch.Tensor):
                found.append((node.name, value.detach().numpy().copy()))
            return value

    module = program.module(check_guards=False)
    with torch.inference_mode():
        Watched(module).run(*tensors, enable_io_processing=False)
    yield from found
