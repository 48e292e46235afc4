"""A crash is an answer: whatever a child does, the parent gets a sentence and lives."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hasten.errors import InputError
from hasten.machine import cores
from hasten.wire import HEADER, pack, unpack_arrays
from hasten.worker import CallFailed, Worker, WorkerDied, once


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS", "SIGKILL"])
def test_a_crash_is_a_sentence_with_the_signal(name: str) -> None:
    with pytest.raises(WorkerDied, match=f"killed by {name}") as told:
        once("hasten.testing:crash", {"signal_name": name})
    assert told.value.status == "crashed"


def test_leaving_without_an_answer_is_told() -> None:
    with pytest.raises(WorkerDied, match="exit 3"):
        once("hasten.testing:leave", {"code": 3})


def test_a_hang_ends_at_the_limit_even_when_sigterm_is_ignored() -> None:
    start = time.monotonic()
    with pytest.raises(WorkerDied, match="no answer in time") as told:
        once("hasten.testing:hang", {"seconds": 60}, seconds=1.5)
    assert told.value.status == "timeout"
    assert time.monotonic() - start < 20


def test_several_work_at_the_same_time() -> None:
    with Worker() as first, Worker() as second:
        first.ask("call", function="hasten.machine:cores", keywords={})
        second.ask("memory")
        assert set(second.answer(seconds=60)) == {"peak_bytes"}
        assert first.answer(seconds=60) == cores()


def test_memory_is_limited() -> None:
    with Worker(memory_limit=300 << 20) as worker, pytest.raises(WorkerDied, match="over its 300 MiB"):
        worker.call("call", function="hasten.testing:eat", keywords={"mebibytes": 2000})


def test_output_is_limited() -> None:
    with Worker() as worker, pytest.raises(WorkerDied, match="of output"):
        worker.call("call", function="hasten.testing:chatter", keywords={"mebibytes": 70})


def test_an_exception_leaves_the_worker_alive() -> None:
    with Worker() as worker:
        with pytest.raises(CallFailed, match="invalid literal"):
            worker.call("load", engine="onnxruntime", path="nowhere", settings={"threads": "many"}, names=[])
        assert worker.call("memory")["peak_bytes"] >= 0


def test_only_our_functions_are_called() -> None:
    with Worker() as worker, pytest.raises(CallFailed, match="not one of ours"):
        worker.call("call", function="os:system", keywords={"command": "true"})


def test_our_errors_cross_the_border_whole() -> None:
    with pytest.raises(InputError) as told:
        once("hasten.search.build:inspect", {"path": __file__})
    assert told.value.message
    assert told.value.exit_code == 3


def test_a_worker_that_was_closed_twice_is_fine() -> None:
    worker = Worker()
    worker.close()
    worker.close()


def test_a_held_worker_stands_still_until_it_is_called_or_closed() -> None:
    with Worker() as worker:
        worker.call("call", function="hasten.machine:cores", keywords={})
        worker.hold()
        state = Path(f"/proc/{worker.pid}/stat")
        deadline = time.monotonic() + 5
        while state.read_text().rsplit(")", 1)[1].split()[0] != "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state.read_text().rsplit(")", 1)[1].split()[0] == "T"
        assert worker.call("call", function="hasten.machine:cores", keywords={}) >= 1
        worker.hold()
    assert not state.exists()


def test_a_worker_whose_engine_rests_by_itself_is_not_held() -> None:
    with Worker() as worker:
        worker.spins = False
        worker.hold()
        assert worker.call("call", function="hasten.machine:cores", keywords={}) >= 1
        assert Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T"


PLAIN = st.sampled_from([np.float32, np.int64, np.bool_, np.uint8])


@given(st.lists(hnp.arrays(PLAIN, hnp.array_shapes(min_dims=0)), max_size=3))
def test_arrays_survive_the_wire(arrays: list[np.ndarray]) -> None:
    import msgspec

    data = b"".join(pack({"value": 1}, arrays))
    size, payload = HEADER.unpack(data[: HEADER.size])
    header = msgspec.json.decode(data[HEADER.size : HEADER.size + size])
    back = unpack_arrays(header["arrays"], data[HEADER.size + size :])
    assert payload == len(data) - HEADER.size - size
    for sent, got in zip(arrays, back, strict=True):
        assert sent.dtype == got.dtype
        np.testing.assert_array_equal(sent, got)


@pytest.mark.parametrize(
    "described",
    [[{"dtype": "|O", "shape": [1]}], [{"dtype": "<f4", "shape": [9]}], [{"dtype": "<f4", "shape": [-1]}], []],
)
def test_hostile_headers_are_refused(described: list[dict[str, object]]) -> None:
    with pytest.raises(ValueError, match=r"does not fit|too many"):
        unpack_arrays(described, b"1234567")
