"""The first things that people type: budgets, names, times; what they see; and what a program reads."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import hasten
from hasten import asked, cli, console, extras, keywords, registry, schema, trial
from hasten.budget import parse_budget
from hasten.errors import UsageError
from hasten.model import TensorSpec
from hasten.protocols import Event
from hasten.samples import load_samples
from hasten.search.own_paths import without_folder
from tests import networks, results
from tests.reject import rejected

BUDGETS: list[tuple[Any, str]] = [
    ("1%", "1%"), ("1 %", "1%"), ("1\u00a0%", "1%"), ("1.00 points", "1%"), ("1 point", "1%"), ("1pp", "1%"),
    ("0.5 pt", "0.5%"), (".5%", "0.5%"), ("2 percent", "2%"), ("REL:99 %", "rel:99%"), ("agree: 99.5%", "agree:99.5%"),
    ("rel:0.99", "rel:99%"), (0.01, "1%"), (np.float32(0.01), "1%"), (np.float64(0.005), "0.5%"),
    (Fraction(1, 100), "1%"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "meant"), BUDGETS, ids=[repr(w) for w, _ in BUDGETS])
def test_budgets_are_read_as_people_write_them(written: Any, meant: str) -> None:
    assert str(parse_budget(written)) == meant


WRONG_BUDGETS: list[tuple[Any, str]] = [
    (1, 'write "1%" or 0.01'), (np.int64(2), 'write "2%" or 0.02'), (2.5, 'write "2.5%" or 0.025'), (150, "write 1%"),
    (0, "outside 0 to 100 %"), (-0.01, "outside"), (float("nan"), "outside"), (True, "cannot be a bool"),
    (None, "cannot be a NoneType"), ([0.01], "cannot be a list"), ("0,5%", "write 0.5%"), ("0,01", "write 0.01"),
    ("1", "could mean"), ("rel:1%", "write rel:99%"), ("agree:2%", "write agree:98%"), ("one", "write 1%"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "told"), WRONG_BUDGETS, ids=[repr(w) for w, _ in WRONG_BUDGETS])
def test_budgets_with_two_readings_are_refused_with_the_right_spelling(written: Any, told: str) -> None:
    with rejected(told, kind=UsageError):
        parse_budget(written)


def test_engines_come_as_text_with_commas_or_as_a_list() -> None:
    wanted = ["openvino", "onnxruntime"]
    for given in ("openvino,onnxruntime", "openvino, onnxruntime", wanted, tuple(wanted), ["openvino,onnxruntime"]):
        assert registry.several("engines", given) == wanted
    assert registry.several("engines", None) is None
    assert registry.several("engines", "") is None
    with rejected("did you mean 'openvino'?", kind=UsageError):
        registry.several("engines", "openvin")
    for strange in (5, [5], [None]):
        with rejected("cannot be", kind=UsageError):
            registry.several("engines", strange)  # type: ignore[arg-type]


def test_a_name_in_python_reaches_the_search(tmp_path: Path) -> None:
    model = networks.mlp(tmp_path / "mlp.onnx")
    with rejected("no engine is called 'openvin'", kind=UsageError):
        hasten.optimize(model, None, engines="openvin")
    with rejected("no engine is called 'openvin'", kind=UsageError):
        hasten.inspect(model, {"x": np.zeros((4, 16), np.float32)}, engines="openvin")


@pytest.mark.parametrize(("written", "meant"), [("30s", 30), ("5m", 300), (90, 90), (1.5, 1.5), ("1h", 3600)])
def test_times_in_python_are_those_of_the_command_line(written: Any, meant: float) -> None:
    assert asked.seconds(written) == meant


@pytest.mark.parametrize("wrong", ["soon", -1, float("nan"), float("inf"), True, []], ids=repr)
def test_a_time_that_is_none_is_refused(wrong: Any) -> None:
    with rejected("cannot read the time", kind=UsageError):
        asked.seconds(wrong)


def test_an_explicit_batch_of_one_is_kept() -> None:
    assert asked.batch(None, "throughput") == asked.BATCH > 1
    assert asked.batch(1, "throughput") == 1
    assert asked.batch(None, "latency") == 1
    for wrong in (0, -1, 1.5, True, "4"):
        with rejected("--batch", kind=UsageError):
            asked.batch(wrong, "latency")  # type: ignore[arg-type]


def test_python_callers_are_told_keywords_and_the_command_line_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = networks.mlp(tmp_path / "mlp.onnx")
    with pytest.raises(UsageError) as caught:
        hasten.optimize(model, None, confidence=95)
    assert "write confidence=0.95" in str(caught.value)
    assert cli.main(["optimize", str(model), "--confidence", "95"]) == 2
    assert "write --confidence 0.95" in capsys.readouterr().err
    with pytest.raises(UsageError) as again:
        hasten.optimize(model, None, confidence=95)
    assert "write confidence=0.95" in str(again.value), "the words of one call do not stay for the next"


SPOKEN = [
    ("name a folder: --out out", "name a folder: out='out'"),
    ("add --force", "add force=True"),
    ("--state h=h_out --state c=c_out", "state={'h': 'h_out'} state={'c': 'c_out'}"),
    ("name another engine: --served-by", "name another engine: served_by="),
    ("write --time 30s, or --batch 4.", "write seconds='30s', or batch=4."),
    ("write --max-drop agree:99%, which needs none", "write max_drop='agree:99%', which needs none"),
    ("pip install x --upgrade", "pip install x --upgrade"),
]


@pytest.mark.parametrize(("option", "keyword"), SPOKEN, ids=[o for o, _ in SPOKEN])
def test_options_become_keywords(option: str, keyword: str) -> None:
    assert keywords.in_keywords(option) == keyword


def test_json_tells_the_speed_up_and_the_proof(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    class Api:
        @staticmethod
        def optimize(*_: Any, **__: Any) -> trial.Result:
            return results.met()

    monkeypatch.setitem(sys.modules, "hasten.api", Api)
    assert cli.main(["optimize", "m.onnx", "--data", "d.npz", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["speedup"] == pytest.approx(results.met().speedup)
    assert told["certified"] is True
    assert told["verdict"] == "met"
    fits(told, schema.schema("optimize"))


def fits(value: Any, rule: dict[str, Any], root: dict[str, Any] | None = None) -> None:
    """As much of JSON schema as the schemas of hasten use."""
    root = root or rule
    if "$ref" in rule:
        return fits(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root)
    if "anyOf" in rule:
        kinds = [r for r in rule["anyOf"] if r.get("type") != "null"] if value is not None else []
        assert kinds or any(r.get("type") == "null" for r in rule["anyOf"]), value
        return fits(value, kinds[0], root) if len(kinds) == 1 else None
    types = rule.get("type", [])
    kinds = [types] if isinstance(types, str) else types
    names: dict[str, Any] = {"object": dict, "array": list, "string": str, "number": (int, float)}
    names |= {"integer": int, "boolean": bool}
    assert not kinds or isinstance(value, tuple(names[k] for k in kinds if k != "null")) or (
        value is None and "null" in kinds
    ), (value, rule)  # fmt: skip
    assert "enum" not in rule or value in rule["enum"]
    if isinstance(value, dict):
        assert not set(rule.get("required", ())) - set(value), set(rule["required"]) - set(value)
        assert "properties" not in rule or not set(value) - set(rule["properties"]), set(value) - set(
            rule["properties"]
        )
        for name, inner in rule.get("properties", {}).items():
            if name in value:
                fits(value[name], inner, root)
    if isinstance(value, list) and isinstance(rule.get("items"), dict):
        for one in value:
            fits(one, rule["items"], root)
    return None


def test_what_the_commands_write_fits_their_schemas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = networks.mlp(tmp_path / "mlp.onnx"), tmp_path / "samples.npz"
    np.savez(data, x=np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32))
    commands = {
        "doctor": ["doctor"], "inspect": ["inspect", str(model)], "error": ["inspect", str(tmp_path / "no.onnx")],
        "bench": ["bench", str(model), str(model), "--data", str(data), "--pairs", "6"],
    }  # fmt: skip
    for name, command in commands.items():
        assert (cli.main([*command, "--json"]) == 0) is (name != "error")
        streams = capsys.readouterr()
        fits(json.loads(streams.out), schema.schema(name))
        if name == "doctor":
            assert streams.err.count("starting ") == len(registry.names("engines")), "no silence while engines start"


@pytest.mark.parametrize("command", schema.OUTPUTS)
def test_schemas_are_printed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", command]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(msgspec.json.encode(schema.schema(command)))


def test_numbers_that_are_none_are_null_in_json_and_in_the_schema() -> None:
    result = results.met()
    quality = result.winner.confirm
    assert quality is not None
    odd = replace(result, winner=replace(result.winner, confirm=replace(quality, upper=float("inf"))))
    fits(json.loads(trial.encode(trial.summary(odd))), schema.schema("optimize"))


@pytest.mark.parametrize(
    ("make", "said"),
    [(results.met, "met; faster"), (results.nothing_faster, "nothing faster;"), (results.undecided, "undecided;")],
)
def test_the_last_line_tells_the_two_verdicts_of_exit_code_1_apart(make: Any, said: str, tmp_path: Path) -> None:
    stream = io.StringIO()
    console.show(console.result_block(make(), tmp_path), stream)
    last = " ".join(stream.getvalue().split("\n\n")[-1].split())  # it may wrap
    assert f"Verdict: {said}" in last


class Terminal(io.StringIO):
    """A stream that a person watches, or not."""

    def __init__(self, watched: bool) -> None:
        super().__init__()
        self.watched = watched

    def isatty(self) -> bool:
        return self.watched


EVENT = Event(kind="stage", stage="1/3 lossless", text="timing")


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("progress", [None, True, False])
@pytest.mark.parametrize("listening", [True, False])
def test_python_draws_progress_where_a_person_watches_and_nothing_listens(
    watched: bool, progress: bool | None, listening: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, heard = Terminal(watched), list[Event]()
    monkeypatch.setattr(sys, "stderr", stream)
    with console.listening(heard.append if listening else None, progress) as listen:
        listen(EVENT)
    drawn = progress if progress is not None else watched and not listening
    assert ("1/3 lossless" in stream.getvalue()) is drawn
    assert heard == ([EVENT] if listening else [])


SOURCE = Path(hasten.__file__).parent
OF_OTHERS = {"--graphdef", "--include", "--inputs", "--model_dir", "--output", "--outputs", "--save_file", "--tflite"}
OF_OTHERS |= {"--upgrade", "--help", "--version", "--model", "--save"}
ANYWHERE = ("samples", "frontends", "safety")  # their messages reach every command that reads a network and samples


def messages(file: Path) -> list[str]:
    """The texts in a module that are no docstrings."""
    tree = ast.parse(file.read_text())
    said = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    constants = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in said]
    return [n.value for n in constants if isinstance(n.value, str)]


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda f: str(f.relative_to(SOURCE)))
def test_every_option_that_a_message_names_exists(file: Path) -> None:
    own = {name: {o for p in command.params for o in p.opts} for name, command in cli.cli.commands.items()}
    named = {o for text in messages(file) for o in re.findall(r"(?<![\w-])--[a-z][a-z_-]*[a-z]", text)} - OF_OTHERS
    assert named <= set().union(*own.values()), file
    if file.relative_to(SOURCE).parts[0] in ANYWHERE:
        for command in ("optimize", "inspect", "bench", "apply"):
            assert named <= own[command], (command, named - own[command])


def test_pip_lines_fit_how_hasten_was_installed(tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    told = {"url": clone.as_uri(), "dir_info": {"editable": True}}
    assert extras.line(json.dumps(told), ("torch",)) == f"pip install -e '{clone}[torch]'"
    assert extras.line(None, ("torch", "keras")) == "pip install 'hasten[torch,keras]'"
    vcs = {"url": "https://x/y.git", "vcs_info": {"vcs": "git"}}
    assert extras.line(json.dumps(vcs), ("a",)) == "pip install 'hasten[a] @ git+https://x/y.git'"
    gone = {"url": (tmp_path / "gone").as_uri(), "dir_info": {}}
    assert extras.line(json.dumps(gone), ("a",)) == "pip install '.[a]' in a clone of hasten"
    for strange in ("", "{", "[]", '{"url": 5}', "null"):
        assert extras.line(strange, ("a",)).startswith("pip install ")


def test_messages_name_the_users_files_and_never_a_copy(tmp_path: Path) -> None:
    folder, own = Path("/nowhere/hasten-run-x"), Path("my nets/net one.onnx")
    text = f"Load model from {folder}/stage/net one.onnx failed; see {folder}/artefacts/ab/model.xml and {folder}"
    assert without_folder(text, folder, [own]) == (
        "Load model from my nets/net one.onnx failed; see model.xml and the run's folder"
    )
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x09\x12\x04abcd" + bytes(range(64)))
    for call in (hasten.inspect, hasten.optimize):
        with pytest.raises(hasten.HastenError) as told:
            call(broken)
        assert str(broken) in str(told.value)
        assert "hasten-run" not in str(told.value)


def test_the_folder_of_one_file_is_read_as_that_file(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(0, 1, (7, 3)).astype(np.float32)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "samples.npz", x=x, labels=np.arange(7))
    (tmp_path / "data" / "README.txt").write_text("about the samples")
    store = load_samples(tmp_path / "data").spool(tmp_path / "store", (TensorSpec("x", ("N", 3), "float32"),))
    assert len(store) == 7
    assert store.labels is not None
    assert [store.labels[i] for i in range(7)] == list(range(7))
    assert np.array_equal(store.sample(2)["x"], x[2:3])


def test_a_deleted_current_folder_is_named(tmp_path: Path) -> None:
    network = networks.mlp(tmp_path / "mlp.onnx")
    code = """
import os, sys
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
import hasten.cli
sys.argv = ["hasten", *sys.argv[1:]]
hasten.cli.run()
"""
    for line in (["inspect", str(network)], ["optimize", str(network), "--data", "x.npz", "--out", "out"]):
        done = subprocess.run([sys.executable, "-c", code, *line], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert "error: the current folder was deleted" in done.stderr
        assert "help: change to another folder" in done.stderr


def test_a_wrong_label_is_named_with_its_sample(tmp_path: Path) -> None:
    model = networks.mlp(tmp_path / "mlp.onnx")
    x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    labels = networks.answers(model, x).argmax(1)
    labels[7] = 99
    with pytest.raises(hasten.HastenError, match=r"sample 7: label 99 is outside .* 10 classes \(0 to 9\)\n"):
        hasten.optimize(model, {"x": x, "labels": labels}, seconds=0)


def test_without_data_nobody_speaks_of_a_metric_or_a_budget(tmp_path: Path) -> None:
    model = networks.mlp(tmp_path / "mlp.onnx")
    told: list[str] = []
    quick = "tests.engines.brisk"
    result = hasten.optimize(model, None, seconds=0, engines=[quick], listen=lambda event: told.append(event.text))
    text = io.StringIO()
    console.show(console.result_block(result), text)
    for said in (*told, text.getvalue(), result.sentence):
        assert not re.search(r"agreement|budget|inside 1|confidence", said), said
