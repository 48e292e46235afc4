"""The conformance kits hold our own passes to what they promise, and notice one that breaks a promise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hasten.model import Model
from hasten.passes.clean import Clean
from hasten.passes.dynamic import QuantizeDynamic
from hasten.passes.quantize import Quantize
from hasten.protocols import Context, Pass
from hasten.testing import check_pass
from tests import tiny


@pytest.mark.parametrize("step", [Clean(), Quantize(), Quantize(scheme="openvino"), QuantizeDynamic()], ids=repr)
def test_every_pass_keeps_its_promises(step: Pass, tmp_path: Path) -> None:
    model = tiny.residual_cnn() if not isinstance(step, QuantizeDynamic) else tiny.mlp()
    made = check_pass(step, model, tiny.context(tiny.feeds(model)), tmp_path)
    assert made is not model


@dataclass(frozen=True)
class Spoils:
    """Edits its argument."""

    def __call__(self, model: Model, context: Context) -> Model:
        node = next(iter(model.graph.graph))
        node.name = "spoilt"
        return model


@dataclass(frozen=True)
class Forgets:
    """Changes the network without a word in its history."""

    def __call__(self, model: Model, context: Context) -> Model:
        return replace(model, graph=model.clone_graph())


@pytest.mark.parametrize(
    ("step", "why"), [(Spoils(), "leaves its argument alone"), (Forgets(), "adds itself to the history")]
)
def test_a_broken_promise_is_noticed(step: Any, why: str, tmp_path: Path) -> None:
    model = tiny.mlp()
    with pytest.raises(AssertionError, match=why):
        check_pass(step, model, tiny.context(tiny.feeds(model)), tmp_path)
