"""The terminal's words: narrow, plain, poor and broken terminals included."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hasten import console
from hasten.console import progress
from hasten.protocols import Event
from tests import results


def shown(renderable: Any, monkeypatch: pytest.MonkeyPatch, columns: int = 100) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = io.StringIO()
    console.show(renderable, stream)
    return stream.getvalue()


def test_the_verdict_block_says_what_a_person_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    text = shown(console.result_block(results.met(), tmp_path), monkeypatch, 200)
    for part in (
        "calibrate 300 · search 1,900 · confirm 2,800",
        "76.10 % top1 · 21.4 ms · 97.8 MB",
        "✓ 3.02× faster [2.98, 3.06]  7.10 ms  (1.38× lossless, 2.19× lossy)",
        "✓ drop 0.14 points, at most 0.60 with 95 % confidence (budget 1.00 points)",
        "guaranteed: at most 0.60 points, whatever was not seen",
        "these 2,800 cannot exclude a total loss in up to 0.11 % of samples",
        "✓ 25.1 MB (3.90× smaller)  peak memory 61.0 MB",
        "int8 squared error",
        "ran int8: 52 of 53 convolutions",
        "2.1 % of 2,800 answers changed",
        "int8 all layers 3.41× but a drop of 1.29 points (up to 1.90)",
        "1 crashed",
        "warning: load average",
        "model.onnx",
        f"hasten verify {tmp_path}",
    ):
        assert part in text


def test_only_a_proven_result_gets_a_check_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    for result in (results.nothing_faster(), results.undecided(), results.undecided_kept()):
        text = shown(console.result_block(result), monkeypatch)
        assert "✓" not in text
        assert result.sentence in text


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    lines = shown(console.result_block(results.met(), Path("out")), monkeypatch, columns).splitlines()
    assert max(map(len, lines)) <= columns


def test_no_colour_without_a_terminal_and_no_control_codes_from_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(console.result_block(results.met()), monkeypatch)
    assert "\x1b" not in shown(console.facts_block({"name": "\x1b[31mred"}), monkeypatch)


def test_a_poor_encoding_gets_plain_signs() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252")
    console.write("✓ 3.02× ±0.7 → ok 漢", stream)
    assert raw.getvalue().decode("cp1252") == "+ 3.02x ~0.7 > ok ?"


def test_a_reader_that_leaves_is_no_error() -> None:
    code = "import sys; from hasten import console\nfor _ in range(20000): console.write('x' * 80 + '\\n', sys.stdout)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


EVENTS = [
    Event(kind="stage", stage="1/3 lossless", text="engines and settings"),
    Event(kind="trial", stage="2/3 lossy", text="int8 mse", done=3, total=31, best=2.9, seconds_left=80.0),
    Event(kind="warning", stage="2/3 lossy", text="candidate 12 crashed"),
]


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [
        (0, ["warning: candidate 12 crashed"]),
        (1, ["1/3 lossless · engines and settings", "2/3 lossy 3/31 · int8 mse · best 2.90× · 1 min 20 s left",
             "warning: candidate 12 crashed"]),
    ],
)  # fmt: skip
def test_without_a_terminal_progress_is_a_plain_line_an_event(verbosity: int, expected: list[str]) -> None:
    stream = io.StringIO()
    with console.Progress(stream, verbosity) as progress:
        for event in EVENTS:
            progress(event)
    assert stream.getvalue().splitlines() == expected
    assert progress.best == 2.9
    assert (
        console.line(Event(kind="trial", stage="3/3 confirm", text="x", seconds_left=0.2))
        == "3/3 confirm · x · search time is over"
    )


def test_on_a_terminal_progress_is_one_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    stream = io.StringIO()
    with console.Progress(stream) as progress:
        for event in EVENTS:
            progress(event)
    text = stream.getvalue()
    assert "engines and settings" in text
    assert "warning: candidate 12 crashed" in text
    assert "1 min 20 s left\n" not in text


def test_tables_hold_what_the_commands_found(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [
        {"name": "onnxruntime", "version": "1.32.0", "formats": ["f32", "int8"], "missing": None},
        {"name": "openvino", "version": "", "formats": [], "missing": "pip install 'hasten[openvino]'"},
    ]
    text = shown(
        console.doctor_block({"machine": {"cpu": "Zen 4"}, "engines": engines, "noise": "±0.7 %"}), monkeypatch
    )
    assert "✓ onnxruntime 1.32.0 (f32, int8)" in text
    assert "– openvino: pip install 'hasten[openvino]'" in text
    rows = [{"name": "a.onnx", "median_ms": 2.0, "speedup": 1.0, "low": None, "high": None, "pairs": 20}]
    assert "2.00 ms" in shown(console.bench_table(rows), monkeypatch)
    lost = shown(console.bench_table([*rows, {"name": "b.onnx", "reason": "killed by SIGSEGV in time"}]), monkeypatch)
    assert "✗ b.onnx: killed by SIGSEGV in time" in lost
    checks = [
        {"name": "files", "ok": True, "text": "7 match"},
        {"name": "speed", "ok": False, "text": "0.9×"},
        {"name": "a", "ok": None, "text": "b"},
    ]
    text = shown(console.verify_block({"ok": False, "checks": checks}), monkeypatch)
    assert "✗ speed: 0.9×" in text
    assert "– a: b" in text
    assert "failed: speed" in text
    text = shown(
        console.facts_block({"inputs": [{"name": "x", "shape": [1, None]}], "safe": True, "opset": 17}), monkeypatch
    )
    assert "name x, shape 1, –" in text
    assert "safe    yes" in text
    facts = {"domains": {"": 17}, "weight_bytes": 10_800_000, "quantized": [], "ideas": ["int8 for 3 Conv", "fold"]}
    text = shown(console.inspect_block(facts), monkeypatch)
    assert text == "weights  10.8 MB\nideas    int8 for 3 Conv\n         fold\n"
    text = shown(
        console.doctor_block(
            {
                "machine": {"memory_bytes": 25_300_000_000},
                "cores": 2,
                "engines": [
                    {"name": "openvino", "missing": "openvino is not installed; pip install 'hasten[openvino]'"}
                ],
            }
        ),
        monkeypatch,
    )
    assert text == "memory  25.3 GB\n– openvino is not installed; pip install 'hasten[openvino]'\n"


def test_a_terminal_that_closes_is_no_error() -> None:
    ours, theirs = os.openpty()
    stream = os.fdopen(theirs, "w")
    os.close(ours)
    console.write("to nobody\n", stream)
    console.write("again\n", stream)
    stream.close()


def test_the_live_line_moves_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    moving = progress.Moving()
    moving.text = "calibrating"
    seen = set()
    for second in (0.0, 0.25, 0.5, 0.75):
        monkeypatch.setattr("time.monotonic", lambda second=second: second)
        seen.add(moving.__rich__().plain)
    assert len(seen) == 4
