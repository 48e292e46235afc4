"""What is handed over: a module for any number of threads, and names of others that stay text everywhere."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from benchmarks import threads

from hasten import console, result_files, trial
from hasten.errors import InputError
from hasten.example import RUNTIMES, example
from hasten.model import TensorSpec
from hasten.protocols import Event
from hasten.report.build import build
from hasten.report.source import shell
from hasten.trial import Result, Scalar
from tests import results
from tests.browser import CHROMIUM, browser
from tests.test_artefacts import X, chosen, network, write

HOSTILE = (
    '"""\nimport os; os.abort()\n"""',
    "'''; raise SystemExit(7)  #",
    "a\\",
    '\\"""\nboom = 1\n\\\'',
    "{{ 7 * 7 }}{% raise %}",
    "x\u2028import os\u2029y\x85z\x0c\x1c\r\n",
    "\u202egnp.\u2066x\u200b\ufeff\U000e0041",
    "\x1b[2J\x1b]0;owned\x07\x9b31m\x00\x7f",
    "half \udc80 \ud800",
    "</script></title><img src=x onerror=alert(1)><svg onload=alert(1)>",
    "' onmouseover='alert(1)' \" onfocus=\"alert(1)",
    "$(touch owned) `touch owned`; touch owned & #\n!!",
)


def text_of(engine: str, name: str) -> str:
    """The module of an engine in which everything that a stranger can name is called ``name``."""
    settings: dict[str, Scalar] = {
        "threads": 1, "module": f"{name}:f", "signature": name, "sizes": json.dumps({name: [1, 3]}), "backend": name,
        "precision": name, "hint": name, "graph_optimization": name,
    }  # fmt: skip
    result = chosen(engine, settings)
    result = replace(result, started=name, machine=replace(result.machine, versions={"numpy": name, engine: name}))
    specs = [TensorSpec(name, ("N", 3), "float32"), TensorSpec(f"{name}2", (1, name), "float32")]
    extra = {"outputs": [name, f"{name}3"], "state": {f"{name}2": f"{name}3"}, "shapes": {name: [1, 3]}}
    return example(result, f"model.{name}", specs, extra)


def skeleton(text: str) -> list[str]:
    """The kinds of all nodes of a program, without what its constants are."""
    return [type(node).__name__ for node in ast.walk(ast.parse(text))]


@pytest.mark.parametrize("engine", [*RUNTIMES, "abacus"])
def test_a_name_is_never_code(engine: str) -> None:
    plain = skeleton(text_of(engine, "plain"))
    for name in HOSTILE:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an invalid escape is a SyntaxWarning
            text = text_of(engine, name)
            assert skeleton(text) == plain, name
        assert all(c == "\n" or c.isprintable() for c in text)
        constants = {n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)}
        assert f"model.{name}" in constants
        assert engine == "abacus" or name in constants
        text.encode()


@pytest.mark.parametrize("engine", [*RUNTIMES, "abacus"])
def test_the_module_passes_a_linter(tmp_path: Path, engine: str) -> None:
    if find_spec("ruff") is None:
        pytest.skip("needs ruff")
    for k, name in enumerate(("x", HOSTILE[0])):
        (tmp_path / f"example{k}.py").write_text(text_of(engine, name))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


class Elements(HTMLParser):
    """Every element with the names of its attributes, and the ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))
        self.ids += [str(value) for name, value in attrs if name == "id"]


def named(name: str) -> Result:
    """A result in which every string that is not a number's is ``name``."""
    base = results.met()

    def renamed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: renamed(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [renamed(v, key) for v in value]
        kept = (
            "status",
            "split",
            "verdict",
            "budget",
            "chosen",
            "wide",
            "settings",
            "precision",
            "metric_kind",
            "certificate",
            "required",
        )
        return name if isinstance(value, str) and key not in kept else value

    made = msgspec.convert(renamed(trial.plain(base)), Result)
    plans = tuple(replace(p, wide="f32", candidate=name) for p in made.plans) * 2
    machine = replace(made.machine, versions={f"v{name}": name, "hasten": name})
    return replace(made, plans=plans, unplanned=(name,), warnings=(name,), machine=machine)


def test_a_name_is_never_an_element_or_an_attribute() -> None:
    plain = Elements(build(named("plain")))
    assert len(plain.ids) == len(set(plain.ids))
    for name in HOSTILE:
        page = build(named(name))
        found = Elements(page)
        assert found.found == plain.found, name
        assert found.ids == plain.ids
        assert all(c in "\n\t" or c.isprintable() or c == "\u00a0" for c in page)
        page.encode()


def test_json_holds_any_name_and_no_terminal_obeys_it() -> None:
    for name in HOSTILE:
        data = trial.encode(replace(results.met(), model=name, warnings=(name,), metric=name))
        assert all(c == "\n" or c.isprintable() for c in data.decode())
        whole = name.encode("utf-8", "backslashreplace").decode()  # JSON has no half of a pair
        assert trial.decode(data, Result).model == whole
        assert json.loads(data)["metric"] == whole


def test_no_name_reaches_the_terminal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for name in HOSTILE:
        facts = {"inputs": [f"{name}[N,3] float32"], "operators": {name: 3}, "format": name}
        rows = [{"name": name, "reason": name}]
        stream = io.StringIO()
        progress = console.Progress(stream, verbosity=2)
        for kind in ("warning", "note", "trial"):
            progress(Event(kind=kind, stage="1/3", text=name))
        for shown in (console.result_block(named(name), Path("out")), console.facts_block(facts),
                      console.bench_table(rows), console.region_table(results.mixed())):  # fmt: skip
            console.show(shown)
        said = capsys.readouterr().out + stream.getvalue()
        assert all(c == "\n" or c.isprintable() or c == "\u00a0" for c in said), name
        assert not [line for line in said.splitlines() if line.startswith(("import os", "boom", "touch"))]


def test_a_line_for_the_shell_runs_nothing_of_a_name(tmp_path: Path) -> None:
    for name in HOSTILE:
        if "\x00" in name or "\ud800" in name:  # no path holds either
            continue
        line = shell(name)
        assert line.isprintable()
        done = subprocess.run(["bash", "-c", f"printf %s {line}"], capture_output=True, cwd=tmp_path, timeout=20)
        assert done.stdout == os.fsencode(name)
    assert not list(tmp_path.iterdir())
    out = io.StringIO()
    console.show(console.result_block(results.met(), Path("my out; touch owned")), out)
    assert "hasten verify 'my out; touch owned'" in out.getvalue()
    assert "python 'my out; touch owned/example.py'" in out.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_shows_hostile_names_as_text(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(build(named(" ".join(HOSTILE))), encoding="utf-8")
    with browser(tmp_path / "profile") as tab:
        for width, dark in ((390, True), (1400, False)):
            tab.open(page, width, dark=dark)
            assert tab.ask("document.documentElement.scrollWidth") <= width
            assert tab.ask("document.querySelectorAll('img, script').length") == 1
            assert tab.complaints == []


# ---------------------------------------------------------------- the files of the folder


@pytest.mark.parametrize("suffix", [".o'''nx", '."""', ".x y", ".\u202exnno", ".\udc80", ".a\nb", ".bin", ""])
def test_a_strange_suffix_is_dropped(tmp_path: Path, suffix: str) -> None:
    artefact = tmp_path / f"net{suffix}"
    artefact.write_bytes(network(tmp_path / "m.onnx").read_bytes())
    out = tmp_path / "out"
    write(out, artefact, outputs=["y"])
    assert sorted(p.name for p in out.iterdir()) == sorted({"model", *result_files.NAMES} - {result_files.EVIDENCE})
    run = threads.imported(out).run
    assert run({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize(
    "location", ["recipe.json", "./RECIPE.json", "example.py", "model.onnx", "model", "model.a", "sub/w.data", "w", "/"]
)
def test_external_weights_collide_with_no_file_of_ours(tmp_path: Path, location: str) -> None:
    artefact = network(tmp_path / "net.onnx", external="net.data")
    place = tmp_path / ("net.data" if location == "/" else location)
    place.parent.mkdir(exist_ok=True)
    data = (tmp_path / "net.data").read_bytes()
    place.write_bytes(data)
    model = onnx.load(artefact, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = (str(place) if location == "/" else location) if entry.key == "location" else entry.value
    artefact.write_bytes(model.SerializeToString())
    out = tmp_path / "out"
    write(out, artefact, outputs=["y"])
    assert place.read_bytes() == data, "the input is as it was"
    place.unlink()
    run = threads.imported(out).run
    assert run({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[3.0, 3.0]]
    assert json.loads((out / "recipe.json").read_bytes())["engine"] == "onnxruntime"
    networks = [p.name for p in out.glob("model*") if p.suffix != ".data"]
    assert networks == ["model.onnx"], "readers take the right file for the network"


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    artefact = network(tmp_path / "in" / "net.onnx", external="net.data")
    (tmp_path / "secret").write_bytes(b"0" * 64)
    for location in ("../secret", str(tmp_path / "secret"), "."):
        model = onnx.load(artefact, load_external_data=False)
        model.graph.initializer[0].external_data[0].value = location
        artefact.write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match="the weights of"):
            write(tmp_path / "out", artefact)
        assert not (tmp_path / "out").exists()


def test_report_manifest_and_json_carry_the_date(tmp_path: Path) -> None:
    from hasten.machine import now

    begun = now()
    assert datetime.fromisoformat(begun).utcoffset() is not None
    write(tmp_path / "out", network(tmp_path / "m.onnx"), result=replace(chosen(), started=begun), outputs=["y"])
    for file in ("report.json", "manifest.json"):
        assert json.loads((tmp_path / "out" / file).read_bytes())["started"] == begun
    page = (tmp_path / "out" / "report.html").read_text()
    assert f'<time datetime="{begun}">{begun[:10]} {begun[11:16]} {begun[19:]}</time>' in page
    assert f"measured it on {begun}" in (tmp_path / "out" / "example.py").read_text()


# ---------------------------------------------------------------- the module


def module(tmp_path: Path, *, state: bool = False, **settings: Scalar) -> Any:
    """The module of the small network y = x @ ones, with h' = h + 1 where it has state."""
    inputs = (X, TensorSpec("h", ("N", 2), "float32")) if state else (X,)
    more: dict[str, Any] = {"state": {"h": "h_out"}} if state else {}
    write(
        tmp_path / "out", network(tmp_path / "m.onnx", state=state), result=chosen(settings=settings), inputs=inputs,
        outputs=["y", "h_out"] if state else ["y"], **more,
    )  # fmt: skip
    return threads.imported(tmp_path / "out")


def test_an_import_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module(tmp_path)
    (tmp_path / "out" / "model.onnx").unlink()
    without_network = threads.imported(tmp_path / "out")
    assert capsys.readouterr() == ("", "")
    with pytest.raises(Exception, match=r"model\.onnx"):
        without_network.run({"x": np.ones((1, 3), np.float32)})
    network(tmp_path / "out" / "model.onnx")  # a load that failed is tried again
    assert without_network.run({"x": np.ones((1, 3), np.float32)})["y"].shape == (1, 2)


def test_many_first_calls_load_once(tmp_path: Path) -> None:
    loaded, made = [], module(tmp_path)
    session, gate = made.ort.InferenceSession, threading.Barrier(8)

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(ort, name)

        def InferenceSession(self, *a: Any, **k: Any) -> Any:  # noqa: N802
            loaded.append(1)
            return session(*a, **k)

    ort, made.ort = made.ort, Counted()

    def first(_: int) -> Any:
        gate.wait()
        return made.run({"x": np.ones((1, 3), np.float32)})["y"].tolist()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first, range(8))) == [[[3.0, 3.0]]] * 8
    assert loaded == [1]


ONES = np.ones((1, 3), np.float32)
WRONG: list[tuple[Any, str]] = [
    ({"X": ONES}, r"no input is called 'X'; did you mean 'x'\?; the network takes 'x': float32 \[any, 3\]"),
    ({"xx": ONES, "x": ONES}, r"no input is called 'xx'; did you mean 'x'\?; the network takes"),
    ({"x\x1b": ONES}, r"no input is called 'x\\x1b'"),
    ({}, r"inputs are missing: 'x'; the network takes 'x': float32 \[any, 3\]"),
    ({"x": ONES[0]}, r"input 'x' has the shape \[3\]; the network takes \[any, 3\]"),
    ({"x": np.ones((1, 4), np.float32)}, r"input 'x' has the shape \[1, 4\]; the network takes \[any, 3\]"),
    ({"x": np.ones((0, 3), np.float32)}, r"input 'x' is empty: its shape is \[0, 3\]"),
    ({"x": np.full((1, 3), 0.1)}, "input 'x' is float64; the network takes float32, which not all its values fit"),
    ({"x": np.full((1, 3), 1e300)}, "input 'x' is float64"),
    ({"x": np.full((1, 3), 2**24 + 1)}, "input 'x' is int64"),
    ({"x": [["a", "b", "c"]]}, "input 'x' is <U1"),
    ({"x": [[1.0], [1.0, 2.0]]}, "input 'x' is no array: "),
    ({"x": None}, "input 'x' is object"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_what_does_not_fit_is_named(tmp_path: Path, given: Any, said: str) -> None:
    made = module(tmp_path)
    with pytest.raises(ValueError, match=said):
        made.run(given)
    with pytest.raises(TypeError, match="ndarray is not a dictionary of arrays by name; the network takes 'x'"):
        made.run(ONES)


@pytest.mark.parametrize(
    "value", [[[1, 2, 3]], np.array([[1, 2, 3]]), np.array([[1.0, 0.5, np.nan]]), ONES.astype(">f4"), ONES.astype(bool),
              np.asfortranarray(np.ones((2, 3), np.float32)), np.ones((4, 6), np.float32)[::2, ::2]],
)  # fmt: skip
def test_values_are_cast_where_each_keeps_its_value(tmp_path: Path, value: Any) -> None:
    found = module(tmp_path).run({"x": value})["y"]
    np.testing.assert_array_equal(found, np.asarray(value, np.float32) @ np.ones((3, 2), np.float32))


def test_a_state_belongs_to_its_stream(tmp_path: Path) -> None:
    made = module(tmp_path, state=True)

    def stream(length: int) -> float:
        state = None
        for _ in range(length):
            outputs, state = made.run({"x": ONES}, state)
        return float(outputs["h_out"][0, 0])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(stream, [7, 50, 3, 29] * 10)) == [7.0, 50.0, 3.0, 29.0] * 10
    with pytest.raises(ValueError, match=r"no input is called 'h'.*the network takes 'x'"):
        made.run({"x": ONES, "h": np.zeros((1, 2), np.float32)})
    with pytest.raises(ValueError, match=r"inputs are missing: 'h'; the network takes 'h': float32 \[any, 2\]"):
        made.run({"x": ONES}, {})
    _, two = made.run({"x": np.ones((2, 3), np.float32)}, {"h": np.zeros((2, 2), np.float32)})
    assert two["h"].tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_pool_lends_to_one_thread_at_a_time_and_makes_no_more_than_it_may() -> None:
    space: dict[str, Any] = {"__file__": "/nowhere/example.py", "__name__": "example"}
    text = text_of("openvino", "x").replace("import openvino as ov", "ov = None")
    exec(compile(text, "example.py", "exec"), space)
    made: list[int] = []
    busy, most = [0], [0]

    def make() -> Callable[[Any], Any]:
        own = len(made)
        made.append(own)
        inside = threading.Lock()

        def infer(value: Any) -> Any:
            assert inside.acquire(blocking=False), "two threads in one worker"
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            threading.Event().wait(0.001)
            busy[0] -= 1
            inside.release()
            if value == "bad":
                raise RuntimeError("bad")
            return value, own

        return infer

    pool = space["Pool"](make, 3)
    with ThreadPoolExecutor(12) as callers:
        assert [v for v, _ in callers.map(pool, range(200))] == list(range(200))
    assert len(made) <= 3
    assert most[0] <= 3
    before = {pool("good")[1] for _ in range(5)}
    with pytest.raises(RuntimeError, match="bad"):
        pool("bad")
    assert not before & {pool("good")[1] for _ in range(5)}, "what has failed is not used again"


def test_an_engine_of_others_says_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "out", network(tmp_path / "m.onnx"), result=chosen("abacus", {"beads": 7}))
    made = threads.imported(tmp_path / "out")
    for call in (made.load, lambda: made.run({})):
        with pytest.raises(NotImplementedError, match=r"the engine 'abacus': load model\.onnx in it, .*'beads': 7"):
            call()


def threaded() -> list[Any]:
    """The cases of the benchmark: those of frameworks are for their own environment."""
    found = []
    for case in threads.CASES:
        marks = [pytest.mark.skipif(not threads.installed(case), reason=f"needs {case.engine}")]
        marks += [pytest.mark.extra, pytest.mark.slow] if case.engine in ("torch", "keras", "tensorflow") else []
        marks += [pytest.mark.filterwarnings("ignore")]
        found.append(pytest.param(case, marks=marks, id=case.name))
    return found


@pytest.mark.parametrize("case", threaded())
def test_four_threads_get_the_answers_of_one(tmp_path: Path, case: threads.Case) -> None:
    if case.engine in ("keras", "tensorflow"):  # a backend is chosen once in a process
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.threads", "--case", case.name, "--calls", "400"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
        assert (found["wrong"], found["calls"]) == (0, 400), found["reasons"]
        return
    counted = threads.hammered(threads.imported(threads.hand_over(case, tmp_path)), calls=400)
    assert set(counted) <= {"equal", "rounding"}
    assert counted.total() == 400


@pytest.mark.parametrize("name", ["onnxruntime", "openvino, sizes fixed", "litert"])
def test_the_program_warns_of_nothing(tmp_path: Path, name: str) -> None:
    case = next(c for c in threads.CASES if c.name == name)
    if not threads.installed(case):
        pytest.skip(f"needs {case.engine}")
    command = [sys.executable, "-W", "error", str(threads.hand_over(case, tmp_path) / "example.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "median latency" in done.stdout
