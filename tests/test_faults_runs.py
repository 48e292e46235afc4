"""Networks, engines and environments that misbehave: each a row with a reason, or a sentence and an exit code."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import hasten
from hasten import machine, registry, worker
from hasten.budget import parse_budget
from hasten.cli import main
from hasten.errors import HastenError, InputError, UsageError
from hasten.search import first_timing, loading, prepare
from hasten.trial import encode
from tests import networks
from tests.engines.lying import LIES
from tests.reject import rejected

SOURCE = Path(hasten.__file__).parent


def two_headed(path: Path) -> Path:
    """x[N,8] -> Gemm -> y[N,4], and z = -y."""
    rng = np.random.default_rng(5)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], name="g"), helper.make_node("Neg", ["y"], ["z"], name="n")]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in "yz"],
        [numpy_helper.from_array(rng.standard_normal((8, 4)).astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path]:
    """A network with two outputs and 600 samples that it answers rightly."""
    path = two_headed(tmp_path / "two.onnx")
    x = np.random.default_rng(6).standard_normal((600, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=networks.answers(path, x).argmax(1))
    return path, tmp_path / "data.npz"


def test_every_lie_of_an_engine_is_a_row_with_a_reason(
    labelled: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a call takes microseconds, and a busy machine makes it two
    monkeypatch.setattr(first_timing.Span, "behind", lambda *_: False)
    result = hasten.optimize(
        *labelled, output="y", metric="top1", served_by="tests.engines.brisk", engines=["tests.engines.lying"],
        seconds=600, out=tmp_path / "out",
    )  # fmt: skip
    told = {t.candidate.settings.get("precision"): t for t in result.trials}
    assert set(LIES) <= set(told)
    for lie in LIES:
        # one output fewer is no lie about the output that is judged: that one may also lose by the clock
        fates = ("rejected", "crashed", "unsupported", *(["slower"] if lie == "fewer" else []))
        assert told[lie].status in fates, (lie, told[lie])
        assert told[lie].reason, lie
    assert result.winner.candidate.settings.get("precision") not in LIES
    assert told["exit"].status == "crashed"
    assert "NaN" in told["nan"].reason
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_baseline_that_crashes_is_rejected(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    with rejected("SIGSEGV"):
        hasten.optimize(*labelled, output="y", metric="top1", served_by="tests.engines.crashing", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def net(path: Path, *nodes: onnx.NodeProto, inputs: bool = True) -> Path:
    shape: list[str | int | None] = ["N" if inputs else 1, 8]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)] if inputs else []
    graph = helper.make_graph(list(nodes), "n", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_network_that_always_answers_nan_is_rejected(tmp_path: Path) -> None:
    path = net(tmp_path / "nan.onnx", helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["b"]),
               helper.make_node("Sqrt", ["b"], ["y"]))  # fmt: skip
    data = {"x": np.random.default_rng(0).standard_normal((80, 8)).astype(np.float32) + 3}
    with pytest.raises(InputError) as told:
        hasten.optimize(path, data, max_drop="agree:99%")
    assert "NaN" in str(told.value) or "not a number" in str(told.value) or "not finite" in str(told.value)


def test_a_network_with_nothing_to_optimise_stays(tmp_path: Path) -> None:
    path = net(tmp_path / "same.onnx", helper.make_node("Identity", ["x"], ["y"]))
    data = {"x": np.random.default_rng(0).standard_normal((120, 8)).astype(np.float32)}
    result = hasten.optimize(path, data, max_drop="agree:99%", engines=["onnxruntime"], seconds=10)
    assert result.verdict in ("nothing_faster", "met") or result.out_of_time
    assert all(t.candidate.lossless or t.status != "ok" for t in result.trials)


def test_a_network_without_inputs_is_told(tmp_path: Path) -> None:
    value = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.zeros((1, 8), np.float32)))
    path = net(tmp_path / "none.onnx", value, inputs=False)
    with pytest.raises(InputError) as told:
        hasten.optimize(path, {"x": np.zeros((50, 8), np.float32)})
    assert told.value.help


def test_no_samples_and_one_sample(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    with rejected("no samples"):
        hasten.optimize(path, {"x": np.zeros((0, 16), np.float32)})
    one = hasten.optimize(path, {"x": np.ones((1, 16), np.float32)}, engines=["onnxruntime"], seconds=5)
    assert not one.certified
    assert one.provable.n_confirm == 0


def test_a_file_that_changes_meanwhile_is_told(labelled: tuple[Path, Path]) -> None:
    path, data = labelled
    before = path.read_bytes()

    def rewrite(_: object) -> None:
        path.write_bytes(before + b"\x72\x00")

    result = hasten.optimize(path, data, output="y", metric="top1", engines=["onnxruntime"], seconds=5, listen=rewrite)
    assert any("two.onnx has changed since the run began" in text for text in result.warnings)


def test_variables_that_steer_a_runtime_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare.set_outside() == []
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert prepare.set_outside() == ["OMP_NUM_THREADS=3 is set: it holds for every network that is timed"]


BROKEN = {"raises": "raise RuntimeError('wrong interface\\nversion')", "needs": "import nowhere_to_be_found",
          "aborts": "import os; os.abort()", "is empty": ""}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plug_in_is_a_line_of_the_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    info = tmp_path / "plug-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hasten.engines]\nplug = broken_plug_in\n")
    (tmp_path / "broken_plug_in.py").write_text(BROKEN[kind])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "names", registry.names.__wrapped__)
    monkeypatch.setattr(registry, "find", registry.find.__wrapped__)
    assert "plug" in registry.names("engines")
    told = loading.probed("plug")
    assert told["missing"].startswith("broken: ")
    assert "\n" not in told["missing"]
    if kind != "aborts":
        assert registry.engine("plug")[1] == told["missing"]


def test_an_engine_of_ones_own_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raising_engine.py").write_text("1 / 0")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "raising.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with rejected("'pack.raising' cannot be imported", "ZeroDivisionError", kind=UsageError):
        registry.find("engines", "pack.raising")
    with rejected("cannot be imported", "No module named", kind=UsageError):
        registry.find("engines", "pack.nowhere")


@pytest.mark.parametrize(
    "text", ["-1%", "nan", "200%", "1", "", "inf", "rel:", "agree:101%", "rel:0%", "%", "1 %%", "0x1%"]
)
def test_budgets_that_cannot_be_meant_come_with_examples(text: str) -> None:
    with rejected("budget", "write 1% (one point)", kind=UsageError):
        parse_budget(text)


def test_json_has_no_nan() -> None:
    body = encode({"a": float("nan"), "b": [float("inf"), 1.0]})
    assert json.loads(body, parse_constant=lambda _: pytest.fail("a constant that JSON has not")) == {
        "a": None, "b": [None, 1.0],
    }  # fmt: skip


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_nothing_speaks_to_a_network_and_no_measurement_reads_a_clock_that_jumps() -> None:
    wires = {"socket", "ssl", "http", "urllib", "requests", "httpx", "ftplib", "smtplib", "asyncio", "xmlrpc"}
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not wires & {name.partition(".")[0] for name in names}, path
        dates = {"datetime.now"} if path.name == "machine.py" else set[str]()  # the date of a report, for people
        assert not {"time.time", "datetime.now", "time.time_ns"} & calls(tree) - dates, path


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 256)
    cores = machine.cores.__wrapped__
    assert cores() == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(256)), raising=False)
    text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda p, *a, **k: "150000 100000" if "cpu.max" in str(p) else text(p, *a, **k)
    )
    assert cores() in (1, 2)


@pytest.mark.parametrize(
    "outside",
    [{"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu"}, {"LC_ALL": "de_DE.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
)
def test_figures_and_json_do_not_depend_on_the_locale(tmp_path: Path, outside: dict[str, str]) -> None:
    path = networks.mlp(tmp_path / "Iİıi.onnx") if outside["LC_ALL"] != "C" else networks.mlp(tmp_path / "m.onnx")
    command = [sys.executable, "-m", "hasten", "inspect", str(path), "--json"]
    plain = subprocess.run(command, capture_output=True, check=True).stdout
    other = subprocess.run(command, capture_output=True, check=True, env={**os.environ, **outside}).stdout
    assert json.loads(other) == json.loads(plain)
    shown = subprocess.run(command[:-1], capture_output=True, check=True, env={**os.environ, **outside})
    assert b"1,738" in shown.stdout or b"weights" in shown.stdout
    assert shown.stderr == b""


def test_a_workers_children_go_with_it() -> None:
    with worker.Worker() as one:
        one.call("call", int, function="hasten.testing:leave_a_child", keywords={"seconds": 300})
        child = int(one.call("call", int, function="hasten.testing:leave_a_child", keywords={"seconds": 300}))
        assert Path(f"/proc/{child}").exists()
    for _ in range(100):
        status = Path(f"/proc/{child}/status")
        if not status.exists() or "Z (zombie)" in status.read_text():
            return
        time.sleep(0.05)
    pytest.fail("an orphan is left")


def test_a_reply_cannot_name_anything_but_our_errors() -> None:
    assert worker.FROM_CHILDREN["UsageError"] is UsageError
    for name in ("get_close_matches", "Iterable", "__builtins__", "nothing", "ClassVar", "HastenError", "Stopped"):
        assert name not in worker.FROM_CHILDREN


def test_a_temporary_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tempfile

    path = networks.mlp(tmp_path / "m.onnx")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    code = main(["inspect", str(path)])
    told = capsys.readouterr().err
    assert (code, "TMPDIR" in told) == (4, True), told


def test_nothing_inside_the_budget_exits_with_1_and_says_what_came_near(
    labelled: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--output", "y", "--metric", "top1", "--engine", "tests.engines.lying", "--time", "0s", "-q"]
    arguments += ["--served-by", "tests.engines.lying", "--out", str(tmp_path / "out")]
    assert main(["optimize", str(labelled[0]), "--data", str(labelled[1]), *arguments]) == 1
    assert "nothing faster" in capsys.readouterr().out


def test_a_recipe_for_an_engine_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = networks.mlp(tmp_path / "m.onnx")
    body: dict[str, Any] = {"steps": [{"name": "clean", "options": {}}], "engine": "openvino", "settings": {}}
    (tmp_path / "recipe.json").write_text(json.dumps(body))
    absent = registry.find("engines", "openvino")
    monkeypatch.setattr(absent, "missing", lambda: "openvino is not installed; pip install 'hasten[openvino]'")
    with pytest.raises(HastenError) as told:
        hasten.apply(tmp_path / "recipe.json", path, {"x": np.zeros((8, 16), np.float32)}, out=tmp_path / "out")
    assert told.value.exit_code == 4
    assert "pip install 'hasten[openvino]'" in str(told.value)
    assert not (tmp_path / "out").exists()
