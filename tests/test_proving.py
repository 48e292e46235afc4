"""Samples are added to a finished result, and its grade follows."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import hasten
from hasten import cli
from hasten.errors import InputError, UsageError
from hasten.evidence import NO_ANSWER, Changed, Evidence, form, with_labels
from hasten.trial import decode, encode
from tests import networks

ENGINE = "tests.engines.quick"


def drawn(seed: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Inputs that the network answers clearly."""
    return np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32) * 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, its search with 40 labelled samples, and more inputs."""
    here = tmp_path_factory.mktemp("proving")
    network, x = networks.mlp(here / "m.onnx"), drawn(3, 40)
    np.savez(here / "d.npz", x=x, labels=networks.answers(network, x).argmax(1))
    np.savez(here / "more.npz", x=drawn(4, 1000))
    found = hasten.optimize(
        network, here / "d.npz", engines=[ENGINE], served_by=ENGINE, out=here / "out", max_drop="1%", seconds=30
    )
    assert found.verdict == "undecided"
    assert found.estimated is not None
    return here


@pytest.fixture
def out(place: Path, tmp_path: Path) -> Path:
    """A copy of the result."""
    return Path(shutil.copytree(place / "out", tmp_path / "out"))


def state(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_inputs_without_labels_add_up_to_a_proof_and_the_estimate_is_then_the_result(
    place: Path, out: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "few.npz", x=drawn(4, 100))
    told = hasten.prove(out, unlabelled=tmp_path / "few.npz", trust=True)
    assert (told["answer"], told["added"]) == ("not proven", 100)
    assert (out / "estimated" / "recipe.json").exists()
    told = hasten.prove(out, unlabelled=place / "more.npz", trust=True)  # its first hundred are known
    assert (told["answer"], told["certificate"], told["added"], told["samples"]) == ("proven", "guaranteed", 900, 1000)
    assert told["bound"] < 0.01
    assert not (out / "estimated").exists()
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == "met"
    assert "guaranteed" in report["sentence"]
    assert hasten.verify(out, trust=True)["answer"] == "verified"
    with pytest.raises(UsageError, match="more samples cannot raise the grade"):
        hasten.prove(out, unlabelled=place / "more.npz", trust=True)


def test_refused_samples_change_nothing(place: Path, out: Path, tmp_path: Path) -> None:
    before = state(out)
    np.savez(tmp_path / "wrong.npz", x=drawn(1, 50)[:, :9])
    np.savez(tmp_path / "empty.npz", x=drawn(1, 0))
    for name, data, words in [
        ("d.npz", place / "d.npz", "holds nothing new"),
        ("wrong.npz", tmp_path / "wrong.npz", "16"),
        ("empty.npz", tmp_path / "empty.npz", "no samples|empty|0 samples"),
        ("nowhere.npz", tmp_path / "nowhere.npz", "nowhere.npz"),
    ]:
        with pytest.raises(InputError, match=words):
            hasten.prove(out, unlabelled=data, trust=True)
        assert state(out) == before, name
    with pytest.raises(UsageError, match="nothing is added"):
        hasten.prove(out, trust=True)
    with pytest.raises(InputError, match="holds no labels"):
        hasten.prove(out, data=place / "more.npz", trust=True)
    assert state(out) == before


def test_labels_of_changed_inputs_are_taken_and_wrong_ones_refused(tmp_path: Path) -> None:
    changed = [Changed(file="more.npz", sample=f"{i}", before=1, after=i) for i in (2, 3, NO_ANSWER)]
    kept = decode(encode(Evidence(seen=[-1, 5], unchanged=97, changed=changed)), Evidence)
    assert (kept.n, kept.unknown) == (100, 3)
    table = tmp_path / "to_label.csv"
    table.write_bytes(form(kept))
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["number"], row["before"], row["after"]) for row in rows] == [
        ("0", "1", "2"),
        ("1", "1", "3"),
        ("2", "1", "-1"),
    ]
    for number, label, words in [("0", "x", "no class number"), ("7", "1", "does not know"), ("0", "", "no new label")]:
        table.write_text(f"number,label\n{number},{label}\n")
        with pytest.raises(InputError, match=words):
            with_labels(kept, table)
    table.write_text("number,label\n0,1\n1,3\n2,0\n")  # lost, gained, wrong before and after
    found, added = with_labels(kept, table)
    assert (added, found.unknown, [one.loss for one in found.changed]) == (3, 0, [1.0, -1.0, 0.0])
    table.write_text("number,label\n0,2\n")
    with pytest.raises(InputError, match="another label"):
        with_labels(found, table)


def test_the_command_says_what_is_proven(place: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prove", str(out), "--unlabelled", str(place / "more.npz"), "--trust", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "proven"
    assert cli.main(["prove", str(out), "--unlabelled", str(place / "more.npz"), "--trust"]) == 2
    assert "cannot raise the grade" in capsys.readouterr().err
