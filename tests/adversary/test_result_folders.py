"""Result folders of strangers: nothing that they say runs, hangs, leads outside, or is called verified unchecked."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import inf, isnan
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnx
import pytest

import hasten
from hasten import result_files
from hasten.cli import main
from hasten.errors import InputError, UsageError
from hasten.frontends.artefact import checked
from hasten.journal import Journal, line
from hasten.machine import machine
from hasten.model import file_digest
from hasten.read_result import read_recipe, served
from hasten.reproduce import versions
from hasten.result_files import NAMES, read_manifest, read_report, read_timings
from hasten.safety.openvino_ir import check_ir
from hasten.trial import Result, decode, encode, plain
from tests import networks, results
from tests.reject import rejected
from tests.result_folders import edit, listed, write

SECONDS = 20
CODES = {1, 2, 3, 4, 6}  # 0 is for what was verified, and nothing here may be
HOSTILE: list[Any] = [
    "/etc/passwd", "../../x", "canary_module:call", "canary_module.x", "http://127.0.0.1:9/x", "", "\0", "\u202e" * 9,
    "x" * 300_000, 10**18, 10**40, -1, 0, 1.5, 1e308, True, None, [], {}, [[[[[[]]]]]], {"a": {"b": 1}}, ["/dev/zero"],
    json.loads("[" * 60 + "]" * 60),
]  # fmt: skip


@contextmanager
def within(seconds: int = SECONDS) -> Iterator[None]:
    """Fail where the block takes longer: a FIFO, a device or a bomb would hold the parent up."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path that leaves a file when it is imported or called."""
    ran, folder = tmp_path / "ran", tmp_path / "lib"
    folder.mkdir()
    body = f"open({str(ran)!r}, 'w')\ndef call(*_, **__): open({str(ran)!r}, 'w')\n"
    (folder / "canary_module.py").write_text(body)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return ran


def fifo(place: Path) -> None:
    os.mkfifo(place)


def link(place: Path) -> None:
    place.symlink_to("/etc/hostname")


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def folder(place: Path) -> None:
    place.mkdir()


def listening(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(place.parent)  # the path of a socket is short
        try:
            one.bind(place.name)
        finally:
            os.chdir(here)


def sparse(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(2 << 30)


@pytest.mark.parametrize("made", [fifo, link, device, folder, listening, sparse])
@pytest.mark.parametrize("name", ["manifest.json", "recipe.json", "report.json", "timings.npz", "model.onnx"])
def test_what_is_no_small_regular_file_is_refused_at_once(
    tmp_path: Path, name: str, made: Callable[[Path], None]
) -> None:
    out = write(tmp_path)
    (out / name).unlink()
    made(out / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with within():
        verified = main(["verify", str(out), "--json"])
        benched = (
            3
            if name in ("report.json", "timings.npz")  # it does not read them
            else main(["bench", str(out), "--data", str(tmp_path / "x.npy"), "--pairs", "1"])
        )
        applied = main(
            ["apply", str(out / "recipe.json"), str(tmp_path / "m.onnx"), "--data", str(tmp_path / "x.npy"),
             "--out", str(tmp_path / "again")]
        ) if name == "recipe.json" else 3  # fmt: skip
    assert verified == (1 if made is sparse and name == "model.onnx" else 3), "a network of another size is not read"
    assert benched == 3
    assert applied == 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kilobytes"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all fields below ``value``; of lists, the first entry."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, below in entries:
        yield (*path, key)
        yield from places(below, (*path, key))


def put(body: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        body = body[key]
    body[path[-1]] = value


@pytest.mark.parametrize("name", ["manifest.json", "recipe.json", "report.json"])
def test_no_field_with_a_hostile_value_runs_hangs_or_is_a_fault_of_ours(
    tmp_path: Path, name: str, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write(tmp_path, data=str(tmp_path / "moved.npy"))
    whole = (out / name).read_bytes()
    rest = (out / "manifest.json").read_bytes()
    draw = random.Random(3)
    for path in [p for p in places(json.loads(whole)) if p[0] not in ("plans", "tuned", "as_given")]:
        for value in draw.sample(HOSTILE, 1 if name == "report.json" else 2):
            (out / name).write_bytes(whole)
            (out / "manifest.json").write_bytes(whole if name == "manifest.json" else rest)
            edit(out, name, partial(put, path=path, value=value))
            with within():
                code = main(["verify", str(out)])
            assert code in CODES, (path, value, capsys.readouterr())
            shown = capsys.readouterr()
            assert "not checked:" in shown.out or "failed:" in shown.out or "error: " in shown.err
    assert not canary.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{}", "missing required field"),
        (b'{"colour": 1}', "missing required field"),
        (b"[" * 900, "nests too deep"),
        (b"[" * 100_000, "nests too deep"),
        (b"[" + b"[]," * 3_000_000 + b"[]]", "holds more than"),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON"),
        (b'"\xff\xfe"', "malformed"),
        (b"\x80\x04\x95cos\nsystem\n.", "malformed"),
    ],
)
def test_json_that_is_none_of_ours_is_told(tmp_path: Path, text: bytes, said: str) -> None:
    for name, read in (("manifest.json", read_manifest), ("report.json", read_report)):
        (tmp_path / name).write_bytes(text)
        with within(), rejected(f"{tmp_path}", name, kind=UsageError):
            read(tmp_path)
    (tmp_path / "recipe.json").write_bytes(text)
    with within(), rejected("is not a recipe", kind=UsageError):
        read_recipe(tmp_path / "recipe.json")


@pytest.mark.parametrize("field", ["colour", "trust", "module"])
def test_an_unknown_field_is_named(tmp_path: Path, field: str) -> None:
    out = write(tmp_path)
    for name, read in (("manifest.json", read_manifest), ("report.json", read_report)):
        edit(out, name, lambda body: body.update({field: True}), listed=False)
        with rejected(f"unknown field `{field}`", kind=UsageError):
            read(out)
    edit(out, "recipe.json", lambda body: body["steps"][0].update({field: True}))
    with rejected(f"unknown field `steps[0].{field}`", kind=UsageError):
        read_recipe(out / "recipe.json")


@pytest.mark.parametrize(
    ("engine", "settings", "said"),
    [
        ("keras", {"trust": True}, "asks for trust"),
        ("keras", {"trust": True, "module": "canary_module"}, "asks for trust"),
        ("keras", {"backend": "canary_module"}, "'tensorflow', 'torch'"),
        ("torch", {"library": "/nowhere/evil.so"}, "does not take from a file"),
        ("torch", {"threads": 10**9}, "from 1 to 4096"),
        ("onnxruntime", {"custom_ops": "/nowhere/evil.so"}, "does not take from a file"),
        ("onnxruntime", {"threads": "2"}, "a whole number"),
        ("onnxruntime", {"threads": True}, "a whole number"),
        ("onnxruntime", {"spinning": 1}, "one of True, False"),
        ("openvino", {"precision": "f64"}, "'f32', 'bf16', 'f16'"),
        ("openvino", {"sizes": '{"x": [1000000, 1000000, 1000000]}'}, "beyond all memory"),
        ("openvino", {"EXTENSIONS": "/nowhere/evil.so"}, "does not take from a file"),
        ("litert", {"delegate": "/nowhere/evil.so"}, "does not take from a file"),
        ("tensorflow", {"signature": "x" * 5000}, "a short text"),
    ],
)
def test_only_settings_that_an_engine_declares_pass(
    tmp_path: Path, canary: Path, engine: str, settings: dict[str, Any], said: str
) -> None:
    out = write(tmp_path)
    edit(out, "recipe.json", lambda body: body.update(engine=engine, settings=settings))
    for call in (
        lambda: read_recipe(out / "recipe.json"),
        lambda: hasten.verify(out),
        lambda: hasten.bench([out], tmp_path / "x.npy"),
        lambda: hasten.apply(out / "recipe.json", tmp_path / "m.onnx", tmp_path / "x.npy", out=tmp_path / "again"),
    ):
        with rejected(said):
            call()
    assert not canary.exists()
    assert not (tmp_path / "again").exists()


def test_a_compiled_library_is_loaded_with_trust_only(tmp_path: Path) -> None:
    package = tmp_path / "model.pt2"
    package.write_bytes(b"PK\x03\x04 a library")
    with rejected("holds native code", "--trust"):
        checked("torch", str(package), str(tmp_path / "a"), {"compile": True}, trust=False)
    assert checked("torch", str(package), str(tmp_path / "b"), {"compile": True}, trust=True) == str(package)
    with rejected("damaged archive"):
        checked("torch", str(package), str(tmp_path / "c"), {}, trust=False)


IR = """<?xml version="1.0"?>{head}<net name="n" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,4" element_type="f32"/></layer>
<layer id="1" name="w" type="Const" version="{version}">
<data element_type="f32" shape="4" offset="{at}" size="16"/></layer>
</layers><rt_info><info name="{note}" value="/etc/passwd"/></rt_info></net>"""
BOMB = '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE net SYSTEM "file:///etc/passwd">'


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"head": BOMB}, "defines entities or a document type"),
        ({"head": OUTSIDE}, "defines entities or a document type"),
        ({"version": "extension"}, "in none of OpenVINO's public sets"),
        ({"version": "evil"}, "in none of OpenVINO's public sets"),
        ({"at": "8"}, "bytes 8 to 24 of 16"),
        ({"at": "999999999999999999"}, "of 16 in its .bin"),
        ({"note": "__weights_path"}, "may lead to other files"),
    ],
)
def test_a_network_of_openvino_only_computes(tmp_path: Path, fields: dict[str, str], said: str) -> None:
    path = tmp_path / "model.xml"
    path.with_suffix(".bin").write_bytes(bytes(16))
    plain_one = {"head": "", "version": "opset1", "at": "0", "note": "made"}
    path.write_text(IR.format(**plain_one))
    check_ir(path)
    path.write_text(IR.format(**{**plain_one, **fields}))
    with rejected(said):
        check_ir(path)
    with rejected(said):
        hasten.bench([path], {"x": np.zeros((2, 4), np.float32)})


def test_weights_outside_the_folder_are_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 16))
    out = write(tmp_path)
    model = onnx.load(out / "model.onnx")
    onnx.save(model, out / "model.onnx", save_as_external_data=True, location="w", size_threshold=0)
    for location in ("../secret", str(secret), "w"):
        graph = onnx.load(out / "model.onnx", load_external_data=False)
        for tensor in graph.graph.initializer:
            tensor.external_data[0].value = location
        (out / "model.onnx").write_bytes(graph.SerializeToString())
        shutil.copy(secret, out / "w")
        listed(out)
        edit(out, "manifest.json", lambda manifest: manifest["files"].pop("w"))  # on disk, not listed: not copied
        with rejected("tensor 'w1' in graph"):
            hasten.bench([out], tmp_path / "x.npy")


def test_the_network_that_is_judged_is_the_one_that_the_manifest_lists(tmp_path: Path) -> None:
    out = write(tmp_path)
    networks.mlp(out / "model.aaa.onnx", seed=7)
    shutil.copy(tmp_path / "m.onnx", out / "model")
    told = served(out, tmp_path / "work")
    assert file_digest(told.path) == file_digest(out / "model.onnx")
    assert told.path != out / "model.onnx", "what was checked is what is run"
    report = hasten.verify(out, tmp_path / "nowhere.npy")
    assert (report["answer"], report["ok"]) == ("not checked", None)
    assert "does not list model" in next(c for c in report["checks"] if c["name"] == "listing")["text"]


def test_a_readme_beside_the_result_is_no_failure(tmp_path: Path) -> None:
    out = write(tmp_path)
    (out / "README.md").write_text("mine")
    found = {c["name"]: c for c in hasten.verify(out, tmp_path / "moved.npy")["checks"]}
    assert found["listing"]["ok"] is True
    assert found["listing"]["text"] == "not listed, and left alone: README.md"


@pytest.mark.parametrize("name", sorted({*NAMES} - {"manifest.json", "report.html", "example.py", "evidence.json"}))
def test_a_manifest_without_a_line_is_never_verified(tmp_path: Path, name: str) -> None:
    out = write(tmp_path)
    edit(out, "manifest.json", lambda manifest: manifest["files"].pop(name))
    report = hasten.verify(out)
    assert report["answer"] == "failed"
    assert f"does not list {name}" in report["checks"][1]["text"]


def test_a_manifest_without_its_network_is_refused(tmp_path: Path) -> None:
    out = write(tmp_path)
    for change in (
        lambda manifest: manifest["files"].pop("model.onnx"),
        lambda manifest: manifest.update(files={}),
        lambda manifest: manifest.update(network="recipe.json"),
        lambda manifest: manifest.update(network="../m.onnx"),
    ):
        body = (out / "manifest.json").read_bytes()
        edit(out, "manifest.json", change)
        with rejected("lists no network", kind=UsageError):
            hasten.verify(out)
        (out / "manifest.json").write_bytes(body)


def test_files_that_disagree_fail(tmp_path: Path) -> None:
    for name, change, said in (
        ("recipe.json", lambda body: body["settings"].update(threads=2), "the settings"),
        ("recipe.json", lambda body: body["steps"].pop(), "the steps"),
        ("report.json", lambda body: body.update(data_sha256="0" * 64), "the data"),
        ("report.json", lambda body: body.update(verdict="undecided"), "the verdict"),
        ("report.json", lambda body: body.update(budget="99%"), "the budget"),
        ("report.json", lambda body: body["winner"]["timing"].update(speedup=9.0), "9.000× is claimed"),
        ("report.json", lambda body: body["winner"]["timing"].update(log_ratios=[3.0] * 40), "does not hold the pairs"),
    ):
        out = write(tmp_path)
        edit(out, name, change)
        assert main(["verify", str(out)]) == 1
        failed = [c["text"] for c in hasten.verify(out)["checks"] if c["ok"] is False]
        assert said in failed[0]


@pytest.mark.parametrize(
    ("asked", "given", "said", "help_text"),
    [
        ({"model": None}, {}, "the network was an object", "--model"),
        ({"model": "/nowhere/m.onnx"}, {}, "the original network is not at /nowhere/m.onnx", "--model"),
        ({"model": "/dev/zero"}, {}, "is not at /dev/zero", "--model"),
        ({"model": "/proc/kcore"}, {}, "is not at /proc/kcore", "--model"),
        ({"model": "/"}, {}, "is not at /", "--model"),
        ({"data": None}, {}, "the data was an object", "--data"),
        ({"data": "/dev/zero"}, {}, "the data is not at /dev/zero", "--data"),
        ({"metric_by": "function"}, {}, "the metric 'top1' was a Python function", "--metric"),
        ({}, {"model": "other.onnx"}, "is not the network of this result", "--model"),
        ({}, {"data": "other.npy"}, "these are not the samples of this result", "--data"),
    ],
)
def test_what_could_not_be_checked_is_never_verified(
    tmp_path: Path, asked: dict[str, Any], given: dict[str, str], said: str, help_text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = write(tmp_path, **asked)
    networks.mlp(tmp_path / "other.onnx", seed=9)
    np.save(tmp_path / "other.npy", np.ones((40, 16), np.float32))
    options = [word for name, value in given.items() for word in (f"--{name}", str(tmp_path / value))]
    with within(60):
        assert main(["verify", str(out), *options]) == 6
    shown = " ".join(capsys.readouterr().out.split())
    assert said in shown
    assert f"{help_text}" in shown
    assert "not checked: " in shown


def test_other_versions_of_the_runtime_are_not_the_same_claim() -> None:
    base = results.met()
    here = machine().versions
    assert not versions(replace(base, machine=replace(base.machine, versions=here)))
    [found] = versions(replace(base, machine=replace(base.machine, versions={**here, "openvino": "2020.1"})))
    assert found.ok is None
    assert "openvino was 2020.1 in the search" in found.text
    assert found.help == "pip install openvino==2020.1"


def test_infinite_bounds_are_read_back(tmp_path: Path) -> None:
    out = write(tmp_path)

    def unbounded(body: dict[str, Any]) -> None:
        body["winner"]["confirm"].update(upper=None, lower=None, p_value=None)
        body["noise"].update(high=None, log_ratios=[None, 0.0])

    edit(out, "report.json", unbounded)
    found = read_report(out)
    assert found.winner.confirm is not None
    assert (found.winner.confirm.upper, found.winner.confirm.lower, found.noise.high) == (inf, -inf, inf)
    assert isnan(found.noise.log_ratios[0])
    assert decode(encode(found), Result).winner.confirm == found.winner.confirm or isnan(found.winner.confirm.p_value)


def test_timings_are_arrays_of_numbers_and_nothing_else(tmp_path: Path) -> None:
    out = write(tmp_path)
    assert read_timings(out)["noise"].shape == (40,)
    for arrays in (
        {"a": np.array([{"x": 1}], dtype=object)},
        {"a": np.zeros((2, 2))},
        {"a": np.zeros(3, np.int8)},
    ):
        np.savez(out / "timings.npz", **arrays)
        with within(), rejected("holds no timings", kind=UsageError):
            read_timings(out)
    np.savez_compressed(out / "timings.npz", a=np.zeros(30 << 20))
    with within(), rejected("holds no timings", "unpacks to more", kind=UsageError):
        read_timings(out)
    with (out / "timings.npz").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    with within(), rejected("holds no timings", kind=UsageError):
        read_timings(out)


def test_a_recipe_is_applied_twice_and_the_folder_is_a_result(tmp_path: Path) -> None:
    out = write(tmp_path)
    edit(out, "recipe.json", lambda body: body.update(steps=[plain({"name": "clean", "options": {}})]))
    arguments = ["apply", str(out / "recipe.json"), str(tmp_path / "m.onnx"), "--data", str(tmp_path / "x.npy")]
    again = tmp_path / "again"
    assert main([*arguments, "--out", str(again)]) == 0
    (again / "notes.txt").write_text("mine")
    assert main([*arguments, "--out", str(again)]) == 0
    assert (again / "notes.txt").read_text() == "mine"
    assert read_manifest(again).made_by == "apply"
    rows = hasten.bench([tmp_path / "m.onnx", again], tmp_path / "x.npy", pairs=2)
    assert [row["name"] for row in rows] == ["m.onnx", "again"]
    assert main(["verify", str(again)]) == 6, "nothing is claimed of it"


def judge(off: int) -> Callable[[Any, Any], Any]:
    """A metric whose closure says which class counts as right."""

    def right(outputs: dict[str, Any], labels: Any) -> Any:
        answers = next(iter(outputs.values())).argmax(1)
        return ((answers + off) % 10 == labels).astype(float)

    return right


def test_a_result_made_in_python_is_verified_with_what_python_held(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "net.onnx")
    x = np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)
    data = {"x": x, "labels": networks.answers(path, x).argmax(1)}
    quick, out = "tests.engines.quick", tmp_path / "out"
    result = hasten.optimize(
        path, data, max_drop="5%", metric=judge(0), engines=[quick], served_by=quick, out=out, seconds=30
    )
    assert result.verdict == "met", result.sentence
    asked = read_manifest(out).question
    assert asked is not None
    assert (asked.data, asked.metric, asked.metric_by) == (None, None, "function")
    lacking = hasten.verify(out, trust=True)
    assert lacking["answer"] == "not checked"
    assert [c["name"] for c in lacking["checks"] if c["ok"] is None] == ["data", "metric"]
    assert any("metric=" in c["help"] for c in lacking["checks"])
    assert hasten.verify(out, data, metric=judge(0), trust=True)["answer"] == "verified"
    other = hasten.verify(out, data, metric=judge(10), trust=True)
    assert other["answer"] == "not checked"
    assert "is not the one of the run" in next(c["text"] for c in other["checks"] if c["ok"] is None)
    with pytest.raises(InputError, match="names code"):
        hasten.verify(out, data, metric=judge(0))


@pytest.mark.parametrize("value", HOSTILE)
def test_journal_lines_with_the_right_checksum_and_the_wrong_fields_are_damage(tmp_path: Path, value: Any) -> None:
    path, identity = tmp_path / "journal.jsonl", {"network": "a"}
    first = {"schema": 1, "identity": identity}
    whole = {"do": "done", "step": "race", "key": "k", "value": 1, "at": 2.0}
    for field in ("do", "step", "key", "at", "schema", "identity"):
        record = first if field in first else whole
        others = [first] * (record is whole)
        path.write_bytes(b"".join(map(line, [*others, whole, {**record, field: value}, whole])))
        with within():
            book = Journal(path, identity)
        assert len(book) <= 2
        assert book.seconds <= 1e9
        book.note("race", "other", 1, at=1.0)
        assert Journal(path, identity).recall("race", "other", int) == (1, 1.0)


@pytest.mark.parametrize("made", [fifo, link, device, listening])
def test_a_journal_that_is_no_regular_file_is_begun_afresh(tmp_path: Path, made: Callable[[Path], None]) -> None:
    made(tmp_path / "journal.jsonl")
    with within():
        book = Journal(tmp_path / "journal.jsonl", {"network": "a"})
        book.note("race", "k", 1, at=1.0)
    assert len(book.warnings) == 1
    assert (tmp_path / "journal.jsonl").is_file()
    assert not (tmp_path / "journal.jsonl").is_symlink()


def test_the_readers_know_every_file_of_the_folder() -> None:
    assert set(result_files.LARGEST) <= set(NAMES)
