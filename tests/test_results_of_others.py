"""Recipes and result folders may come from anybody: names of code are refused, damage is told, nothing runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hasten import api, read_result, reproduce
from hasten.cli import main
from hasten.errors import InputError, UsageError
from hasten.report import story
from tests import networks, result_folders, results
from tests.reject import rejected

STEP = {"name": "clean", "options": {}}


def recipe(folder: Path, **fields: Any) -> Path:
    path = folder / "recipe.json"
    path.write_text(json.dumps({"steps": [STEP], "engine": "onnxruntime", "settings": {}, **fields}))
    return path


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path that leaves a file when it is imported or called."""
    ran = tmp_path / "ran"
    folder = tmp_path / "lib"
    folder.mkdir()
    body = f"open({str(ran)!r}, 'w')\ndef call(*_, **__): open({str(ran)!r}, 'w')\n"
    (folder / "canary_module.py").write_text(body)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return ran


@pytest.mark.parametrize(
    "fields",
    [
        {"engine": "canary_module.x"},
        {"engine": "canary_module:call"},
        {"steps": [{"name": "canary_module.x:call", "options": {"cmd": ["touch", "ran"]}}]},
        {"steps": [STEP, {"name": "distutils.spawn:spawn", "options": {"cmd": ["touch", "ran"]}}]},
    ],
)
def test_a_recipe_that_names_code_is_refused(tmp_path: Path, canary: Path, fields: dict[str, Any]) -> None:
    path = recipe(tmp_path, **fields)
    with rejected("recipe.json names code", "--trust"):
        read_result.read_recipe(path)
    model = networks.mlp(tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.zeros((4, 16), np.float32))
    arguments = [str(path), str(model), "--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out")]
    assert main(["apply", *arguments]) == 3
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    assert main(["bench", str(tmp_path), "--data", str(tmp_path / "x.npy")]) == 3
    assert not canary.exists()
    assert not (tmp_path / "out").exists()
    assert read_result.read_recipe(path, trust=True).steps


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "truncated"), ("[]", "got `array`"), ("[1]", "got `array`"),
        ('{"steps": []}', "missing required field `engine`"),
        ('{"steps": [{"name": 3}], "engine": "a"}', "Expected `str`"),
        ('{"steps": [], "engine": "onnxruntime", "settings": {"threads": [[]]}}', "Expected"),
        ('{"steps": [], "engine": "onnxruntime", "batch": 0}', "Expected `int` >= 1"),
        ("!!python/object/apply:os.system ['touch ran']", "malformed"), ("\xff\xfe", "malformed"),
        ('{"a": ' + "[" * 100_000, "recursion"),
    ],
)  # fmt: skip
def test_a_recipe_that_is_none_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_bytes(text.encode("latin-1"))
    with rejected("is not a recipe", "use the recipe.json of a result", said, kind=UsageError):
        read_result.read_recipe(path)


def test_names_that_nobody_registered_are_suggested(tmp_path: Path) -> None:
    with rejected("names no engine", "did you mean 'openvino'?", kind=UsageError):
        read_result.read_recipe(recipe(tmp_path, engine="openvin"))
    with rejected("names no pass", "did you mean 'quantize'?", kind=UsageError):
        read_result.read_recipe(recipe(tmp_path, steps=[{"name": "quantise"}]))


@pytest.mark.parametrize(
    "question", [{"metric": "canary_module:call"}, {"served_by": "canary_module.x"}, {"module": "canary_module:call"}]
)
def test_a_manifest_that_names_code_is_refused(tmp_path: Path, canary: Path, question: dict[str, Any]) -> None:
    out = result_folders.write(tmp_path, **{"metric_by": "name", **question})
    with pytest.raises(InputError, match="code") as told:
        api.verify(out)
    assert "trust=True" in told.value.help
    assert not canary.exists()


def test_a_manifest_of_another_version_is_told(tmp_path: Path) -> None:
    out = result_folders.write(tmp_path)
    result_folders.edit(out, "manifest.json", lambda m: m["question"].update(colour="red"))
    with rejected("by this version of hasten", "unknown field `question.colour`", kind=UsageError):
        api.verify(out)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"files": ["a"]}', '{"files": {"a": 1}}', '{"question": 7}', "\0", "[" * 100_000]
)
def test_a_manifest_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with rejected("is not a result of optimize", kind=UsageError):
        api.verify(tmp_path)


def test_a_damaged_report_is_told(tmp_path: Path) -> None:
    out = result_folders.write(tmp_path)
    (out / "report.json").write_text('{"model": 3}')
    result_folders.listed(out)
    with pytest.raises(UsageError, match="is no report of this version"):
        api.verify(out)


@pytest.mark.parametrize(
    "name", ["../m.onnx", "/etc/hostname", "/dev/zero", "/proc/self/mem", "a/../../m.onnx", "C:\\x"]
)
def test_a_manifest_reads_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    out = result_folders.write(tmp_path)
    result_folders.edit(out, "manifest.json", lambda m: m["files"].update({name: "0" * 64}))
    with rejected("lists the file", "must be relative and lie inside the folder"):
        api.verify(out)


def test_a_busy_machine_is_told_beside_the_speed_it_found() -> None:
    result = results.met()
    now, wide = replace(result.noise, low=0.8, high=1.4), replace(results.timing(5.5), low=4.07, high=9.45)
    told = reproduce.speed(result, replace(wide, flags=("load average 5.3 on 2 cores",)), now)
    assert told.ok
    claimed, then = f"claimed {result.speedup:.2f}× [2.98, 3.06]; more than claimed", story.noise(result)
    assert told.text == (
        f"5.50× [4.07, 9.45], {claimed}; noise ±40.0 %, {then} in the search; the machine is busier now; "
        "load average 5.3 on 2 cores"
    )
    calm = reproduce.speed(result, replace(wide, flags=()), result.noise)
    assert calm.text == f"5.50× [4.07, 9.45], {claimed}; noise {then}, {then} in the search"
