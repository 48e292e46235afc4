"""The Keras door: plain layers without TensorFlow, and nothing that runs code without being trusted."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hasten.errors import UsageError
from hasten.protocols import Door
from hasten.search.enter import enter
from hasten.testing import check_frontend
from tests.doors import kerases
from tests.doors.extras import needs, refused, run_example
from tests.reject import rejected

pytestmark = needs("keras", "torch", "h5py")


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kerases.make(tmp_path_factory.mktemp("mlp"), "mlp")


def answers(path: Path) -> tuple[dict[str, Any], list[Any]]:
    with np.load(path.parent / f"{path.stem}.npz") as found:
        feeds = {k: found[k] for k in found.files if not k.startswith("wanted")}
        return feeds, [found[k] for k in sorted(found.files) if k.startswith("wanted")]


@pytest.mark.parametrize("body", ["mlp", "cnn", "gelu", "two", pytest.param("bilstm", marks=pytest.mark.slow)])
def test_the_door_keeps_its_promises(tmp_path: Path, body: str) -> None:
    path = kerases.make(tmp_path, body)
    (tmp_path / "kit").mkdir()
    check_frontend("keras", path, *answers(path), tmp_path / "kit")


def test_both_other_forms_come_along(mlp: Path, tmp_path: Path) -> None:
    entered = enter(mlp, tmp_path)
    assert set(entered.forms) == {"onnx", "keras", "torch"}
    assert entered.origin.engine == "keras"
    assert entered.inputs[0].name == "row"
    assert entered.inputs[0].shape == ("batch", 7)


@pytest.mark.slow
def test_the_owners_file_runs_without_hasten(tmp_path: Path) -> None:
    entered = enter(kerases.make(tmp_path, "two"), tmp_path / "run")
    told = run_example(entered, tmp_path / "example")
    assert all(f"{o.name!r}: (2, " in told for o in entered.outputs)


def test_old_hdf5_needs_trust(tmp_path: Path) -> None:
    path = kerases.make(tmp_path, "mlp", "h5")
    refused(path, "mlp.h5 could run code", "legacy HDF5", "add trust=True")
    (tmp_path / "kit").mkdir()
    check_frontend("keras", path, *answers(path), tmp_path / "kit", trust=True)


def test_lambda_needs_trust_and_then_works(tmp_path: Path) -> None:
    path = kerases.make(tmp_path, "lambda")
    refused(path, "could run code", "Lambda", "add trust=True")
    (tmp_path / "kit").mkdir()
    check_frontend("keras", path, *answers(path), tmp_path / "kit", trust=True)


def test_custom_layers_need_their_module(mlp: Path, tmp_path: Path) -> None:
    path = edited(mlp, tmp_path / "custom.keras", lambda c: c["config"]["layers"][1].update(module="nobody.layers"))
    with rejected("cannot be loaded by Keras", "--module"):
        enter(path, tmp_path / "run", Door(trust=True))
    with rejected("no module 'nobody.here'", kind=UsageError):
        enter(path, tmp_path / "again", Door(trust=True, module="nobody.here"))


def edited(source: Path, target: Path, edit: Callable[[Any], object]) -> Path:
    """``source`` with its description edited."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as out:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "config.json":
                config = json.loads(data)
                edit(config)
                data = json.dumps(config).encode()
            out.writestr(name, data)
    return target


def layer(config: Any) -> Any:
    return config["config"]["layers"][1]


def other(module: str, kind: str, inner: dict[str, Any] | None = None) -> Callable[[Any], None]:
    def edit(config: Any) -> None:
        layer(config).update(module=module, class_name=kind, registered_name=kind)
        layer(config)["config"].update(inner or {})

    return edit


HOSTILE: dict[str, Callable[[Any], object]] = {
    "a function of os": other("os", "system"),
    "a class of subprocess": other("subprocess", "Popen"),
    "a layer that loads a SavedModel": other("keras.layers", "TFSMLayer", {"filepath": "evil"}),
    "a vocabulary in a file": other("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
    "a vocabulary from the network": other("keras.layers", "StringLookup", {"vocabulary": "http://127.0.0.1/x"}),
    "pickled torch": other("keras.layers", "TorchModuleWrapper", {"module": "gASV"}),
    "a tool of keras": other("keras.utils", "get_file"),
    "a module inside keras": other("keras.src.utils.file_utils", "get_file"),
    "a lambda": lambda c: layer(c)["config"].update(
        activation={"class_name": "__lambda__", "config": {"value": "x"}, "module": "builtins"}
    ),
    "an unknown function": lambda c: layer(c)["config"].update(
        activation={"class_name": "function", "config": "eval", "module": "builtins", "registered_name": "function"}
    ),
    "another registered name": lambda c: layer(c).update(registered_name="evil>Dense"),
    "a name that climbs": lambda c: layer(c)["config"].update(name="../../evil"),
    "a class that is no text": lambda c: layer(c).update(class_name=["Dense"]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_hostile_is_loaded(mlp: Path, tmp_path: Path, what: str) -> None:
    path = edited(mlp, tmp_path / "evil.keras", HOSTILE[what])
    refused(path, "evil.keras could run code when it is loaded", "add trust=True")


def test_a_loss_of_ones_own_does_no_harm(mlp: Path, tmp_path: Path) -> None:
    loss = {"class_name": "function", "config": "mine", "module": "my.losses", "registered_name": "mine"}
    path = edited(mlp, tmp_path / "loss.keras", lambda c: c.update(compile_config={"loss": loss}))
    assert enter(path, tmp_path / "run").inputs[0].name == "row"


def weights(mlp: Path, target: Path, write: Callable[[Any], None]) -> Path:
    """``mlp`` with its HDF5 file edited."""
    import h5py

    inner = target.with_suffix(".h5")
    with zipfile.ZipFile(mlp) as archive, zipfile.ZipFile(target, "w") as out:
        inner.write_bytes(archive.read("model.weights.h5"))
        with h5py.File(inner, "a") as file:
            write(file)
        for name in archive.namelist():
            out.writestr(name, inner.read_bytes() if name == "model.weights.h5" else archive.read(name))
    inner.unlink()
    return target


def test_weights_that_are_elsewhere(mlp: Path, tmp_path: Path) -> None:
    import h5py

    def link(file: Any) -> None:
        file["stolen"] = h5py.ExternalLink("/etc/passwd", "/")

    refused(weights(mlp, tmp_path / "link.keras", link), "link.keras could run code", "link to elsewhere")

    def external(file: Any) -> None:
        file.create_dataset("stolen", (4,), "u1", external=[("/etc/hostname", 0, 4)])

    refused(weights(mlp, tmp_path / "external.keras", external), "kept in another file")


def test_weights_with_an_address_beyond_all_files(mlp: Path, tmp_path: Path) -> None:
    path = tmp_path / "far.keras"
    with zipfile.ZipFile(mlp) as archive, zipfile.ZipFile(path, "w") as out:
        for name in archive.namelist():
            data = bytearray(archive.read(name))
            if name == "model.weights.h5":
                data[48] = 0xDF  # of the superblock's address of a driver's block, which was "none"
            out.writestr(name, bytes(data))
    refused(path, "far.keras has damaged weights", "too large")


def test_weights_that_claim_a_terabyte(mlp: Path, tmp_path: Path) -> None:
    def bomb(file: Any) -> None:
        file.create_dataset("bomb", (10**12,), "f4", chunks=(1024,))

    refused(weights(mlp, tmp_path / "bomb.keras", bomb), "bomb.keras is damaged", "of weights")


def test_an_input_that_claims_all_memory(mlp: Path, tmp_path: Path) -> None:
    def grow(config: Any) -> None:
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, 1 << 62]
        config["config"]["layers"] = config["config"]["layers"][:1]
        config["config"]["output_layers"] = config["config"]["input_layers"]

    path = edited(mlp, tmp_path / "vast.keras", grow)
    refused(path, "the input 'row' has the shape [None, 4611686018427387904]", "beyond all memory")


def test_damage_is_told(mlp: Path, tmp_path: Path) -> None:
    path = edited(mlp, tmp_path / "odd.keras", lambda c: c.clear())
    refused(path, "odd.keras is damaged")
    with zipfile.ZipFile(tmp_path / "none.keras", "w") as out:
        out.writestr("config.json", "{")
        out.writestr("metadata.json", "{}")
    refused(tmp_path / "none.keras", "none.keras is damaged")
