"""Files that want to run code or fill the disk: refused with a sentence, a canary proves that nothing ran."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hasten import cli
from hasten.extras import pip
from hasten.frontends import torch as torch_door
from tests.doors import programs
from tests.doors.extras import needs, refused

torch_marks = needs("torch", "onnxscript")


def marked(function: Any) -> Any:
    for mark in torch_marks:
        function = mark(function)
    return function


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.save(tmp_path_factory.mktemp("program") / "cnn.pt2")


def node(graph: Any) -> Any:
    return graph["graph_module"]["graph"]["nodes"][0]


def sized(graph: Any, text: str) -> None:
    for value in graph["graph_module"]["graph"]["tensor_values"].values():
        for size in value["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = text


def spec(graph: Any, text: str) -> None:
    graph["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text


DEFAULT = '{"default_factory_module": "this", "default_factory_name": "s", "dict_context": []}'
TAMPERED: dict[str, Any] = {
    "an operator of os": lambda g: node(g).update(target="torch.os.system"),
    "an operator that maps files": lambda g: node(g).update(target="torch.ops.aten.from_file.default"),
    "an operator of a library": lambda g: node(g).update(target="torch.ops.evil.run.default"),
    "a call in a size": lambda g: sized(g, "open('CANARY', 'w')"),
    "an attribute in a size": lambda g: sized(g, "().__class__.__base__.__subclasses__()"),
    "a tower of powers": lambda g: sized(g, "9**9**9**9"),
    "a guard that calls": lambda g: g.update(guards_code=["open('CANARY', 'w')"]),
    "an import in the inputs": lambda g: spec(
        g, json.dumps([1, {"type": "collections.defaultdict", "context": DEFAULT, "children_spec": []}])
    ),
    "an import by an enum": lambda g: spec(
        g,
        '[1, {"type": "builtins.dict", "context": "[{\\"__enum__\\": true, \\"fqn\\": \\"this:s\\", '
        '\\"name\\": \\"x\\"}]", "children_spec": []}]',
    ),
    "a range of nonsense": lambda g: g.update(range_constraints={"open('CANARY')": {"min_val": 0, "max_val": None}}),
}


@marked
@pytest.mark.parametrize("what", TAMPERED)
def test_an_exported_program_that_was_tampered_with(program: Path, tmp_path: Path, what: str) -> None:
    canary = tmp_path / "canary"

    path = programs.tampered(program, tmp_path / "evil.pt2", graph=TAMPERED[what], words={"CANARY": str(canary)})
    refused(path, "evil.pt2 could run code when it is loaded", "add trust=True", canary=canary)


@marked
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("guards_code", {"a": 1}, "guards_code is no list"),
        ("range_constraints", 1e308, "range_constraints is no dict"),
        ("fqn", "0", "not the whole"),
    ],
)
def test_an_exported_program_with_the_wrong_kind_of_value(
    program: Path, tmp_path: Path, field: str, value: Any, words: str
) -> None:
    def damage(graph: Any) -> None:
        (graph["graph_module"]["module_call_graph"][0] if field == "fqn" else graph)[field] = value

    refused(programs.tampered(program, tmp_path / "odd.pt2", graph=damage), "odd.pt2", words)


@marked
@pytest.mark.parametrize(
    "member", ["data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/aotinductor/model/model.so", "x.py"]
)
def test_an_exported_program_with_something_beside(program: Path, tmp_path: Path, member: str) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps(programs.Runs(canary))
    path = programs.tampered(program, tmp_path / "evil.pt2", members={member: data})
    word = "cannot be optimised" if "aotinductor" in member else "could run code"
    refused(path, word, canary=canary)


@marked
def test_a_pickle_among_the_constants(program: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    def edit(config: Any) -> None:
        config["config"]["evil"] = {
            "path_name": "opaque_obj_0",
            "is_param": False,
            "use_pickle": True,
            "tensor_meta": None,
        }

    path = programs.tampered(program, tmp_path / "evil.pt2", config=edit)
    refused(path, "could run code", "may be a pickle", canary=canary)


@marked
def test_torch_would_run_the_pickled_sample_inputs_and_hasten_does_not(program: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = programs.pickled(programs.Runs(canary))
    path = programs.tampered(program, tmp_path / "evil.pt2", members={"data/sample_inputs/model.pt": evil})
    refused(path, "evil.pt2 could run code", "a pickle", canary=canary)
    code = (
        f"import torch, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); torch.export.load({str(path)!r})"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, timeout=120)
    assert canary.exists(), "torch itself falls back to unpickling: the test above means something"


@marked
@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "weights.bin"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_not_loaded_whatever_it_is_called(tmp_path: Path, name: str, legacy: bool) -> None:
    import torch

    canary = tmp_path / "canary"
    torch.save({"w": programs.Runs(canary)}, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    refused(tmp_path / name, f"{name} could run code when it is loaded", "add trust=True", canary=canary)


@marked
def test_a_bare_pickle_with_os_system(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = b"\x80\x02cposix\nsystem\nX" + struct.pack("<I", len(f"touch {canary}")) + f"touch {canary}".encode()
    (tmp_path / "model.pkl").write_bytes(payload + b"\x85R.")
    assert torch_door.accepts(tmp_path / "model.pkl")
    refused(tmp_path / "model.pkl", "could run code", canary=canary)


def zipped(path: Path, entries: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as out:
        for name, data in entries.items():
            out.writestr(name, data)
    return path


@marked
def test_a_zip_bomb(tmp_path: Path) -> None:
    zeros = b"\0" * (400 << 20)
    path = zipped(
        tmp_path / "bomb.pt2",
        {"a/models/model.json": zeros, "a/archive_format": b"pt2"},
        compression=zipfile.ZIP_DEFLATED,
        compresslevel=1,
    )
    refused(path, "bomb.pt2 is a zip bomb", "would unpack to")


@marked
def test_names_that_leave_the_archive_or_repeat(program: Path, tmp_path: Path) -> None:
    path = programs.tampered(program, tmp_path / "climb.pt2", members={"../../evil": b"x"})
    refused(path, "climb.pt2 is a damaged archive", "leaves the archive")
    with zipfile.ZipFile(tmp_path / "twice.pt2", "w") as out:
        out.writestr("a/models/model.json", "{}")
        out.writestr("b/models/model.json", "{}")
        out.infolist()[1].filename = "a/models/model.json"
    refused(tmp_path / "twice.pt2", "repeats")


@marked
def test_links_and_passwords_and_crowds(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/models/model.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.pt2", "w") as out:
        out.writestr(link, "/etc/passwd")
    refused(tmp_path / "link.pt2", "link.pt2 holds a link")
    whole = bytearray(zipped(tmp_path / "locked.pt2", {"a/models/model.json": b"{}"}).read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.pt2").write_bytes(whole)
    refused(tmp_path / "locked.pt2", "locked.pt2 is encrypted")
    zipped(tmp_path / "crowd.pt2", {"a/models/model.json": b"{}", **{f"a/{k}": b"" for k in range(10_001)}})
    refused(tmp_path / "crowd.pt2", "10,002 entries")


@marked
def test_a_checksum_that_is_wrong(program: Path, tmp_path: Path) -> None:
    whole = bytearray(program.read_bytes())
    at = whole.index(b'"graph_module"')
    whole[at + 3] ^= 1
    (tmp_path / "bad.pt2").write_bytes(whole)
    refused(tmp_path / "bad.pt2", "bad.pt2 is a damaged archive", "CRC")


@marked
def test_what_torch_writes_and_nobody_can_optimise(tmp_path: Path) -> None:
    zipped(tmp_path / "package.pt", {"m/.data/extern_modules": b"", "m/code.py": b"import os"})
    refused(tmp_path / "package.pt", "package.pt cannot be read", "torch.package", "torch.export")
    zipped(tmp_path / "old.pt2", {"serialized_exported_program.json": b"{}", "version": b"8.5"})
    refused(tmp_path / "old.pt2", "old.pt2 cannot be read", "2.7 and older")


OTHERS: dict[str, tuple[str, bytes, str]] = {
    "a TFLite file with bad offsets": ("m.tflite", b"\xff\xff\xff\x7fTFL3" + b"\xff" * 64, ""),
    "GGUF": ("m.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 1 << 63), "GGUF language model"),
    "an XML bomb": ("m.xml", b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aa">]><net>&a;</net>', "XML"),
    "a gzip bomb": ("m.onnx.gz", zlib.compress(b"\0" * 1000, wbits=31), "gzip"),
    "a tar": ("m.tar", b"m/\0" + b"\0" * 509, ""),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_formats_are_told_what_they_are(tmp_path: Path, what: str) -> None:
    name, data, word = OTHERS[what]
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, word)


def test_a_repository_that_brings_code(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    (repository / "evil.py").write_text("open('canary', 'w')")
    refused(repository, "is a repository", "evil.py", canary=repository / "canary")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-00001-of-00002.safetensors"}}')
    refused(tmp_path / "model.safetensors.index.json", "model-00001-of-00002.safetensors")


def test_jax_is_told_the_route(tmp_path: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "_CHECKPOINT_METADATA").write_text("{}")
    refused(tmp_path / "ckpt", "JAX checkpoint", "jax2onnx")


HIDDEN = {
    "torch": ("torch", "weights.pt", pip("torch")),
    "keras": ("keras", "model.keras", pip("keras")),
    "tensorflow": ("tensorflow", "saved", pip("tensorflow")),
}


def empty(kind: str, folder: Path) -> Path:
    """The smallest file that its door lets in, made without its framework."""
    path = folder / HIDDEN[kind][1]
    if kind == "torch":
        return zipped(path, {"w/data.pkl": pickle.dumps({}), "w/version": b"3"})
    if kind == "keras":
        network = b'{"class_name": "Sequential", "module": "keras", "registered_name": null, "config": {"layers": []}}'
        return zipped(path, {"config.json": network, "metadata.json": b"{}", "model.weights.h5": b"\x89HDF\r\n\x1a\n"})
    path.mkdir()
    node_def = b"\x0a\x01x\x12\x0bPlaceholder"
    side = b"\x0a\x01x\x12\x05\x0a\x03x:0"
    signature = bytes([0x0A, len(side)]) + side + bytes([0x12, len(side)]) + side
    entry = b"\x0a\x01s" + bytes([0x12, len(signature)]) + signature
    graph = bytes([0x0A, len(node_def)]) + node_def
    meta = bytes([0x12, len(graph)]) + graph + bytes([0x2A, len(entry)]) + entry
    (path / "saved_model.pb").write_bytes(b"\x08\x01" + bytes([0x12, len(meta)]) + meta)
    return path


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_missing_extra_gives_its_pip_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package, _, line = HIDDEN[kind]
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed here")
    assert cli.main(["inspect", str(empty(kind, tmp_path))]) == 4
    told = capsys.readouterr().err
    assert "error: reading" in told
    assert line in told
    assert "Traceback" not in told


def test_the_parent_loads_no_framework(tmp_path: Path) -> None:
    path = empty("torch", tmp_path)
    code = (
        "import sys; from hasten import cli; cli.main(['inspect', sys.argv[1]]); "
        "assert not {'torch', 'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt"]
    assert done.stderr.startswith("error:")
