"""The command line: options reach the api as they are, answers and faults come out in one grammar."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hasten import cli, options
from hasten.budget import Budget
from hasten.errors import EnvironmentFault, InputError, Stopped, UsageError
from hasten.protocols import Event
from hasten.trial import Result, decode
from tests import results


class Api:
    """Stands in for ``hasten.api``: records the call and answers, or raises, what it was told to."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.arguments = answer, ()
        self.options: Mapping[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.arguments, self.options = arguments, options
            if "listen" in options:
                options["listen"](Event(kind="stage", stage="1/3 lossless", text="timing"))
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer

        return call


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(answer: Any) -> Api:
        fake = Api(answer)
        monkeypatch.setitem(sys.modules, "hasten.api", fake)
        return fake

    return use


@pytest.mark.parametrize(
    ("make", "code"), [(results.met, 0), (results.nothing_faster, 1), (results.undecided, 1)], ids=lambda v: str(v)
)
def test_the_exit_code_is_the_verdict(api: Any, make: Any, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    api(make())
    assert cli.main(["optimize", "m.onnx", "--data", "d.npz"]) == code
    streams = capsys.readouterr()
    assert "1/3 lossless" in streams.err
    assert "Baseline" in streams.out


def test_every_option_reaches_the_api(api: Any) -> None:
    fake = api(results.met())
    text = (
        "optimize m.onnx --data d.npz --max-drop rel:99% --metric auc --output y --labels t --groups g "
        "--state h=h_out --state c=c_out --preprocess imagenet --batch 4 --confidence .9 --time 5m --engine openvino "
        "--engines onnxruntime,torch --served-by openvino --seed 7 --threads 2 --per-tensor --out o --force -q "
        "--objective size --format onnx --columns num=a,b --columns cat=c --lower-is-better "
        "--also auc --unlabelled u --trust --module a.b:f "
        "--signature s --output-kind y=quantity --ignore-output z"
    )
    assert cli.main(text.split()) == 0
    options = dict(fake.options)
    options.pop("listen")
    assert fake.arguments == ("m.onnx", "d.npz")
    assert options == {
        "max_drop": Budget(kind="relative", limit=0.99, confidence=0.9), "metric": "auc", "output": "y", "labels": "t",
        "groups": "g", "state": {"h": "h_out", "c": "c_out"}, "preprocess": "imagenet", "batch": 4, "confidence": 0.9,
        "seconds": 300.0, "engines": ["openvino", "onnxruntime", "torch"],
        "format": "onnx", "trust": True, "module": "a.b:f", "signature": "s",
        "served_by": "openvino", "seed": 7, "threads": 2, "per_tensor": True, "out": "o", "force": True,
        "columns": {"num": ["a", "b"], "cat": ["c"]}, "lower_is_better": True, "also": ("auc",), "unlabelled": "u",
        "objective": "size", "output_kind": {"y": "quantity"}, "ignore_output": ("z",),
    }  # fmt: skip


def test_defaults_are_plain(api: Any) -> None:
    fake = api(results.met())
    cli.main(["optimize", "m.onnx", "--data", "d.npz"])
    assert fake.arguments == ("m.onnx", "d.npz")
    assert {fake.options[k] for k in ("seconds", "state", "engines", "metric", "seed", "threads")} == {None}
    assert fake.options["labels"] == "labels"


def test_json_is_one_object_and_progress_stays_on_stderr(api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    api(results.met())
    assert cli.main(["optimize", "m.onnx", "--data", "d.npz", "--json"]) == 0
    streams = capsys.readouterr()
    told = json.loads(streams.out)
    assert (told.pop("speedup"), told.pop("certified")) == (results.met().speedup, True)
    assert told.pop("certificate") == "guaranteed"
    assert decode(json.dumps(told).encode(), Result) == results.met()
    assert streams.err == "1/3 lossless · timing\n"


COMMANDS: list[tuple[list[str], Any, str]] = [
    (["bench", "a.onnx", "out", "--data", "d.npz"],
     [{"name": "a.onnx", "median_ms": 2.0, "speedup": 1.0, "low": 0.9, "high": 1.1, "pairs": 20}], "a.onnx"),
    (["inspect", "a.onnx"], {"opset": 17}, "opset  17"),
    (["doctor"], {"machine": {"cpu": "Zen 4"}, "engines": [], "noise": None}, "cpu  Zen 4"),
    (["apply", "r.json", "b.onnx", "--data", "d", "--out", "o"],
     {"out": "o", "bytes": 4_260_000, "history": [], "steps": ["clean-up"], "difference": 0.0004, "certified": False},
     "✓ o/  4.26 MB\n  clean-up\n  its outputs are off by 2.0 % of their size"),
    (["verify", "out"], {"ok": True, "checks": [{"name": "files", "ok": True, "text": "match"}]}, "verified"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "answer", "said"), COMMANDS, ids=lambda v: v[0] if isinstance(v, list) else "")
def test_each_command_speaks_text_and_json(
    api: Any, command: list[str], answer: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api(answer)
    assert cli.main(command) == 0
    assert said in capsys.readouterr().out
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema_version"] == 1


def test_what_is_not_checked_exits_with_6(api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check = {"name": "data", "ok": None, "text": "not found", "help": "give it: --data PATH"}
    api({"ok": None, "answer": "not checked", "checks": [check]})
    assert cli.main(["verify", "out", "--model", "m.onnx"]) == 6
    shown = capsys.readouterr().out
    assert "– data: not found" in shown
    assert "help: give it: --data PATH" in shown
    assert "not checked: data" in shown


def test_a_failed_check_exits_with_1(api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    api({"ok": False, "checks": [{"name": "files", "ok": False, "text": "model.onnx changed"}]})
    assert cli.main(["verify", "out"]) == 1
    assert "✗ files: model.onnx changed" in capsys.readouterr().out


WRONG = [
    ("optimise m", "error: no command is called 'optimise'\n  help: did you mean 'optimize'?"),
    (
        "optimize m --data d --max-dorp 1%",
        "error: no option is called '--max-dorp'\n  help: did you mean '--max-drop'?",
    ),
    ("optimize m --data d --metric topp1", "error: no metric is called 'topp1'\n  help: did you mean 'top1'?"),
    ("optimize m --data d --engine openvin", "error: no engine is called 'openvin'\n  help: did you mean 'openvino'?"),
    ("optimize m --data d --max-drop 1", "error: the budget '1' could mean 1 % or 1 as a fraction\n  help: write 1%"),
    ("optimize m --data d --max-drop=-1", "error: cannot read the budget '-1'\n  help: write 1%"),
    ("optimize m --data d --confidence 2", "error: confidence 2.0 is not in [0.5, 1)\n  help: write --confidence 0.95"),
    ("optimize m --data d --time soon", "error: cannot read the time 'soon'\n  help: write --time 30s"),
    ("optimize m --data d --state h", "error: cannot read the state 'h'\n  help: write --state INPUT=OUTPUT"),
    ("optimize", "error: missing argument 'MODEL'\n  help: hasten optimize --help"),
    (
        "optimize m --data d --batch 0",
        "error: invalid value for '--batch': 0 is not in the range x>=1\n  help: hasten optimize",
    ),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[w[0] for w in WRONG])
def test_a_wrong_call_gets_a_sentence_and_exit_2(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(text.split()) == 2
    streams = capsys.readouterr()
    assert streams.err.startswith(said)
    assert streams.out == ""
    assert "Traceback" not in streams.err


FAULTS = [
    (UsageError("u"), 2), (InputError("i", cause="c", help="h"), 3), (EnvironmentFault("e"), 4), (Stopped("s"), 5),
    (MemoryError(), 4), (FileNotFoundError(2, "No such file or directory", "m.onnx"), 3),
    (OSError(28, "No space left on device"), 4), (ZeroDivisionError("bug"), 70), (KeyboardInterrupt(), 130),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "code"), FAULTS, ids=[type(f).__name__ for f, _ in FAULTS])
def test_each_fault_has_its_exit_code_and_no_traceback(
    api: Any, fault: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    api(fault)
    assert cli.main(["optimize", "m.onnx", "--data", "d.npz", "--json"]) == code
    streams = capsys.readouterr()
    assert "Traceback" not in streams.err
    if code != 130:
        assert streams.err.splitlines()[1].startswith("error: ")
        assert json.loads(streams.out)["error"]["exit_code"] == code


def test_debug_shows_the_traceback(api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    api(ZeroDivisionError("bug"))
    assert cli.main(["inspect", "m.onnx", "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_search_that_was_cut_short_exits_with_5_even_when_it_proved_something(api: Any) -> None:
    api(replace(results.met(), stopped=True))
    assert cli.main(["optimize", "m.onnx", "--data", "d.npz"]) == 5


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("30s", 30), ("5m", 300), ("1.5h", 5400), ("0", 0)])
def test_times_are_read_as_people_write_them(text: str, value: float) -> None:
    assert options.seconds(None, None, text) == value


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--version"], *([c, "-h"] for c in cli.cli.commands)])
def test_help_is_always_at_hand(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert "hasten" in capsys.readouterr().out


def test_a_block_goes_to_where_the_result_was_written(
    api: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api(results.met())
    cli.main(["optimize", "m.onnx", "--data", "d.npz", "--out", str(tmp_path)])
    assert "report.html" in capsys.readouterr().out


def test_python_m_hasten_is_the_command(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    api(results.met())
    monkeypatch.setattr(sys, "argv", ["hasten/__main__.py", "optimize", "m.onnx", "--data", "d.npz"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("hasten", run_name="__main__")
    assert ended.value.code == 0
    assert sys.argv[0] == "hasten", "what the manifest of a result goes by"
    command = [sys.executable, "-m", "hasten", "inspect", "nowhere.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no model at ")
