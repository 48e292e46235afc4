"""The protobuf wire format, read without a schema: enough to look into a file of which nothing should be believed.

message = (key value)*      key = number << 3 | wire type
0: varint   1: 8 bytes   2: length, bytes   5: 4 bytes      (3 and 4, groups, are refused)
"""

from __future__ import annotations

from collections.abc import Iterator

LONGEST_VARINT = 10
Value = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(field number, value) in order; what has a length stays a view.

    Raises:
        ValueError: it is no message, or ends early.
    """
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError(f"field number 0 at byte {at}")
        if kind == 0:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == 2:
            size, at = varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if size > len(message) - at:
            raise ValueError(f"{size} bytes at byte {at} of {len(message)}")
        yield number, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """An unsigned number and the place after it. Raises ``ValueError`` when it does not end."""
    value = 0
    for count in range(LONGEST_VARINT):
        if at + count >= len(message):
            break
        byte = message[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, at + count + 1
    raise ValueError(f"a number without an end at byte {at}")


def messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values of one field that have a length."""
    for found, value in fields(message):
        if found == number and isinstance(value, memoryview):
            yield value


def text(message: memoryview, number: int) -> str:
    """The last value of a text field, empty when it is not there. Raises ``ValueError`` when it is no UTF-8."""
    found = b""
    for value in messages(message, number):
        found = bytes(value)
    return found.decode()


def table(message: memoryview, number: int) -> dict[str, memoryview]:
    """A map field: its entries are messages of a key (1) and a value (2)."""
    found = {}
    for entry in messages(message, number):
        value = memoryview(b"")
        for value in messages(entry, 2):  # noqa: B007 - the last one counts
            pass
        found[text(entry, 1)] = value
    return found
