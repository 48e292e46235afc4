"""Damage that knows a format: fields of protobuf messages, chunks, tags and markers of images, headers, cells."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from benchmarks.mutations.damage import JSON, NUMBERS, ODD, PLAIN, ZIP, Damage, flip, inside, number, splice

CELLS = (
    "",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "0x10",
    "1_000",
    "9" * 5000,
    "9" * 40,
    "text",
    '"',
    '""',
    '"a\nb"',
    "\x00",
    "é",
    "٣",
    "-0",
    "1.5e-320",
    "True",
    "x" * 200_000,
    "1,2",
    ";",
    "\r",
    "0.1" * 30,
)
HEADERS = (
    b"(1000000000000, 3)",
    b"(-1, 3)",
    b"()",
    b"(3,)",
    b"(0, 3)",
    b"(40, 0)",
    b"(1, 40, 3)",
    b"(True, 3)",
    b"('a', 3)",
    b"(4.0, 3)",
    b"[40, 3]",
    b"((((((",
    b"(9223372036854775807, 9223372036854775807)",
    b"(40, 3, 1, 1, 1, 1, 1, 1, 1, 1)",
)
DTYPES = (
    b"'|O'",
    b"'<U0'",
    b"'|V0'",
    b"'<U99999999'",
    b"'<f8'",
    b"'<i2'",
    b"'|b1'",
    b"'<M8[s]'",
    b"[('a','<f4')]",
    b"'x'",
    b"'<c8'",
)


def message(parse: Callable[[bytes], Any]) -> Damage:
    """Fields of a protobuf message are set, cleared, doubled, or exchanged between like messages."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        try:
            root = parse(data)
        except Exception:
            return flip(data, rng)
        for _ in range(rng.choice((1, 1, 2, 4))):
            every = messages(root)
            one = rng.choice(every)
            fields = one.ListFields()
            if not fields or rng.random() < 0.2:
                _add(one, rng)
            else:
                name, value = rng.choice(fields)
                _change(one, name, value, every, rng)
        out: bytes = root.SerializeToString()
        return out

    return damage


def messages(root: Any) -> list[Any]:
    """A message and those inside it, up to a few thousand."""
    every, at = [root], 0
    while at < len(every) < 3000:
        for field, value in every[at].ListFields():
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                every += list(value) if field.is_repeated else [value]
        at += 1
    return every


def _change(one: Any, field: Any, value: Any, every: list[Any], rng: random.Random) -> None:
    if rng.random() < 0.15:
        one.ClearField(field.name)
    elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
        like = [m for m in every if m.DESCRIPTOR is field.message_type]
        drawn = type(like[0])()
        drawn.CopyFrom(rng.choice(like))
        if drawn.ByteSize() > 1 << 20:
            return
        if not field.is_repeated:
            getattr(one, field.name).CopyFrom(drawn)
        elif rng.random() < 0.3:
            del value[rng.randrange(len(value)) :]
        else:
            value.extend([drawn] * rng.choice((1, 1, 1, 50)))
    elif field.message_type is None:
        _scalar(one, field, value, rng)


def _scalar(one: Any, field: Any, value: Any, rng: random.Random) -> None:
    def odd(old: Any) -> Any:
        if isinstance(old, bool):
            return not old
        if isinstance(old, int):
            return rng.choice(
                (-1, 0, 1, old + 1, 1 << 30, (1 << 31) - 1, rng.randrange(64), *((1 << 62,) if old > 1 << 31 else ()))
            )
        if isinstance(old, float):
            return rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e30))
        if isinstance(old, bytes):
            return rng.choice((b"", old[: len(old) // 2], old + b"\x00" * 8, flip(old, rng), b"\xff" * 9))
        return rng.choice(("", old + "x", old[::-1], "a" * 5000, "../../etc/passwd", "é", "Loop", "If", "ai.onnx", "x"))

    try:
        if not field.is_repeated:
            setattr(one, field.name, odd(value))
        elif rng.random() < 0.3:
            value.extend(list(value[:1]) * rng.choice((1, 1000)))
        else:
            value[rng.randrange(len(value))] = odd(value[0])
    except (ValueError, TypeError):
        one.ClearField(field.name)


def _add(one: Any, rng: random.Random) -> None:
    """A field that was not there."""
    if not one.DESCRIPTOR.fields:
        return
    field = rng.choice(one.DESCRIPTOR.fields)
    try:
        if field.message_type is not None and not field.is_repeated:
            getattr(one, field.name).SetInParent()
        elif field.message_type is not None:
            getattr(one, field.name).add()
        elif field.is_repeated:
            getattr(one, field.name).append(rng.choice((0, 1, -1, "x", b"x")))
        else:
            setattr(one, field.name, rng.choice((0, 1, 7, 1 << 30, "x", "../x", b"x")))
    except (ValueError, TypeError, AttributeError):
        one.ClearField(field.name)


def array_header(data: bytes, rng: random.Random) -> bytes:
    """The text before an array names another shape, type or order; its length is kept."""
    start = data.find(b"{")
    end = data.find(b"\n", start)
    if start < 0 or end < 0:
        return flip(data, rng)
    text = data[start:end]
    shape, descr = text.find(b"("), text.find(b"'descr': ") + 9
    if rng.random() < 0.6 and shape >= 0:
        text = text[:shape] + rng.choice(HEADERS) + b", }"
    elif rng.random() < 0.7:
        text = text[:descr] + rng.choice(DTYPES) + text[text.find(b",", descr) :]
    else:
        text = flip(text, rng)
    return data[:start] + text[: end - start].ljust(end - start) + data[end:]


def cells(data: bytes, rng: random.Random) -> bytes:
    """Cells, rows and separators of a table are odd."""
    rows = [line.split(",") for line in data.decode("utf-8", "replace").split("\n")]
    for _ in range(rng.choice((1, 1, 3))):
        if not rows:
            break
        row = rng.choice(rows)
        dice = rng.random()
        if dice < 0.6 and row:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
        elif dice < 0.7:
            row.extend([rng.choice(CELLS)[:20]] * rng.choice((1, 100_000)))
        elif dice < 0.8:
            rows.insert(rng.randrange(len(rows)), [])
        elif dice < 0.9:
            del row[: rng.randrange(len(row) + 1)]
        else:
            rows[:] = [list(cell) for cell in zip(*rows, strict=False)] or rows
    end = rng.choice(("\n", "\n", "\r\n", "\r", "\x0b"))
    return end.join(",".join(row) for row in rows).encode(
        rng.choice(("utf-8", "utf-8", "utf-16", "latin-1")), "replace"
    )


def zipped(damage: Damage) -> Damage:
    """The content of a gzip file is damaged, and the file is whole; or it unpacks to very much."""

    def packed(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.01:
            return gzip.compress(b"1,2,3,4\n" * 10 + rng.choice((b"1,", b"\n", b'"')) * 40_000_000, 1, mtime=0)
        try:
            return gzip.compress(damage(gzip.decompress(data), rng), 1, mtime=0)
        except (OSError, EOFError, zlib.error):
            return flip(data, rng)

    return packed


def png(data: bytes, rng: random.Random) -> bytes:
    """Chunks are changed, dropped, doubled or moved; checksums are right."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return flip(data, rng)
    i = rng.randrange(len(chunks))
    kind, body = chunks[i]
    dice = rng.random()
    if kind == b"IHDR" or dice < 0.3:
        head = bytearray(chunks[0][1])
        field = rng.randrange(7)
        value = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 60_000, 100_000, 1 << 30, (1 << 32) - 1))
        place = slice(4 * field, 4 * field + 4) if field < 2 else slice(6 + field, 7 + field)
        head[place] = value.to_bytes(4, "big") if field < 2 else bytes([value % 256])
        chunks[0] = (chunks[0][0], bytes(head))
    elif dice < 0.6:
        chunks[i] = (kind, number(body, rng) if body else b"x")
    elif dice < 0.7:
        chunks.insert(
            i,
            rng.choice(
                ((b"iCCP", b"a\x00\x00" + zlib.compress(bytes(10**7))), (b"acTL", bytes(8)), (b"tRNS", b"\xff"))
            ),
        )
    elif dice < 0.8:
        del chunks[i]
    else:
        chunks.insert(rng.randrange(len(chunks)), chunks[i])
    return data[:8] + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks
    )


def tiff(data: bytes, rng: random.Random) -> bytes:
    """A tag of the first directory has another number, type, count or value."""
    at = int.from_bytes(data[4:8], "little") if data[:2] == b"II" else -1
    count = int.from_bytes(data[at : at + 2], "little") if 0 < at < len(data) else 0
    if not count:
        return number(data, rng)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        entry = at + 2 + 12 * rng.randrange(count)
        field = rng.randrange(4)
        offset, size = ((0, 2), (2, 2), (4, 4), (8, 4))[field]
        odd = ((256, 257, 258, 259, 262, 273, 277, 338, 339), range(20), NUMBERS, (*NUMBERS, 3, 12, 32))[field]
        changed[entry + offset : entry + offset + size] = (rng.choice(list(odd)) % (1 << 8 * size)).to_bytes(
            size, "little"
        )
    if rng.random() < 0.1:
        after = at + 2 + 12 * count
        changed[after : after + 4] = struct.pack("<I", at)  # the next directory is this one
    return bytes(changed)


def jpeg(data: bytes, rng: random.Random) -> bytes:
    """A segment has another length, size or table."""
    places = [i for i in range(2, len(data) - 1) if data[i] == 0xFF and data[i + 1] not in (0, 0xFF)]
    if not places:
        return flip(data, rng)
    changed, at = bytearray(data), rng.choice(places)
    field = at + rng.randrange(1, 12)
    changed[field : field + 2] = (
        rng.choice(((0, 0), (255, 255), (0, 1), (0, 17), (234, 96))) if rng.random() < 0.7 else (rng.randrange(256), 0)
    )
    return bytes(changed)


def words(data: bytes, rng: random.Random) -> bytes:
    """Aligned words, which are offsets and lengths in flat buffers, are changed a little, exchanged or extreme."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        near = rng.random() < 0.75
        edge = min(len(changed), 1 << 13) if near else len(changed)
        at = 4 * rng.randrange(max(1, edge // 4))
        at = at if rng.random() < 0.6 else max(0, len(changed) - 4 - at)
        old = int.from_bytes(changed[at : at + 4], "little")
        other = 4 * rng.randrange(max(1, len(changed) // 4))
        drawn = int.from_bytes(changed[other : other + 4], "little")
        value = rng.choice((old + 4, old - 4, old + 1, drawn, rng.choice(NUMBERS), rng.getrandbits(32)))
        changed[at : at + 4] = (value % (1 << 32)).to_bytes(4, "little")
    return bytes(changed)


def footer(data: bytes, rng: random.Random) -> bytes:
    """The description at the end of a Parquet file is damaged, its length is right."""
    size = int.from_bytes(data[-8:-4], "little")
    if not 0 < size < len(data) - 8:
        return flip(data, rng)
    told = rng.choice((flip, number, splice))(data[-8 - size : -8], rng)
    return data[: -8 - size] + told + struct.pack("<I", len(told)) + data[-4:]


def journal(data: bytes, rng: random.Random) -> bytes:
    """A line holds other JSON with a right checksum, or lines are moved."""
    lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    body = rng.choice(JSON)(lines[i][9:], rng).replace(b"\n", b" ")
    lines[i] = b"%08x %b" % (zlib.crc32(body), body)
    if rng.random() < 0.3:
        rng.shuffle(lines)
    return b"\n".join(lines)


def _onnx(data: bytes) -> Any:
    import onnx

    return onnx.ModelProto.FromString(data)


def _saved_model(data: bytes) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString(data)


def damages(kind: str) -> tuple[Damage, ...]:
    """The ways in which a file of ``kind`` is damaged."""
    own: dict[str, tuple[Damage, ...]] = {
        "onnx": (*PLAIN, *(message(_onnx),) * 10),
        "savedmodel": (*PLAIN, *(message(_saved_model),) * 6),
        "tflite": (*PLAIN, *(words,) * 8),
        "npz": (*ZIP, inside(array_header), inside(array_header)),
        "npy": (*PLAIN, *(array_header,) * 4),
        "csv": (*PLAIN, *(cells,) * 6),
        "csv.gz": (*PLAIN, *(zipped(cells), zipped(flip), zipped(splice)) * 2),
        "parquet": (*PLAIN, *(footer,) * 4),
        "png": (*PLAIN, *(png,) * 5),
        "tiff": (*PLAIN, *(tiff,) * 5),
        "jpeg": (*PLAIN, *(jpeg,) * 4),
        "journal": (*PLAIN, *(journal,) * 6),
    }
    return own.get(kind, ZIP if kind in ("pt2", "keras") else JSON)


__all__ = ["ODD", "damages"]
