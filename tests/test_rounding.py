"""How to round, and what prepares a network for it: judged by the answers, and taken only where it helps clearly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks import breaking

from hasten.frontends.onnx import load
from hasten.graph import walk
from hasten.samples import load_samples
from hasten.search import harm, rounding, space
from hasten.search.build import build
from hasten.search.rounding import EQUALIZE, SMOOTH, Rounding
from hasten.trial import Step
from hasten.worker import CallFailed
from tests import networks

PLAIN = Rounding({"ranges": "mse", "bias": "kept"}, (), 1.0)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A network that int8 breaks, with 32 samples, as builders are told of it."""
    folder = tmp_path_factory.mktemp("broken")
    found = breaking.prepare(folder)
    with np.load(found.data) as stored:
        x = stored["x"][:32]
    store = load_samples({"x": x}).spool(folder / "samples", load(found.model).inputs)
    return {
        "source": str(found.model),
        "store": str(store.directory),
        "calibrate": list(range(32)),
        "cache": str(folder / "stats.npz"),
    }


def plain(*steps: Step) -> list[dict[str, Any]]:
    return [{"name": s.name, "options": s.options} for s in steps]


def test_preparations_take_most_of_the_harm_away(broken: dict[str, Any]) -> None:
    judged: dict[str, Any] = {"scheme": "openvino", "outputs": ["logits"], "classes": True, "methods": ["mse"]}
    harms = []
    for before in ((), (EQUALIZE,), (EQUALIZE, SMOOTH)):
        found = harm.choose_rounding(**broken, **judged, before=plain(*before))
        harms.append(min(found["harm"].values()))
    assert harms[1] < harms[0] / 5
    assert harms[2] < harms[0] / 5


def test_a_preparation_with_nothing_to_do_says_so(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "mlp.onnx")
    store = load_samples({"x": np.ones((8, 16), np.float32)}).spool(tmp_path / "samples", load(path).inputs)
    of: dict[str, Any] = {
        "source": str(path),
        "store": str(store.directory),
        "calibrate": [0, 1],
        "cache": str(tmp_path / "s.npz"),
    }
    lone = plain(Step(name="smooth", options={"insert": False, "worth": 1.0}))
    found = harm.choose_rounding(**of, scheme="openvino", outputs=["y"], classes=False, before=lone)
    assert list(found) == ["not_applicable"]


def test_one_scale_a_weight_reaches_both_judgement_and_artefact(broken: dict[str, Any], tmp_path: Path) -> None:
    judged: dict[str, Any] = {"scheme": "openvino", "outputs": ["logits"], "classes": True, "methods": ["mse"]}
    found = harm.choose_rounding(**broken, **judged, fixed={"per_channel": False})
    assert found["options"]["per_channel"] is False
    assert found["harm"] != harm.choose_rounding(**broken, **judged)["harm"]
    [variant] = space.first_variants("openvino", found["options"])
    steps = plain(space.CLEAN, space.as_step("quantize", variant))
    made = build(**broken, steps=steps, engine="onnxruntime", directory=str(tmp_path / "made"))
    for node in load(Path(made["artefact"])).graph.graph:
        weights = node.op_type == "DequantizeLinear" and walk.constant(node.inputs[0]) is not None
        scale = walk.constant(node.inputs[1]) if weights else None
        assert scale is None or scale.size == 1


class Asked:
    """Stands in for the comparison in the builder process: a harm by preparation."""

    def __init__(self, harms: dict[str, Any]) -> None:
        self.harms, self.said = harms, list[str]()
        self.run: Any = SimpleNamespace(
            over=lambda: False, per_tensor=False, say=lambda _, text: self.said.append(text)
        )

    def __call__(self, run: Any, scheme: str, before: Any = (), methods: Any = None) -> dict[str, Any]:
        found = self.harms[rounding.named(before)] if before else PLAIN.harm
        if isinstance(found, Exception):
            raise found
        if isinstance(found, str):
            return {"not_applicable": found}
        return {"options": {"ranges": "minmax" if methods is None else methods[0], "bias": "kept"}, "harm": {"": found}}


@pytest.mark.parametrize(
    ("harms", "best", "said"),
    [
        ({"equalize": 0.9, "smooth": 0.4, "equalize + smooth": 0.5}, (SMOOTH,), "int8 is prepared by smooth"),
        ({"equalize": 0.9, "smooth": 0.85, "equalize + smooth": 2.0}, (), "no preparation makes int8 clearly less"),
        ({"equalize": "in balance", "smooth": 0.2, "equalize + smooth": "none"}, (SMOOTH,), "equalize: in balance"),
        ({"equalize": CallFailed("Fault", "boom"), "smooth": 0.2, "equalize + smooth": 1}, (SMOOTH,), "failed: boom"),
    ],
)  # fmt: skip
def test_a_preparation_must_help_clearly(
    harms: dict[str, Any], best: tuple[Step, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(harms)
    monkeypatch.setattr(rounding, "_compared", asked)
    found = rounding.recovered(asked.run, "openvino", PLAIN)
    assert found.before == best
    assert found.options["ranges"] == ("minmax" if best else "mse")  # all methods are asked again behind it
    assert any(said in text for text in asked.said)


def test_one_that_takes_nearly_all_harm_away_ends_the_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked({"equalize + smooth": 0.01})  # any other would be a KeyError
    monkeypatch.setattr(rounding, "_compared", asked)
    assert rounding.recovered(asked.run, "openvino", PLAIN).before == (EQUALIZE, SMOOTH)


def test_looking_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked({"equalize + smooth": 0.5})
    monkeypatch.setattr(rounding, "_compared", asked)
    clock = iter([0.0, 1.0, 9.0])
    monkeypatch.setattr("hasten.search.rounding.time.monotonic", lambda: next(clock))
    assert rounding.recovered(asked.run, "openvino", PLAIN).before == (EQUALIZE, SMOOTH)
