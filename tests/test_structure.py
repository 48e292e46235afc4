"""Less work: what sizes cost and save, which are chosen, and what the search makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

import hasten
from hasten.budget import parse_budget
from hasten.errors import InputError, UsageError
from hasten.graph import edit, evaluate, walk
from hasten.graph.work import multiplications
from hasten.measure import steps as stairs
from hasten.model import Model
from hasten.passes.sparsify import METHODS, Sparsify
from hasten.protocols import Feeds, NotApplicable
from hasten.quant.allocate import Option
from hasten.samples import load_samples
from hasten.search import forms, offers, shrink, structure, zeros
from hasten.search.finalists import CLEARLY
from hasten.search.objective import better, gain
from hasten.search.shrink import Knob
from hasten.trial import Candidate, Quality, Step, Timing, Trial
from tests import tiny
from tests.test_prune import error, smooth, wide


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A network with far too many channels and 150 samples, as builders are told of it."""
    folder = tmp_path_factory.mktemp("shrink")
    model = wide()
    model.save(folder / "wide.onnx")
    x = np.concatenate([one["x"] for one in smooth(model, 150, 1)])
    store = load_samples({"x": x}).spool(folder / "samples", model.inputs)
    return {
        "source": str(folder / "wide.onnx"),
        "store": str(store.directory),
        "calibrate": list(range(150)),
        "cache": str(folder / "stats.npz"),
    }


def test_multiplications_are_those_of_the_formula() -> None:
    net = tiny.Net()
    x = net.conv("x", 3, 6, 3, strides=[2, 2])  # 4 x 4 places
    x = net.conv(x, 6, 6, 3, group=6)
    x = net.add("ConvTranspose", x, net.w(6, 4, 2, 2), strides=[2, 2])
    x = net.add("Flatten", x)
    net.add("Gemm", net.add("MatMul", x, net.w(256, 5)), net.w(7, 5), transB=1, out="y")
    model = net.model({"x": [2, 3, 8, 8]}, {"y": [2, 7]})
    found = multiplications(model, lambda: iter(tiny.feeds(model, 1, batch=2)))
    assert list(found.values()) == [2 * 16 * 6 * 27, 2 * 16 * 6 * 9, 2 * 16 * 6 * 4 * 4, 2 * 5 * 256, 2 * 7 * 5]


def test_each_knob_loses_more_and_works_less(material: dict[str, Any]) -> None:
    for way in ("prune", "factorize"):
        found = shrink.survey(**material, way=way)
        knobs = msgspec.convert(found["knobs"], list[Knob])
        assert len(knobs) >= 2
        for knob in knobs:
            assert knob.told[0] == ""
            assert knob.loss[0] == pytest.approx(0, abs=1e-9)
            assert max(knob.work) == knob.work[0] <= 2 * found["work"]
            assert max(knob.numbers) == knob.numbers[0] <= found["numbers"]
            if way == "prune":
                assert list(knob.loss) == sorted(knob.loss)
                assert list(knob.work) == sorted(knob.work, reverse=True)
                assert all(int(told) % 8 == 0 for told in knob.told[1:])


def test_what_has_nothing_to_take_out_says_so(tmp_path: Path) -> None:
    net = tiny.Net()
    net.add("Softmax", net.add("MatMul", "x", net.w(8, 8)), out="y", axis=-1)
    model = net.model({"x": [1, 8]}, {"y": [1, 8]})
    model.save(tmp_path / "one.onnx")
    store = load_samples({"x": np.ones((30, 8), np.float32)}).spool(tmp_path / "samples", model.inputs)
    given = {"store": str(store.directory), "calibrate": [0, 1], "cache": str(tmp_path / "stats.npz")}
    found = shrink.survey(source=str(tmp_path / "one.onnx"), way="prune", **given)  # type: ignore[arg-type]
    assert "no channels can go" in found["not_applicable"]


def test_what_looks_alike_is_timed_once_and_the_deadline_holds(
    material: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Mapping[int, Model]] = []

    def times(models: Mapping[int, Model], engine: Any, settings: Any, inputs: Feeds) -> dict[int, float]:
        seen.append(models)
        for model in models.values():
            evaluate.run(model.graph, [inputs])
        return {i: 1.0 / (1 + i) for i in models}

    monkeypatch.setattr(stairs, "times", times)
    for way in ("prune", "factorize"):
        seen.clear()
        knobs = shrink.survey(**material, way=way)["knobs"]
        given: dict[str, Any] = {"way": way, "engine": "onnxruntime", "settings": {}, "batch": 2, "knobs": [*knobs]}
        quantize = [{"name": "quantize", "options": {"ranges": "mse"}}]
        found = shrink.clock(**material, **given, steps=quantize, seconds=60)
        assert set(found) == {knob["name"] for knob in knobs}
        assert all(len(found[knob["name"]]) == len(knob["told"]) for knob in knobs)
        assert len(seen) == len(knobs)
        kinds = {n.op_type for models in seen for model in models.values() for n in model.graph.graph}
        assert "QuantizeLinear" in kinds
        assert shrink.clock(**material, **given, steps=[], seconds=-1) == {}


@pytest.mark.parametrize("fault", [stairs.DoesNotRun("no such value"), InputError("cannot run")])
def test_a_part_that_does_not_run_by_itself_has_no_times(
    material: dict[str, Any], monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    found = clocked_with(fault, material, monkeypatch)
    assert sorted(map(bool, found.values())) == [False, *[True] * (len(found) - 1)]


def test_a_fault_of_ours_in_the_clock_is_not_swallowed(
    material: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="ours"):
        clocked_with(ValueError("ours"), material, monkeypatch)


def clocked_with(fault: Exception, material: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """What the clock by layer finds when the first part raises ``fault``."""
    knobs, asked = shrink.survey(**material, way="prune")["knobs"], list[int]()

    def times(models: Mapping[int, Model], engine: Any, settings: Any, inputs: Feeds) -> dict[int, float]:
        asked.append(len(models))
        if len(asked) == 1:
            raise fault
        return dict.fromkeys(models, 1.0)

    monkeypatch.setattr(stairs, "times", times)
    given: dict[str, Any] = {"way": "prune", "engine": "onnxruntime", "settings": {}, "batch": 1, "steps": []}
    found = shrink.clock(**material, **given, knobs=knobs, seconds=60)
    assert len(found) == len(knobs)
    return found


def test_what_was_not_timed_is_told_by_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = {n: Knob(n, ("", "8"), (0.0, 0.1), (9.0, 4.0), (9.0, 4.0)) for n in "abcd"}
    notes, base = list[str](), Candidate(steps=(Step(name="clean"),), engine="onnxruntime", label="clean")
    run: Any = SimpleNamespace(deadline=inf, work=SimpleNamespace(batch=1))
    run.say = lambda kind, text, *_: notes.append(text) if kind == "note" else None
    monkeypatch.setattr(offers, "material", lambda *_: {})
    timed = [2.0, 1.0]
    read: list[dict[str, list[float]]] = [{"b": []}, {"b": [], "c": timed, "d": timed}, {}]
    for ms in ({"a": timed, **more} for more in read):
        run.once = lambda *_, ms=ms: ms
        assert set(offers.clocked(run, base, "prune", knobs)) == set(ms) - {"b"}
    told = "prune: the clock was read for {} of 4 layers ({})"
    assert notes == [
        told.format(1, "1 unable to run alone, 2 left when 12 s were over"),
        told.format(3, "1 unable to run alone"),
        told.format(1, "3 left when 12 s were over"),
    ]


def test_the_clock_by_layer_is_told_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = list[str]()
    run: Any = SimpleNamespace(deadline=inf, work=SimpleNamespace(batch=1), once=lambda *step: step[-1]())
    run.say = lambda kind, text: heard.append(f"{kind}: {text}")
    base = Candidate(steps=(Step(name="clean"),), engine="onnxruntime", label="int8")
    monkeypatch.setattr(offers, "material", lambda *_: {})

    def clock(*_: object, **__: object) -> dict[str, list[float]]:
        heard.append("read")
        return {"a": [2.0, 1.0]}

    monkeypatch.setattr(offers, "in_workshop", clock)
    offers.clocked(run, base, "prune", {"a": Knob("a", ("", "8"), (0.0, 0.1), (9.0, 4.0), (9.0, 4.0))})
    assert heard == ["trial: int8: the clock by layer for prune, 12 s at most", "read"]


def test_a_dead_branch_does_not_keep_alive_what_it_reads() -> None:
    def branch(name: str, sign: str) -> onnx.GraphProto:
        out = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return onnx.helper.make_graph([onnx.helper.make_node(sign, ["h"], [name])], name, [], [out])

    net = tiny.Net()
    h = net.add("Relu", "x", out="h")
    condition = net.add("Less", net.add("ReduceSum", h, keepdims=0), net.const(np.float32(1)))
    net.add("If", condition, out="z", then_branch=branch("a", "Neg"), else_branch=branch("b", "Abs"))
    net.add("Exp", "x", out="y")
    graph = net.model({"x": [4]}, {"y": [4]}).graph
    edit.prune(graph)
    assert [node.op_type for node in graph.graph] == ["Exp"]


def test_the_choice_that_saves_enough_loses_least() -> None:
    options = {
        "dear": [Option(0, 0.0, 4.0), Option(1, 1.0, 2.0)],
        "cheap": [Option(0, 0.0, 4.0), Option(1, 0.1, 3.0), Option(2, 0.3, 2.0)],
        "free": [Option(0, 0.0, 1.0), Option(1, 0.0, 0.5)],
    }
    chosen = [offers.saving(options, least) for least in (0.5, 1.5, 2.5, 4.5, 5.0)]
    sizes = [None if one is None else [one.chosen[n].size for n in options] for one in chosen]
    assert sizes == [[0, 0, 1], [0, 1, 1], [0, 2, 1], [1, 2, 1], None]


def test_bolder_plans_stop_where_they_no_longer_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"a": [Option(i, i * i / 400, 10 - i / 2) for i in range(20)]}
    asked: list[float] = []

    def holds(chosen: Mapping[str, Option], taught: bool = False) -> bool:
        asked.append(-1 if taught else 10 - chosen["a"].ms)
        return chosen["a"].ms >= 7.5

    plan: Any = SimpleNamespace(holds=holds, certain=lambda _: True, run=SimpleNamespace(over=lambda: False))
    for able in (False, True):
        asked.clear()
        monkeypatch.setattr(structure, "teachable", lambda _, able=able: able)
        structure.bolder(plan, options, 10.0)
        assert asked == [1.0, 2.0, 3.0, 2.5, 3.0, *[-1] * able]
    asked.clear()
    structure.bolder(plan, {}, 10.0)
    assert asked == []
    plan.certain = lambda chosen: chosen["a"].ms >= 8.5
    monkeypatch.setattr(structure, "teachable", lambda _: False)
    structure.bolder(plan, options, 10.0)
    assert asked == [1.0, 2.0, 3.0, 1.5, 2.0], "from what is certain to what is doubtful"


def test_the_last_stop_is_all_that_the_knobs_can_save() -> None:
    options = {
        "a": [Option(0, 0.0, 4.0), Option(1, 0.1, 3.0), Option(2, 0.9, 1.5)],
        "b": [Option(0, 0.0, 1.0), Option(1, 0.3, 0.0)],
    }
    assert offers.stops(options, 10.0) == pytest.approx([1.0, 2.0, 3.0, 3.5])
    last = offers.saving(options, offers.stops(options, 10.0)[-1])
    assert last is not None
    assert [last.chosen[n].size for n in options] == [2, 1]
    assert offers.stops(options, 71.0) == [], "a twentieth of the time is not within reach"
    assert offers.stops({}, 10.0) == []


def test_what_comes_behind_a_cut_sees_what_it_left(material: dict[str, Any]) -> None:
    whole = shrink.survey(**material, way="prune")
    group = whole["knobs"][0]
    cut = [{"name": "prune", "options": {"counts": [f"{group['name']}={group['told'][-1]}"]}}]
    rest = shrink.survey(**material, way="factorize", before=cut)
    assert rest["numbers"] < whole["numbers"]
    assert {knob["name"] for knob in rest["knobs"]} <= {
        knob["name"] for knob in shrink.survey(**material, way="factorize")["knobs"]
    }
    given: dict[str, Any] = {"way": "factorize", "engine": "onnxruntime", "settings": {}, "batch": 1, "steps": []}
    ms = shrink.clock(**material, **given, knobs=rest["knobs"][:1], seconds=60, before=cut)
    assert [len(times) for times in ms.values()] == [len(rest["knobs"][0]["told"])]


def test_a_candidate_keeps_the_precision_and_says_what_is_gone() -> None:
    base = Candidate(steps=(Step(name="clean"), Step(name="quantize")), engine="onnxruntime", settings={}, label="int8")
    knobs = {
        "a": Knob("a", ("", "8"), (0.0, 0.1), (60.0, 30.0), (6.0, 3.0)),
        "b": Knob("b", ("", "4"), (0.0, 0.1), (40.0, 10.0), (4.0, 1.0)),
    }
    plan: Any = structure.Shrinking(SimpleNamespace(), base, "prune", knobs, 100.0)  # type: ignore[arg-type]
    made = plan.candidate({"a": Option(1, 0.1, 30.0), "b": Option(0, 0.0, 40.0)})
    assert [s.name for s in made.steps] == ["clean", "prune", "quantize"]
    assert made.steps[1].options == {"counts": ["a=8"]}
    assert made.label == "int8, pruned in 1 of 2 places (30% less)"
    assert offers.structural(base) == 1
    assert offers.structural(made) == 2
    assert offers.before(made) == made.steps[1:2]
    plan = structure.Shrinking(SimpleNamespace(), made, "factorize", knobs, 100.0)  # type: ignore[arg-type]
    both = plan.candidate({"b": Option(1, 0.1, 10.0)}, taught=True)
    assert [s.name for s in both.steps] == ["clean", "prune", "factorize", "distill", "quantize"]


def test_a_cut_that_held_is_tried_on_engines_that_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, narrow, cut = Step(name="clean"), Step(name="quantize"), Step(name="prune", options={"counts": ["a=8"]})

    def trial(engine: str, speedup: float, *steps: Step, drop: float = 0.0) -> Trial:
        timed = Timing(speedup=speedup, low=1.0, high=9.0, pairs=9, median_ms=1.0, baseline_ms=1.0)
        seen = Quality(
            split="search", metric="top1", n=512, baseline=0.9, value=0.9 - drop, drop=drop, lower=0.0, upper=drop,
            p_value=0.01, method="tango", met=True, flips=int(512 * drop),
        )  # fmt: skip
        candidate = Candidate(steps=(clean, *steps), engine=engine, settings={}, label=f"{engine} int8")
        return Trial(candidate=candidate, status="ok", timing=timed, search=seen)

    trials = [
        trial("first", 4.0, narrow), trial("first", 5.0, cut, narrow), trial("second", 3.0, narrow),
        trial("second", 3.5, Step(name="quantize", options={"ranges": "mse"})), trial("far", 2.0, narrow),
        trial("wrong", 4.0, narrow, drop=0.1), trial("second", 3.9, Step(name="quantize", options={"exclude": ["a"]})),
    ]  # fmt: skip
    run: Any = SimpleNamespace(
        trials={t.candidate.key: t for t in trials}, engines=dict.fromkeys(["first", "second", "far", "wrong"]),
        objective="latency", proof=parse_budget("1%"), deadline=np.inf,
        splits=SimpleNamespace(confirm=range(2000), search=range(300), pilot_is_small=False),
        over=lambda: False, evaluator=SimpleNamespace(store=SimpleNamespace(sequential=False)),
    )  # fmt: skip
    monkeypatch.setattr(forms, "takes", lambda _: [forms.GRAPH])
    tried, raced = list[Candidate](), list[str]()

    def stands(_: Any, candidate: Candidate) -> bool:
        tried.append(candidate)
        return True

    monkeypatch.setattr(structure, "stands", stands)
    monkeypatch.setattr(structure, "race", lambda _, keys, rounds: raced.extend(keys))
    base, lesser = trials[0].candidate, replace(trials[1].candidate, label="first int8, pruned")
    structure.elsewhere(run, base, lesser)
    [found] = tried
    assert found.engine == "second"
    assert found.steps == (clean, cut, Step(name="quantize", options={"ranges": "mse"}))
    assert found.label == "second int8, pruned"
    assert raced == [lesser.key, found.key]
    structure.elsewhere(run, base, base)
    structure.elsewhere(run, base, None)
    assert len(tried) == 1


def test_both_ways_are_tried_together_where_one_was_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = SimpleNamespace(splits=SimpleNamespace(lossless_only=False), seconds=900.0, asked=900.0)
    clean, narrow = Step(name="clean"), Step(name="quantize")
    for taken, expected in (
        (["prune"], ["factorize"]),
        (["factorize"], ["prune"]),
        ([], []),
        (["prune", "distill"], []),
    ):
        steps = iter([(clean, narrow), (clean, *(Step(name=name) for name in taken), narrow)])
        asked: list[tuple[int, str]] = []
        monkeypatch.setattr(structure, "foundation", lambda *_, s=steps: Candidate(steps=next(s, (clean,)), engine="e"))
        monkeypatch.setattr(structure, "attempt", lambda _, base, kind, a=asked: a.append((len(base.steps), kind)))
        monkeypatch.setattr(structure, "drop_losers", lambda *_: None)
        monkeypatch.setattr(structure, "zeros", lambda *_: None)
        monkeypatch.setattr(structure, "elsewhere", lambda *_: None)
        structure.structure_stage(run, "tuned")
        assert asked == [(2, "prune"), (2, "factorize"), *((3, kind) for kind in expected)]


@pytest.fixture(scope="module")
def wide_net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """An MLP far too wide for inputs that have four degrees of freedom, and 3,000 of them."""
    net = tiny.Net(seed=3)
    h = net.add("Relu", net.add("Gemm", "x", net.w(512, 64), net.w(512), transB=1))
    h = net.add("Relu", net.add("Gemm", h, net.w(512, 512), net.w(512), transB=1))
    net.add("Gemm", h, net.w(6, 512), net.w(6), out="y", transB=1)
    model = net.model({"x": ["batch", 64]}, {"y": ["batch", 6]})
    path = tmp_path_factory.mktemp("net") / "wide.onnx"
    model.save(path)
    random = np.random.default_rng(0)
    return path, (random.standard_normal((3000, 4)) @ random.standard_normal((4, 64))).astype(np.float32)


@pytest.mark.slow
def test_a_search_prunes_what_is_too_wide_and_tells_of_zeros(wide_net: tuple[Path, np.ndarray]) -> None:
    path, x = wide_net
    result = hasten.optimize(path, {"x": x}, max_drop="agree:97%", engines=["onnxruntime"], batch=64, seconds=300)
    less = [t for t in result.trials if {s.name for s in t.candidate.steps} & {"prune", "factorize"}]
    proven = [t for t in less if t.confirm is not None and t.confirm.met]
    assert proven, [(t.status, t.reason) for t in result.trials]
    won, told = result.winner.timing, [(t.candidate.label, t.timing) for t in proven]
    assert won is not None
    assert all(t.timing.low <= CLEARLY * won.low for t in proven if t.timing is not None), told  # what each promises
    zeroed = [t for t in result.trials if any(s.name == "sparsify" for s in t.candidate.steps)]
    assert zeroed, "zeros are answered: by a measured figure, or by a candidate where the probe gained"
    assert all("gains from zeros" in t.reason for t in zeroed if t.status == "skipped")
    assert all(t.reason for t in result.trials if t.status != "ok")


def test_bytes_are_gained_only_where_nothing_is_lost_in_time() -> None:
    def timed(high: float) -> Timing:
        return Timing(speedup=high - 0.1, low=0.5, high=high, pairs=9, median_ms=1.0, baseline_ms=1.0)

    candidate = Candidate(steps=(), engine="onnxruntime")
    trials = {
        "given": Trial(candidate=candidate, status="ok", timing=timed(1.1), bytes=400, peak_bytes=90),
        "small": Trial(candidate=candidate, status="ok", timing=timed(1.3), bytes=100, peak_bytes=60),
        "slow": Trial(candidate=candidate, status="ok", timing=timed(0.9), bytes=50, peak_bytes=30),
        "untimed": Trial(candidate=candidate, status="ok", bytes=50),
    }
    run: Any = SimpleNamespace(trials=trials, given="given", objective="latency")
    assert [gain(run, key) for key in trials] == [1.0, pytest.approx(1.2), pytest.approx(0.8), 0.0]
    run.objective = "size"
    assert [gain(run, key) for key in trials] == [1.0, 4.0, 0.0, 0.0]
    run.objective = "memory"
    assert [gain(run, key) for key in trials] == [1.0, 1.5, 0.0, 0.0]
    assert better(run) == "leaner"
    with pytest.raises(UsageError, match=r"no objective is called 'sise'\n  help: did you mean 'size'\?"):
        hasten.optimize("model.onnx", objective="sise")


@pytest.mark.slow
def test_a_search_for_size_takes_the_smallest_that_is_proven(wide_net: tuple[Path, np.ndarray]) -> None:
    path, x = wide_net
    asked: dict[str, Any] = {"engines": ["onnxruntime"], "batch": 64, "objective": "size", "seconds": 300}
    result = hasten.optimize(path, {"x": x}, max_drop="agree:97%", **asked)
    assert result.verdict == "met", result.sentence
    assert "smaller" in result.sentence
    assert result.winner.bytes is not None
    assert result.as_given.bytes is not None
    proven = [t.bytes for t in result.trials if t.confirm is not None and t.confirm.met and t.bytes]
    assert result.winner.bytes == min(proven)
    int8 = next(t for t in result.trials if [s.name for s in t.candidate.steps] == ["clean", "quantize_dynamic"])
    assert int8.bytes is not None
    assert result.winner.bytes < int8.bytes


def test_zeros_are_offered_only_where_they_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, recorded, offered = list[str](), list[Any](), list[str]()
    trials = {n: SimpleNamespace(candidate=SimpleNamespace(engine=n), status="ok") for n in ("onnxruntime", "openvino")}
    run: Any = SimpleNamespace(
        over=lambda: False, engines={"onnxruntime": None, "openvino": None}, trials=trials, stage="",
        say=lambda _, text: heard.append(text), record=recorded.append,
    )  # fmt: skip
    base = Candidate(steps=(Step(name="clean"),), engine="openvino", settings={}, label="float")
    found = {"onnxruntime": {"2:4": 1.004, "0.75": 0.99}, "openvino": {"2:4": 1.0, "0.75": 1.02}}
    monkeypatch.setattr(zeros, "gained", lambda _, name: found[name])
    monkeypatch.setattr(zeros, "offer", lambda _, name, settings, gains: offered.append(name))
    zeros.zeros(run, base)
    assert heard == ["no engine here gains from zeros (measured onnxruntime ×1.00, openvino ×1.02)"]
    assert [t.reason for t in recorded] == heard
    assert not offered
    found["openvino"]["0.75"] = 1.4
    zeros.zeros(run, base)
    assert offered == ["openvino"]


def test_the_probe_measures_both_patterns() -> None:
    found = zeros.probe("onnxruntime")
    assert set(found) == set(zeros.PATTERNS)
    assert all(0 < gain < np.inf for gain in found.values()), "whatever else the machine does meanwhile"


@pytest.mark.parametrize("pattern", ["2:4", "0.5"])
def test_zeros_are_where_the_pattern_says_and_the_rest_makes_up_for_them(pattern: str) -> None:
    model = wide()
    context, test = tiny.context(smooth(model, 200, 1)), smooth(model, 60, 2)
    errors = {}
    for method in METHODS:
        sparse = Sparsify(pattern=pattern, method=method)(model, context)
        errors[method] = error(model, sparse, test)
        for node in sparse.graph.graph:
            weight = walk.weight(node)
            if weight is not None and node.op_type != "Gemm":
                array = walk.constant(weight.value)
                assert array is not None
                rows = array.reshape(len(array), -1) if node.op_type == "Conv" else array.T
                fours = rows.shape[1] // 4 * 4 / rows.shape[1] if pattern == "2:4" else 1  # the rest of a row stays
                assert (rows == 0).mean() == pytest.approx(0.5 * fours, abs=0.03)
                if pattern == "2:4":
                    whole = rows[:, : rows.shape[1] // 4 * 4].reshape(-1, 4)
                    assert ((whole == 0).sum(1) >= 2).all()
    assert errors["sparsegpt"] < 0.7 * errors["wanda"]
    assert errors["wanda"] < errors["magnitude"]


def test_wrong_patterns_say_what_is_right() -> None:
    with pytest.raises(UsageError, match=r"sparsify cannot read the pattern '4:2'\n  help: write 0\.5 or 2:4"):
        Sparsify(pattern="4:2")
    with pytest.raises(UsageError, match=r"sparsify has no method 'wands'\n  help: did you mean 'wanda'\?"):
        Sparsify(method="wands")
    net = tiny.Net()
    net.add("Relu", "x", out="y")
    with pytest.raises(NotApplicable, match="no linear layer could be thinned out"):
        Sparsify()(net.model({"x": [1, 8]}, {"y": [1, 8]}), tiny.context([]))
