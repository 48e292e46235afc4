"""The PyTorch door: every kind of file that torch writes, and the engine that serves what comes through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hasten
from hasten import registry
from hasten.engines import torch as engine
from hasten.errors import InputError, UsageError
from hasten.frontends import torch as door
from hasten.search import baseline, conversion
from hasten.search.enter import enter
from hasten.search.field import Run
from hasten.testing import check_engine, check_frontend
from tests.doors import programs
from tests.doors.extras import needs
from tests.reject import rejected

pytestmark = needs("torch", "onnxscript")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.save(tmp_path_factory.mktemp("program") / "cnn.pt2")


@pytest.fixture(scope="module")
def images() -> Any:
    return np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)


def answers(module: Any, x: Any) -> Any:
    import torch

    with torch.inference_mode():
        return module.eval()(torch.from_numpy(x)).numpy()


def test_the_door_keeps_its_promises(program: Path, images: Any, tmp_path: Path) -> None:
    check_frontend("torch", program, {"input": images}, [answers(programs.cnn(), images)], tmp_path)


def test_the_engine_keeps_its_promises(program: Path, images: Any, tmp_path: Path) -> None:
    check_engine(
        registry.find("engines", "torch"), program, {"input": images}, [answers(programs.cnn(), images)], tmp_path
    )


@pytest.mark.slow
def test_bf16_answers_nearly_the_same_eager_and_compiled(program: Path, images: Any, tmp_path: Path) -> None:
    wanted = answers(programs.cnn(), images)
    for chosen in ({"precision": "bf16"}, {"precision": "bf16", "compile": True}):
        place = tmp_path / str(len(chosen))
        place.mkdir()
        runner = engine.load(engine.export(program, place, **chosen), chosen)  # type: ignore[arg-type]
        got = runner.run({"input": images})[0]
        assert got.dtype == np.float32
        assert 1e-5 < np.abs(got - wanted).max() / np.abs(wanted).max() < 0.3
        assert runner.executed().startswith("bf16")


def test_what_happens_inside_is_named_in_order(program: Path, images: Any) -> None:
    names = [name for name, _ in engine.inner(program, {}, {"input": images})]
    assert names[0] == "conv2d"
    assert names[-1] == "linear"


def test_a_state_dict_needs_its_module(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3, "state_dict": programs.make().state_dict()}, path)
    with rejected("weights.pth needs its module", "--module package.module:function"):
        enter(path, tmp_path / "run")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_with_its_module(tmp_path: Path, images: Any, prefix: str) -> None:
    import torch

    path = tmp_path / "weights.bin"  # the name says nothing
    torch.save({prefix + k: v for k, v in programs.make().state_dict().items()}, path)
    options = hasten.protocols.Door(module="tests.doors.programs:make")
    entered = enter(path, tmp_path / "run", options, {"input": images, "labels": np.zeros(3)})
    assert entered.origin.engine == "torch"
    runner = registry.find("engines", "torch").load(entered.forms["torch"], {})
    np.testing.assert_allclose(runner.run({"input": images})[0], answers(programs.make(), images), rtol=1e-5)


def test_safetensors_are_a_state_dict_too(tmp_path: Path, images: Any) -> None:
    from tests.test_safetensors import write

    path = tmp_path / "model.safetensors"
    write(path, {k: v.numpy() for k, v in programs.make().state_dict().items() if k != "0.bias"})
    options = hasten.protocols.Door(module="tests.doors.programs:make_pair")
    with rejected("do not fit", "0.bias"):
        enter(path, tmp_path / "one", options)
    write(path, {k: v.numpy() for k, v in programs.make().state_dict().items()})
    assert enter(path, tmp_path / "two", options).outputs[0].shape == ("batch", 10)


def test_a_module_that_cannot_be_found(tmp_path: Path) -> None:
    import torch

    torch.save(programs.make().state_dict(), tmp_path / "w.pt")
    with rejected("no function 'tests.doors.programs:mkae'", kind=UsageError):
        enter(tmp_path / "w.pt", tmp_path / "run", hasten.protocols.Door(module="tests.doors.programs:mkae"))


def test_weights_of_another_network(tmp_path: Path) -> None:
    import torch

    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "w.pt")
    with rejected("the weights of w.pt do not fit tests.doors.programs:make", "Missing key"):
        enter(tmp_path / "w.pt", tmp_path / "run", hasten.protocols.Door(module="tests.doors.programs:make"))


def test_no_sample_to_run_it_with(tmp_path: Path) -> None:
    import torch

    torch.save(programs.make().state_dict(), tmp_path / "w.pt")
    with rejected("does not say what it takes", "a pair"):
        enter(tmp_path / "w.pt", tmp_path / "run", hasten.protocols.Door(module="tests.doors.programs:make"))


@pytest.mark.parametrize("kind", ["pickle", "script"])
def test_what_runs_code_comes_in_with_trust(tmp_path: Path, images: Any, kind: str) -> None:
    import torch

    path = tmp_path / "model.pt"
    if kind == "script":
        torch.jit.trace(programs.cnn(), torch.from_numpy(images)).save(path)
    else:
        torch.save(programs.cnn(), path)
    with rejected("could run code", "add trust=True"):
        enter(path, tmp_path / "no")
    entered = enter(path, tmp_path / "yes", hasten.protocols.Door(trust=True), {"x": images})
    runner = engine.load(entered.forms["torch"], {})
    name = entered.inputs[0].name
    np.testing.assert_allclose(runner.run({name: images})[0], answers(programs.cnn(), images), rtol=1e-4, atol=1e-4)


def test_names_of_outputs_are_the_authors(tmp_path: Path) -> None:
    import torch

    class Two(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def forward(self, a: Any, b: Any) -> Any:
            return {"sum": a + b, "both": (a, b * 2)}

    path = programs.save(tmp_path / "two.pt2", Two(), (torch.ones(2, 3), torch.ones(2, 3)))
    entered = enter(path, tmp_path / "run")
    assert [i.name for i in entered.inputs] == ["a", "b"]
    assert [o.name for o in entered.outputs] == ["sum", "both_0", "both_1"]


def test_the_graph_tells_nothing_of_the_authors_disk(program: Path, tmp_path: Path) -> None:
    graph = enter(program, tmp_path / "run").graph.read_bytes()
    assert b"/site-packages/" not in graph
    assert str(Path(__file__).parent).encode() not in graph


def test_a_wrong_conversion_is_caught_and_the_first_node_named(program: Path, images: Any, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    entered = enter(program, tmp_path / "run")
    model = onnx.load(entered.graph)
    second = next(i for i in model.graph.initializer if i.dims == [16, 16, 3, 3])
    second.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(second) * 1.1, second.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    store = hasten.samples.load_samples({"input": images}).spool(tmp_path / "spool", entered.inputs)
    told = conversion.first_difference(
        "torch", str(entered.forms["torch"]), {}, str(tmp_path / "wrong.onnx"), str(store.directory), 0, 1e-3
    )
    assert told["node"] == "conv2d_1"
    assert told["error"] > 0.01


def test_optimize_takes_a_module_and_a_loader_as_they_are(tmp_path: Path) -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    module = programs.cnn()
    x = torch.randn(600, 3, 16, 16)
    with torch.no_grad():
        labels = module(x).argmax(1)
    module.train()
    heard: list[str] = []
    result = hasten.optimize(
        module,
        DataLoader(TensorDataset(x, labels), batch_size=37),
        max_drop="5%",
        engines=["onnxruntime", "torch"],
        seconds=0,
        listen=lambda event: heard.append(event.text),
        out=tmp_path / "out",
    )
    assert module.training, "left as it was"
    assert result.as_given.candidate.engine == "torch"
    assert result.as_given.executed == "f32 (eager)"
    assert any(text.startswith("conversion from torch: outputs agree within") for text in heard)
    assert result.metric == "top1"
    assert result.format == "torch"
    assert result.conversion is not None
    assert result.conversion < 1e-4
    assert "The network came as torch." in (tmp_path / "out" / "report.html").read_text()


def test_a_module_that_is_not_the_same_twice() -> None:
    import torch

    class Dice(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def forward(self, x: Any) -> Any:
            return x + torch.rand_like(x)

    with pytest.raises(InputError, match="Dice answers otherwise than its exported program"):
        hasten.optimize(Dice(), [(torch.zeros(4, 3), torch.zeros(4))])


def test_a_module_that_cannot_be_exported() -> None:
    import torch

    class Branch(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="the module Branch cannot be exported") as told:
        hasten.optimize(Branch(), [(torch.ones(4, 3), torch.zeros(4))])
    assert "torch.export" in told.value.help


def test_served_by_another_engine_is_the_baseline_there(program: Path, images: Any) -> None:
    run = Run.__new__(Run)
    run.forms, run.title = {"torch": program}, "cnn.pt2"
    with pytest.raises(UsageError, match="openvino cannot serve") as told:
        baseline.start_baseline(run, "openvino")
    assert "at hand as torch" in told.value.cause


def test_accepts_looks_at_the_content(program: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "model.onnx"
    renamed.write_bytes(program.read_bytes())
    assert door.accepts(renamed)
    (tmp_path / "x.pt2").write_bytes(b"PK\x03\x04 not a zip")
    assert not door.accepts(tmp_path / "x.pt2")
    assert not door.accepts(tmp_path)


@pytest.mark.slow
def test_a_result_is_verified_timed_and_run_without_hasten(program: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((700, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", input=x, labels=answers(programs.cnn(), x).argmax(1))
    place = tmp_path / "cnn.pt2"
    place.write_bytes(program.read_bytes())
    result = hasten.optimize(place, tmp_path / "data.npz", max_drop="5%", engines=["torch"], out=tmp_path / "out")
    assert {t.candidate.engine for t in result.trials} == {"torch"}
    assert (tmp_path / "out" / "model.pt2").exists()
    checked = hasten.verify(tmp_path / "out")
    assert checked["checks"][0]["ok"]
    assert [c["name"] for c in checked["checks"]] == ["files", "accuracy", "speed"]
    rows = hasten.bench([place, tmp_path / "out"], tmp_path / "data.npz", pairs=8)
    assert [row["engine"] for row in rows] == ["torch", "torch"]
    hide = "import sys, runpy; sys.modules['hasten'] = None; del sys.argv[0]; "
    hide += "runpy.run_path(sys.argv[0], None, '__main__')"
    command = [sys.executable, "-W", "ignore", "-c", hide, str(tmp_path / "out" / "example.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "'output': (1, 10) float32" in done.stdout
