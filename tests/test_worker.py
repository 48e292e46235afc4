"""A crash is an answer: whatever a child does, the parent gets a sentence and lives."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hasten import replies
from hasten.errors import InputError
from hasten.machine import cores
from hasten.wire import HEADER, Described, pack, read_reply, unpack_arrays
from hasten.worker import CallFailed, Worker, WorkerDied, once

NOTHING = dict[str, int]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS", "SIGKILL"])
def test_a_crash_is_a_sentence_with_the_signal(name: str) -> None:
    with pytest.raises(WorkerDied, match=f"killed by {name}") as told:
        once("hasten.testing:crash", {"signal_name": name}, NOTHING)
    assert told.value.status == "crashed"


def test_leaving_without_an_answer_is_told() -> None:
    with pytest.raises(WorkerDied, match="exit 3"):
        once("hasten.testing:leave", {"code": 3}, NOTHING)


def test_a_hang_ends_at_the_limit_even_when_sigterm_is_ignored() -> None:
    start = time.monotonic()
    with pytest.raises(WorkerDied, match="no answer in time") as told:
        once("hasten.testing:hang", {"seconds": 60}, NOTHING, seconds=1.5)
    assert told.value.status == "timeout"
    assert time.monotonic() - start < 20


def test_several_work_at_the_same_time() -> None:
    with Worker() as first, Worker() as second:
        first.ask("call", function="hasten.machine:cores", keywords={})
        second.ask("memory")
        assert second.answer(replies.Memory, seconds=60).peak_bytes >= 0
        assert first.answer(int, seconds=60) == cores()


def test_memory_is_limited() -> None:
    with Worker(memory_limit=300 << 20) as worker, pytest.raises(WorkerDied, match="over its 300 MiB"):
        worker.call("call", NOTHING, function="hasten.testing:eat", keywords={"mebibytes": 2000})


def test_output_is_limited() -> None:
    with Worker() as worker, pytest.raises(WorkerDied, match="of output"):
        worker.call("call", NOTHING, function="hasten.testing:chatter", keywords={"mebibytes": 70})


def test_an_exception_leaves_the_worker_alive() -> None:
    with Worker() as worker:
        with pytest.raises(CallFailed, match="invalid literal"):
            replies.load(worker, "onnxruntime", "nowhere", {"threads": "many"})
        assert replies.memory(worker) >= 0


def test_only_our_functions_are_called() -> None:
    with Worker() as worker, pytest.raises(CallFailed, match="not one of ours"):
        worker.call("call", NOTHING, function="os:system", keywords={"command": "true"})


def test_our_errors_cross_the_border_whole() -> None:
    with pytest.raises(InputError) as told:
        once("hasten.search.build:inspect", {"path": __file__}, NOTHING)
    assert told.value.message
    assert told.value.exit_code == 3


def test_a_worker_that_was_closed_twice_is_fine() -> None:
    worker = Worker()
    worker.close()
    worker.close()


def test_a_held_worker_stands_still_until_it_is_called_or_closed() -> None:
    with Worker() as worker:
        worker.call("call", int, function="hasten.machine:cores", keywords={})
        worker.hold()
        state = Path(f"/proc/{worker.pid}/stat")
        deadline = time.monotonic() + 5
        while state.read_text().rsplit(")", 1)[1].split()[0] != "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state.read_text().rsplit(")", 1)[1].split()[0] == "T"
        assert worker.call("call", int, function="hasten.machine:cores", keywords={}) >= 1
        worker.hold()
    assert not state.exists()


def test_a_worker_whose_engine_rests_by_itself_is_not_held() -> None:
    with Worker() as worker:
        worker.spins = False
        worker.hold()
        assert worker.call("call", int, function="hasten.machine:cores", keywords={}) >= 1
        assert Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T"


PLAIN = st.sampled_from([np.float32, np.int64, np.bool_, np.uint8])


@given(st.lists(hnp.arrays(PLAIN, hnp.array_shapes(min_dims=0)), max_size=3))
def test_arrays_survive_the_wire(arrays: list[np.ndarray]) -> None:
    data = b"".join(pack({"value": 1}, arrays, 7))
    number, size, payload = HEADER.unpack(data[: HEADER.size])
    reply = read_reply(data[HEADER.size : HEADER.size + size], payload)
    back = unpack_arrays(reply.arrays, data[HEADER.size + size :])
    assert (number, bytes(reply.value)) == (7, b"1")
    assert payload == len(data) - HEADER.size - size
    for sent, got in zip(arrays, back, strict=True):
        assert sent.dtype == got.dtype
        np.testing.assert_array_equal(sent, got)


@pytest.mark.parametrize(
    "described", [[Described("|O", [1])], [Described("<f4", [9])], [Described("<f4", [-1])], [Described("V8", [1])], []]
)
def test_hostile_headers_are_refused(described: list[Described]) -> None:
    with pytest.raises(ValueError, match=r"does not fit|too many|no array"):
        unpack_arrays(described, b"1234567")
