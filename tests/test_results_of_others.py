"""Recipes and result folders may come from anybody: names of code are refused, damage is told, nothing runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hasten import api, claims, replay
from hasten.cli import main
from hasten.errors import InputError, UsageError
from hasten.model import file_digest
from hasten.report import story
from hasten.trial import encode
from tests import networks, results
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
        replay.read_recipe(path)
    model = networks.mlp(tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.zeros((4, 16), np.float32))
    arguments = [str(path), str(model), "--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out")]
    assert main(["apply", *arguments]) == 3
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    assert main(["bench", str(tmp_path), "--data", str(tmp_path / "x.npy")]) == 3
    assert not canary.exists()
    assert not (tmp_path / "out").exists()
    assert replay.read_recipe(path, trust=True)["steps"]


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
        replay.read_recipe(path)


def test_names_that_nobody_registered_are_suggested(tmp_path: Path) -> None:
    with rejected("names no engine", "did you mean 'openvino'?", kind=UsageError):
        replay.read_recipe(recipe(tmp_path, engine="openvin"))
    with rejected("names no pass", "did you mean 'quantize'?", kind=UsageError):
        replay.read_recipe(recipe(tmp_path, steps=[{"name": "quantise"}]))


def manifest(folder: Path, **question: Any) -> Path:
    """A result folder whose digests agree, as somebody who means harm would write it."""
    out = folder / "out"
    out.mkdir()
    model = networks.mlp(folder / "m.onnx")
    report = json.loads(encode(results.met())) | {"model_sha256": file_digest(model)}
    (out / "report.json").write_text(json.dumps(report))
    asked = {"model": str(model), "data": str(folder / "x.npy"), **question}
    body = {"files": {"report.json": file_digest(out / "report.json")}, "question": asked}
    (out / "manifest.json").write_text(json.dumps(body))
    np.save(folder / "x.npy", np.zeros((40, 16), np.float32))
    return out


@pytest.mark.parametrize(
    "question", [{"metric": "canary_module:call"}, {"served_by": "canary_module.x"}, {"module": "canary_module:call"}]
)
def test_a_manifest_that_names_code_is_refused(tmp_path: Path, canary: Path, question: dict[str, str]) -> None:
    out = manifest(tmp_path, **question)
    with pytest.raises(InputError, match="code") as told:
        api.verify(out)
    assert "--trust" in told.value.help
    assert not canary.exists()


def test_a_manifest_of_another_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another version of hasten"):
        api.verify(manifest(tmp_path, colour="red"))


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"files": ["a"]}', '{"files": {"a": 1}}', '{"question": 7}', "\0", "[" * 100_000]
)
def test_a_manifest_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with rejected("is not a result of optimize", kind=UsageError):
        api.verify(tmp_path)


def test_a_damaged_report_is_told(tmp_path: Path) -> None:
    out = manifest(tmp_path)
    (out / "report.json").write_text('{"model": 3}')
    body = json.loads((out / "manifest.json").read_text())
    body["files"] = {"report.json": file_digest(out / "report.json")}
    (out / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(UsageError, match="is no report of this version"):
        api.verify(out)


@pytest.mark.parametrize("name", ["../m.onnx", "/etc/hostname", "/dev/zero", "/proc/self/mem"])
def test_a_manifest_reads_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    out = manifest(tmp_path)
    body = json.loads((out / "manifest.json").read_text())
    body["files"][name] = "0" * 64
    (out / "manifest.json").write_text(json.dumps(body))
    checked = api.verify(out)
    assert checked["ok"] is False
    assert name in checked["checks"][0]["text"]


def test_a_busy_machine_is_told_beside_the_speed_it_found() -> None:
    result = results.met()
    now, wide = replace(result.noise, low=0.8, high=1.4), replace(results.timing(5.5), low=4.07, high=9.45)
    told = claims._speed(result, replace(wide, flags=("load average 5.3 on 2 cores",)), now)
    assert told["ok"]
    claimed, then = f"claimed {result.speedup:.2f}×", story.noise(result)
    assert told["text"] == (
        f"5.50× [4.07, 9.45], {claimed}; noise ±40.0 %, {then} in the search; the machine is busier now; "
        "load average 5.3 on 2 cores"
    )
    calm = claims._speed(result, replace(wide, flags=()), result.noise)
    assert calm["text"] == f"5.50× [4.07, 9.45], {claimed}; noise {then}, {then} in the search"
