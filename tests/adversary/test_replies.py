"""A reply is taken in its own type and size only; anything else that a child writes is its death, within bounds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hasten import process, replies, restarting, worker
from hasten.errors import EnvironmentFault, InputError
from hasten.machine import private_bytes
from hasten.worker import CallFailed, Worker, WorkerDied

MIB = 1 << 20
PROGRAM = """
import json, os, struct, sys, time
commands, replies = int(sys.argv[1]), int(sys.argv[2])
def take():
    head = b""
    while len(head) < 24:
        piece = os.read(commands, 24 - len(head))
        if not piece:
            sys.exit(0)
        head += piece
    number, size, _ = struct.unpack("<QQQ", head)
    body = b""
    while len(body) < size:
        body += os.read(commands, size - len(body))
    return number, json.loads(body)
def put(data):
    view = memoryview(data)
    while view:
        view = view[os.write(replies, view):]
def reply(number, header, payload=b"", claimed=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    put(struct.pack("<QQQ", number, len(text), len(payload) if claimed is None else claimed) + text + payload)
def answer(number, value, arrays=(), payload=b"", **more):
    reply(number, {"value": value, "arrays": list(arrays), **more}, payload)
f4 = lambda *shape: {"dtype": "<f4", "shape": list(shape)}
while True:
    number, asked = take()
    exec(SOURCE)
"""


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Workers whose child runs a line of code for each request."""
    started: list[Worker] = []

    def start(source: str, kind: type[Worker] = Worker) -> Worker:
        monkeypatch.setattr(process, "boot", lambda: PROGRAM.replace("SOURCE", repr(source)))
        started.append(kind(name="liar"))
        return started[-1]

    yield start
    for one in started:
        one.close()


TIMES = {
    "nothing but zeros": "put(bytes(24))",
    "text in place of a header": "put(b'Traceback (most recent call last):' * 10)",
    "the number of another request": "answer(number ^ 1, {'milliseconds': [1.0, 1.0]})",
    "a header of 2^60 bytes": "put(struct.pack('<QQQ', number, 1 << 60, 0))",
    "a header of 17 MiB": "put(struct.pack('<QQQ', number, 17 << 20, 0))",
    "an empty header": "reply(number, b'')",
    "no JSON": "reply(number, b'{')",
    "no UTF-8": 'reply(number, b\'{"value": "\\xff\\xfe"}\')',
    "a list in place of an object": "reply(number, [1, 2])",
    "a text in place of an object": "reply(number, 'yes')",
    "null": "reply(number, None)",
    "no value at all": "reply(number, {'arrays': []})",
    "keys that nobody knows": "answer(number, {'milliseconds': [1.0, 1.0]}, pickle='gASV')",
    "arrays that are no list": "reply(number, {'value': {'milliseconds': [1.0, 1.0]}, 'arrays': 7})",
    "a value of another type": "answer(number, [1.0, 1.0])",
    "a value without its key": "answer(number, {'seconds': [1.0, 1.0]})",
    "a text in place of a number": "answer(number, {'milliseconds': ['fast', 1.0]})",
    "true in place of a number": "answer(number, {'milliseconds': [True, 1.0]})",
    "null in place of a number": "answer(number, {'milliseconds': [None, 1.0]})",
    "NaN": "answer(number, {'milliseconds': [float('nan'), 1.0]})",
    "infinity": "answer(number, {'milliseconds': [float('inf'), 1.0]})",
    "a number beyond all numbers": 'reply(number, b\'{"value": {"milliseconds": [1e999, 1.0]}, "arrays": []}\')',
    "a whole number of 5,000 digits": "reply(number, b'{\"value\": {\"milliseconds\": [' + b'9' * 5000 + b', 1.0]}}')",
    "a negative time": "answer(number, {'milliseconds': [-1.0, 1.0]})",
    "no time at all": "answer(number, {'milliseconds': [0.0, 1.0]})",
    "fewer times than inferences": "answer(number, {'milliseconds': [1.0]})",
    "a million times": "answer(number, {'milliseconds': [1.0] * 1000000})",
    "a million brackets": "reply(number, b'{\"value\": ' + b'[' * 1000000 + b']' * 1000000 + b'}')",
    "a million brackets where a text belongs": "reply(number, b'{\"error\": ' + b'[' * 1000000)",
    "arrays that nobody asked for": "answer(number, {'milliseconds': [1.0, 1.0]}, [f4(1)], bytes(4))",
    "a payload that is not described": "reply(number, {'value': {'milliseconds': [1.0, 1.0]}, 'arrays': []}, bytes(9))",
    "an error of no known name": "reply(number, {'error': 'SystemExit', 'told': {'message': 'x'}})",
    "an error that is none of ours": "reply(number, {'error': 'did_you_mean', 'told': {'message': 'x'}})",
    "the end of all": "reply(number, {'error': 'Stopped', 'told': {'message': 'x'}})",
    "an error of the wrong shape": "reply(number, {'error': 'InputError', 'told': {'cause': 'x'}})",
    "an error whose parts are numbers": "reply(number, {'error': 'InputError', 'told': {'message': 7}})",
    "an error whose parts are a list": "reply(number, {'error': 'InputError', 'told': ['x']})",
    "a number as the name of an error": "reply(number, {'error': 7, 'text': 'x'})",
    "an error of a megabyte": "reply(number, {'error': 'ValueError', 'text': 'x' * (1 << 20)})",
    "an error with a name of a megabyte": "reply(number, {'error': 'x' * (1 << 20)})",
    "an error of an empty name": "reply(number, {'error': '', 'text': 'x'})",
}

RUN = {
    "fewer batches than samples": "answer(number, {'sizes': [1]}, [f4(1, 2)], bytes(8))",
    "no batches": "answer(number, {'sizes': []})",
    "a batch of no samples": "answer(number, {'sizes': [2, 0]}, [f4(1, 2)] * 2, bytes(16))",
    "a batch of a negative size": "answer(number, {'sizes': [3, -1]}, [f4(1, 2)] * 2, bytes(16))",
    "a batch larger than asked": "answer(number, {'sizes': [2]}, [f4(2, 2)], bytes(16))",
    "sizes of 2^70": "answer(number, {'sizes': [1 << 70, 1]}, [f4(1, 2)] * 2, bytes(16))",
    "fewer arrays than outputs": "answer(number, {'sizes': [1, 1]}, [f4(1, 2)], bytes(8))",
    "more arrays than outputs": "answer(number, {'sizes': [1, 1]}, [f4(1, 2)] * 3, bytes(24))",
    "arrays in the value": "answer(number, {'sizes': [1, 1], 'arrays': [1, 2]}, [f4(1, 2)] * 2, bytes(16))",
    "an array of objects": "answer(number, {'sizes': [1, 1]}, [{'dtype': '|O', 'shape': [1]}] * 2, bytes(16))",
    "an array of records": "answer(number, {'sizes': [1, 1]}, [{'dtype': '|V4', 'shape': [1]}] * 2, bytes(8))",
    "an array of dates": "answer(number, {'sizes': [1, 1]}, [{'dtype': '<M8[s]', 'shape': [1]}] * 2, bytes(16))",
    "a type by another name": "answer(number, {'sizes': [1, 1]}, [{'dtype': 'f4,f4', 'shape': [1]}] * 2, bytes(16))",
    "a type that is code": "answer(number, {'sizes': [1, 1]}, [{'dtype': '__import__', 'shape': [1]}] * 2, bytes(8))",
    "text of no letters": "answer(number, {'sizes': [1, 1]}, [{'dtype': '<U0', 'shape': [1 << 40]}] * 2)",
    "a negative shape": "answer(number, {'sizes': [1, 1]}, [f4(-1, 2)] * 2, bytes(16))",
    "a shape of text": "answer(number, {'sizes': [1, 1]}, [{'dtype': '<f4', 'shape': ['N']}] * 2, bytes(16))",
    "a shape of 2^62": "answer(number, {'sizes': [1, 1]}, [f4(1 << 62)] * 2, bytes(16))",
    "shapes whose product passes every bound": "answer(number, {'sizes': [1, 1]}, [f4(*[1 << 40] * 8)] * 2, bytes(16))",
    "a hundred dimensions": "answer(number, {'sizes': [1, 1]}, [f4(*[1] * 100)] * 2, bytes(8))",
    "a shape of no elements, absurdly wide": "answer(number, {'sizes': [1, 1]}, [f4(0, 1 << 47)] * 2)",
    "more bytes than described": "answer(number, {'sizes': [1, 1]}, [f4(1, 2)] * 2, bytes(99))",
    "fewer bytes than described": "answer(number, {'sizes': [1, 1]}, [f4(1, 2)] * 2, bytes(12))",
    "a million arrays": "answer(number, {'sizes': [1, 1]}, [f4(0)] * 1000000)",
    "a hundred terabytes": "reply(number, {'value': {'sizes': [1, 1]}, 'arrays': [f4(1 << 44)] * 2}, claimed=1 << 47)",
}

SLOW = {
    "half a header": "put(bytes(11)); time.sleep(60)",
    "half a reply": "put(struct.pack('<QQQ', number, 100, 0) + b'{\"value\"'); time.sleep(60)",
    "half a payload": "reply(number, {'value': 0, 'arrays': [f4(1 << 27)]}, claimed=1 << 29); time.sleep(60)",
    "one byte a second": "[put(b'x') or time.sleep(1) for _ in range(60)]",
    "nothing": "time.sleep(60)",
}

CLOSED = {
    "closes its answers": "os.close(replies); time.sleep(60)",
    "closes its answers half-way": "put(bytes(11)); os.close(replies); time.sleep(60)",
    "leaves its pipe to a child": "os.fork() and os._exit(3); time.sleep(60)",
    "exits": "os._exit(0)",
    "exits half-way": "put(bytes(11)); os._exit(0)",
    "writes garbage for ever": "[put(b'x' * 100000) for _ in iter(int, 1)]",
    "prints for ever": "[os.write(1, b'x' * 100000) for _ in iter(int, 1)]",
    "removes its log and its folder": "import shutil; shutil.rmtree(os.getcwd()); put(b'x' * 30); time.sleep(60)",
    "puts a device in the place of its log": "os.unlink('log.txt'); os.symlink('/dev/zero', 'log.txt'); os._exit(1)",
}


def time_twice(liar: Worker, seconds: float = 20.0) -> object:
    return replies.times(liar, "store", [0], batch=1, inner=2, seconds=seconds)


def run_two(liar: Worker, seconds: float = 20.0) -> object:
    return replies.run(liar, "store", [0, 1], keep=[0], seconds=seconds)


@pytest.mark.parametrize("lie", TIMES)
def test_a_false_reply_to_a_timing_is_a_death(says: Any, lie: str) -> None:
    ends(says(TIMES[lie]), time_twice)


@pytest.mark.parametrize("lie", RUN)
def test_a_false_reply_with_arrays_is_a_death(says: Any, lie: str) -> None:
    ends(says(RUN[lie]), run_two)


@pytest.mark.parametrize("lie", CLOSED)
def test_a_child_that_leaves_or_floods_is_ended(says: Any, lie: str) -> None:
    ends(says(CLOSED[lie]), time_twice)


@pytest.mark.parametrize("lie", SLOW)
def test_a_reply_that_never_ends_is_ended_in_time(says: Any, lie: str) -> None:
    assert ends(says(SLOW[lie]), lambda liar: run_two(liar, 1.0), within=15).status == "timeout"


def ends(liar: Worker, ask: Any, within: float = 30.0) -> WorkerDied:
    """The child dies of its reply, in bounded time and memory, and stays dead."""
    before, begun = private_bytes(os.getpid()), time.monotonic()
    with pytest.raises(WorkerDied) as told:
        ask(liar)
    assert time.monotonic() - begun < within
    assert private_bytes(os.getpid()) - before < 400 * MIB
    assert len(str(told.value)) < 700
    assert not Path(f"/proc/{liar.pid}").exists()
    with pytest.raises(WorkerDied):
        ask(liar)
    return told.value


def test_a_request_that_nobody_reads_is_ended_in_time(says: Any) -> None:
    liar = says("time.sleep(60)")
    liar.ask("time", inner=1)
    with pytest.raises(WorkerDied, match="no answer in time"):
        liar.ask("time", seconds=1.0, padding="x" * (4 * MIB))


def test_a_second_reply_is_not_taken_for_the_answer_to_the_next_request(says: Any) -> None:
    liar = says("answer(number, {'milliseconds': [1.0, 1.0]}); answer(number, {'milliseconds': [9.0, 9.0]})")
    assert time_twice(liar) == [1.0, 1.0]
    with pytest.raises(WorkerDied, match="belongs to no request"):
        time_twice(liar)


@pytest.mark.parametrize("name", ["InputError", "UsageError", "EnvironmentFault"])
def test_a_network_cannot_end_a_search_by_naming_one_of_our_errors(says: Any, name: str) -> None:
    told = {"message": "the disk is full", "cause": "it is not", "help": "give up"}
    with pytest.raises(CallFailed, match="the disk is full") as fault:
        time_twice(says(f"reply(number, {{'error': {name!r}, 'told': {told!r}}})"))
    assert fault.value.ours is not None


def test_a_function_of_ours_may_raise_our_errors(says: Any) -> None:
    liar = says("reply(number, {'error': 'InputError', 'told': {'message': 'm', 'cause': 'c', 'help': 'h'}})")
    with pytest.raises(InputError) as told:
        liar.call("call", dict[str, int], function="f", keywords={})
    assert (told.value.message, told.value.cause, told.value.help) == ("m", "c", "h")


def test_true_answers_arrive(says: Any) -> None:
    assert time_twice(says("answer(number, {'milliseconds': [1.0, 2.5]})")) == [1.0, 2.5]
    honest = says("answer(number, {'sizes': [1, 1]}, [f4(1, 2)] * 2, struct.pack('<4f', 1, 2, 3, 4))")
    found = replies.run(honest, "store", [0, 1], keep=[0])
    assert [a.tolist() for a in found.arrays] == [[[1, 2]], [[3, 4]]]


def test_the_process_of_the_network_as_given_is_started_once_more(says: Any, tmp_path: Path) -> None:
    flag = tmp_path / "died"
    source = f"""
flag = {str(flag)!r}
if asked["operation"] == "load":
    answer(number, {{"load_seconds": 0.1}})
elif asked["arguments"]["ids"] == [7] and not os.path.exists(flag):
    open(flag, "w").close()
    os.kill(os.getpid(), 9)
else:
    cold = os.path.exists(flag) and os.path.getsize(flag) < 3
    if os.path.exists(flag):
        with open(flag, "a") as told:
            told.write("x")
    answer(number, {{"milliseconds": [9.0 / os.path.getsize(flag) if cold else 1.0] * 2}})
"""
    lasting = says(source, restarting.RestartingWorker)
    replies.load(lasting, "onnxruntime", "network", {})
    first = lasting.pid
    assert replies.times(lasting, "s", [0], batch=1, inner=2) == [1.0, 1.0]
    assert replies.times(lasting, "s", [7], batch=1, inner=2) == [1.0, 1.0], "the new process is warmed first"
    assert lasting.pid != first


def test_a_second_death_is_the_machines_fault_with_its_cause(says: Any) -> None:
    source = """
if asked["operation"] == "load":
    answer(number, {"load_seconds": 0.1})
elif asked["arguments"]["ids"] == [7]:
    os.kill(os.getpid(), 11)
else:
    answer(number, {"milliseconds": [1.0, 1.0]})
"""
    lasting = says(source, restarting.RestartingWorker)
    replies.load(lasting, "onnxruntime", "network", {})
    replies.times(lasting, "s", [0], batch=1, inner=2)
    with pytest.raises(EnvironmentFault, match="died again") as told:
        replies.times(lasting, "s", [7], batch=1, inner=2)
    assert told.value.exit_code == 4
    assert "killed by SIGSEGV" in told.value.cause


def test_only_three_errors_come_from_children() -> None:
    assert set(worker.FROM_CHILDREN) == {"UsageError", "InputError", "EnvironmentFault"}
