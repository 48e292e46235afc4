"""For tests of extensions: functions that misbehave inside a worker, and kits that check promises."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from hasten import compare
from hasten.engines.allowed import check_settings
from hasten.model import Model
from hasten.protocols import Array, Context, Engine, Pass
from hasten.trial import Scalar


def crash(signal_name: str) -> dict[str, Any]:
    """Die by a signal, as a runtime with a bug does."""
    os.kill(os.getpid(), getattr(signal, signal_name))
    time.sleep(5)
    return {}


def leave(code: int) -> dict[str, Any]:
    """Exit without an answer."""
    sys.stdout.flush()
    os._exit(code)


def abort(words: str) -> dict[str, Any]:
    """End as C++ does after an exception that nobody caught: last words, then SIGABRT."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()
    os.abort()


def hang(seconds: float) -> dict[str, Any]:
    """Never answer in time, and ignore polite requests to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)
    return {}


def leave_a_child(seconds: float) -> int:
    """Start a process that outlives the call; its number."""
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({float(seconds)})"]).pid


def eat(mebibytes: int) -> dict[str, Any]:
    """Take memory and touch it."""
    held = [np.ones(1 << 20, np.uint8) for _ in range(mebibytes)]
    time.sleep(1)
    return {"held": len(held)}


def chatter(mebibytes: int) -> dict[str, Any]:
    """Print far too much."""
    for _ in range(mebibytes):
        sys.stdout.write("x" * (1 << 20))
        sys.stdout.flush()
    time.sleep(1)
    return {}


def check_engine(engine: Engine, source: Path, feeds: Mapping[str, Array], wanted: list[Array], folder: Path) -> None:
    """Assert what every engine promises: names, native formats, an export that loads, answers that agree.

    ``source`` is a file of a form that the engine takes, mostly ONNX. ``wanted`` are its float32 outputs on ``feeds``
    in graph order; they are met within float32 rounding (``compare.FLOAT32``). Settings that go into the file are given
    to ``export``.
    """
    choices, lossy = _declared(engine)
    if hasattr(engine, "SETTINGS"):
        for offered in (*choices, *engine.lossy_settings(2)):
            check_settings(engine.name, offered, "a recipe", trust=True)
    for number, chosen in enumerate(choices):
        place = folder / str(number)
        place.mkdir(parents=True)
        baked = {k: v for k, v in chosen.items() if k in getattr(engine, "baked", ())}
        before = source.stat().st_mtime_ns
        artefact = engine.export(source, place, **baked)
        assert source.stat().st_mtime_ns == before, "the source is left alone"
        _check_answers(engine, artefact, chosen, feeds, wanted, compare.FLOAT32)
        _check_profile(engine, artefact, chosen, feeds)
        for narrow in lossy if number == 0 else ():
            _check_shapes(engine, artefact, {**chosen, **narrow}, feeds, wanted)


def _declared(engine: Engine) -> tuple[list[dict[str, Scalar]], list[dict[str, Scalar]]]:
    """Assert that an engine's names hold what the search reads of them; returns its settings, and the lossy ones."""
    import msgspec

    from hasten import registry
    from hasten.passes.quantize import SCHEMES

    assert engine.missing() is None
    assert registry.find("engines", engine.name) is engine, "its name leads to it"
    assert isinstance(engine.version(), str)
    assert engine.version()
    assert isinstance(engine.spins, bool)
    assert "f32" in engine.formats() <= {"f32", "bf16", "f16", "int8"}
    assert "int8" not in engine.formats() or engine.scheme in SCHEMES
    choices, lossy = list(engine.settings(2)), list(engine.lossy_settings(2))
    assert choices, "the stock default comes first"
    assert choices == list(engine.settings(2)), "the same settings each time"
    assert list(engine.lossy_settings(0)) == lossy, "lossy settings do not depend on the cores"
    for chosen in (*choices, *lossy):
        msgspec.convert(chosen, dict[str, Scalar], strict=True)
    assert not [one for one in lossy if any(one.items() <= c.items() for c in choices)], "a lossy setting narrows"
    assert all(isinstance(form, str) for form in getattr(engine, "takes", ("onnx",)))
    return choices, lossy


def _check_profile(engine: Engine, artefact: Path, chosen: Mapping[str, Scalar], feeds: Mapping[str, Array]) -> None:
    """An engine that counts the time of its kernels names them, and no time is negative."""
    if hasattr(engine, "profile"):
        layers = list(engine.profile(artefact, chosen, [feeds], 0.1))
        assert layers, "an engine that cannot tell goes without the function"
        assert all(0 <= layer.ms < inf and all(isinstance(n, str) for n in layer.names) for layer in layers)


def _check_shapes(
    engine: Engine, artefact: Path, chosen: Mapping[str, Scalar], feeds: Mapping[str, Array], wanted: list[Array]
) -> None:
    """Narrow arithmetic answers with the same shapes and types, and with finite numbers."""
    runner = engine.load(artefact, chosen)
    answers = [np.asarray(a) for a in runner.run(feeds)]
    runner.close()
    assert [(a.shape, a.dtype) for a in answers] == [(w.shape, w.dtype) for w in wanted], dict(chosen)
    assert all(np.isfinite(a).all() for a in answers), dict(chosen)


def check_frontend(
    name: str, path: Path, feeds: Mapping[str, Array], wanted: list[Array], folder: Path, **options: Any
) -> None:
    """Assert what every front door promises, on a file of its format.

    The content decides, whatever the name; nobody else takes the file; the graph comes out with its inputs and
    outputs, says where it came from, and answers ``wanted`` on ``feeds`` (in ONNX Runtime, ``compare.CONVERTED``);
    the original does the same in its owner's engine; a truncated file is refused with a sentence.
    """
    from hasten import registry
    from hasten.errors import HastenError
    from hasten.protocols import Door
    from hasten.search.enter import enter

    copy = folder / "a name that says nothing"
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
    takers = [n for n in registry.names("frontends") if registry.find("frontends", n).accepts(copy)]
    assert takers == [name]
    assert not registry.find("frontends", name).accepts(folder / "nothing here")
    entered = enter(copy, folder / "run", Door(**options), dict(feeds))
    assert {i.name for i in entered.inputs} == set(feeds)
    assert len(entered.outputs) == len(wanted)
    assert entered.origin.format in entered.forms
    graph = registry.find("engines", "onnxruntime")
    _check_answers(graph, entered.graph, {}, feeds, wanted, compare.CONVERTED)
    owner = registry.find("engines", entered.origin.engine)
    if owner.missing() is None:
        _check_answers(owner, Path(entered.origin.path), entered.origin.settings, feeds, wanted, compare.CONVERTED)
    if path.is_file():
        copy.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refusal: HastenError | None = None
        try:
            enter(copy, folder / "half", Door(**options), dict(feeds))
        except HastenError as fault:
            refusal = fault
        assert refusal is not None, "half a file was taken for a whole one"
        assert refusal.help


def check_pass(step: Pass, model: Model, context: Context, folder: Path) -> Model:
    """Assert what every pass promises, and return what it made of ``model``.

    Its ``repr`` is its recipe; it leaves its argument alone, keeps inputs and outputs, and returns the same object or
    a network that is valid ONNX and has one more line of history; doing it again to the original gives the same.
    """
    import onnx

    before = _bytes(model, folder / "before.onnx")
    made = step(model, context)
    assert hash(step) == hash(replace(step))  # type: ignore[type-var]
    assert _bytes(model, folder / "after.onnx") == before, "a pass leaves its argument alone"
    assert (made.inputs, made.outputs) == (model.inputs, model.outputs)
    if made is not model:
        assert len(made.history) == len(model.history) + 1, "a pass adds itself to the history"
        assert type(step).__name__ in made.history[-1]
        first, again = _bytes(made, folder / "made.onnx"), _bytes(step(model, context), folder / "again.onnx")
        assert first == again, "the same recipe gives the same network"
        onnx.checker.check_model(str(folder / "made.onnx"))
    return made


def _bytes(model: Model, path: Path) -> bytes:
    model.save(path)
    return path.read_bytes()


def _check_answers(
    engine: Engine, artefact: Path, chosen: Mapping[str, Scalar], feeds: Mapping[str, Array], wanted: list[Array],
    tolerance: compare.Tolerance,
) -> None:  # fmt: skip
    runner = engine.load(artefact, chosen)
    names = [str(k) for k in range(len(wanted))]
    for _ in range(2):
        problem = compare.first_problem(compare.sample(wanted, runner.run(feeds), names), tolerance)
        assert not problem, f"{problem} ({dict(chosen)})"
    assert runner.executed()
    runner.close()
