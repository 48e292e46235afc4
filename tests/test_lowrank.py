"""Low rank: the loss is what the discarded singular values say, and two layers compute what their product would."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from hasten.errors import UsageError
from hasten.graph import evaluate, walk
from hasten.model import Model
from hasten.passes.factorize import Factorize, candidates, spectra
from hasten.passes.quantize import Quantize
from hasten.protocols import NotApplicable, Pass
from hasten.quant.lowrank import break_even, lost, spatial_svd, whitened_svd
from tests import tiny


def layer(seed: int, k: int = 18, outputs: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((500, k)) @ (random.standard_normal((k, k)) * np.geomspace(1, 0.01, k)[:, None])
    x -= x.mean(0)
    return random.standard_normal((outputs, k)), x, x.T @ x / len(x)


@pytest.mark.parametrize("rank", [1, 3, 7, 10])
def test_the_loss_is_the_discarded_energy_exactly(rank: int) -> None:
    w, x, s = layer(0)
    svd = whitened_svd(w, s, damp=0)
    found = svd.factors(rank)
    assert found.a.shape == (10, rank)
    assert found.b.shape == (rank, 18)
    measured = np.sqrt(np.square(x @ (w - found.a @ found.b).T).sum(1).mean())
    assert measured == pytest.approx(np.sqrt(np.square(svd.sigma[rank:]).sum()), rel=1e-6, abs=1e-8)
    share = measured**2 / np.square(x @ w.T).sum(1).mean()
    assert svd.losses()[rank] == pytest.approx(share, rel=1e-6, abs=1e-12)
    assert lost(w, found, s) == pytest.approx(share, rel=1e-6, abs=1e-12)


def test_no_other_factors_of_that_rank_lose_less() -> None:
    w, _, s = layer(1)
    best = lost(w, whitened_svd(w, s, damp=0).factors(4), s)
    u, sigma, vt = np.linalg.svd(w, full_matrices=False)
    plain = type(whitened_svd(w, s).factors(1))(u[:, :4] * sigma[:4], vt[:4])
    assert best < 0.8 * lost(w, plain, s)
    random = np.random.default_rng(0)
    for _ in range(50):
        b = whitened_svd(w, s).factors(4).b + 0.1 * random.standard_normal((4, 18))
        a = np.linalg.solve(b @ s @ b.T, b @ s @ w.T).T
        assert lost(w, type(plain)(a, b), s) >= best


def test_the_full_rank_is_the_layer_itself() -> None:
    w, _, s = layer(2)
    found = whitened_svd(w, s).factors(10)
    np.testing.assert_allclose(found.a @ found.b, w, atol=1e-6)
    assert lost(w, spatial_svd(w, s, (2, 3, 3)).factors(6), s) < 1e-6


def test_spatial_factors_spell_out_separable_filters() -> None:
    w, _, s = layer(3)
    cut = spatial_svd(w, s, (2, 3, 3))
    found = cut.factors(2)
    kernel = (found.a @ found.b).reshape(10, 2, 3, 3)
    horizontal = found.a.reshape(10, 2, 3)
    np.testing.assert_allclose(kernel, np.einsum("rch,orw->ochw", cut.vertical[:2], horizontal), atol=1e-12)
    losses = [cut.loss(rank) for rank in range(1, 7)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-6
    # the second filters are the least-squares answer to the first
    for _ in range(20):
        other = found.a + 0.01 * np.random.default_rng(0).standard_normal(found.a.shape)
        assert lost(w, type(found)(other, found.b), s) > losses[1]


def thin(random: np.random.Generator, *shape: int, rank: int = 3) -> np.ndarray:
    """Weights of low rank, nearly."""
    flat = random.standard_normal((shape[0], rank)) @ random.standard_normal((rank, int(np.prod(shape[1:]))))
    return (flat.reshape(shape) * 0.3 + 0.001 * random.standard_normal(shape)).astype(np.float32)


def low_rank_net() -> Model:
    random, net = np.random.default_rng(0), tiny.Net()
    w1, w2 = net.const(thin(random, 24, 3, 3, 3)), net.const(thin(random, 24, 24, 3, 3))
    x = net.add("Relu", net.add("Conv", "x", w1, net.w(24), pads=[1, 1, 1, 1]))
    x = net.add("Relu", net.add("Conv", x, w2, pads=[2, 0, 1, 1], strides=[2, 1], dilations=[1, 2]))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.add("Relu", net.add("Add", net.add("MatMul", x, net.const(thin(random, 24, 64))), net.w(64)))
    x = net.add("Relu", net.add("MatMul", x, net.const(thin(random, 64, 64))))
    net.add("Gemm", x, net.const(thin(random, 32, 64)), net.w(32), out="y", transB=1, alpha=0.5)
    return net.model({"x": ["batch", 3, 9, 9]}, {"y": ["batch", 32]})


def error(model: Model, other: Model, samples: list[dict[str, np.ndarray]]) -> float:
    a, b = (np.concatenate([o["y"] for o in evaluate.run(m.graph, samples)]) for m in (model, other))
    return float(np.square(a - b).sum() / np.square(a - a.mean(0)).sum())


@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_layers_of_low_rank_become_two(kind: str) -> None:
    model = low_rank_net()
    samples = [dict(s) for s in tiny.feeds(model, 200)]
    before = ir.to_proto(model.graph).SerializeToString()
    found = Factorize(kind=kind)(model, tiny.context(samples))
    ir.passes.common.CheckerPass(full_check=True)(found.graph)
    assert ir.to_proto(model.graph).SerializeToString() == before
    assert sum(walk.weight(n) is not None for n in found.graph.graph) > 5
    assert error(model, found, samples[:50]) < 0.03


@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_given_ranks_are_taken_and_full_ones_change_nothing(kind: str) -> None:
    model = low_rank_net()
    samples = [dict(s) for s in tiny.feeds(model, 60)]
    conv = [n.name for n in model.graph.graph if n.op_type == "Conv"][1]
    rank = 24 if kind == "channel" else 72
    asked = (f"{conv}={min(rank, 24)}:{kind}",)
    found = Factorize(ranks=asked)(model, tiny.context(samples))
    assert error(model, found, samples) < (1e-6 if kind == "channel" else 0.05)
    assert sum(n.op_type == "Conv" for n in found.graph.graph) == 3


def test_the_measured_loss_of_a_layer_is_the_promised_one() -> None:
    net = tiny.Net()
    net.add("Conv", "x", net.w(12, 6, 3, 3), net.w(12), out="y", pads=[1, 1, 1, 1])
    model = net.model({"x": ["batch", 6, 8, 8]}, {"y": ["batch", 12, 8, 8]})
    samples = [dict(s) for s in tiny.feeds(model, 128)]
    [(_, layer)] = list(spectra(model.graph, candidates(model.graph), lambda: iter(samples)))
    for rank, kind in ((4, "channel"), (8, "channel"), (5, "spatial"), (14, "spatial")):
        found = Factorize(ranks=(f"{model.graph.graph[0].name}={rank}:{kind}",))(model, tiny.context(samples))
        assert error(model, found, samples) == pytest.approx(layer.loss(rank, kind), rel=0.05)


def test_break_even() -> None:
    assert break_even(100, 100) == 50
    assert break_even(64, 576) == pytest.approx(57.6)


def test_what_cannot_be_factorised_is_an_answer() -> None:
    net = tiny.Net()
    net.add("MatMul", "x", net.const(np.eye(16, dtype=np.float32)), out="y")
    model = net.model({"x": ["batch", 16]}, {"y": ["batch", 16]})
    samples = tiny.feeds(model, 100)
    with pytest.raises(NotApplicable, match=r"no layer loses less than 0.01 of its answers"):
        Factorize()(model, tiny.context(samples))
    quantized = Quantize()(tiny.mlp(), tiny.context(tiny.feeds(tiny.mlp(), 2)))
    with pytest.raises(NotApplicable, match="the network is quantized already"):
        Factorize()(quantized, tiny.context([]))
    assert isinstance(Factorize(), Pass)


def test_wrong_options_say_what_is_right() -> None:
    with pytest.raises(UsageError, match=r"factorize has no kind 'space'\n  help: did you mean 'spatial'\?"):
        Factorize(kind="space")
    model = low_rank_net()
    name = model.graph.graph[0].name
    with pytest.raises(UsageError, match=r"factorize knows no linear node 'conv'\n  help: .*known: "):
        Factorize(ranks=("conv=3",))(model, tiny.context([]))
    with pytest.raises(UsageError, match=rf"factorize cannot give '{name}' the rank '99'\n  help: write 1 to 24"):
        Factorize(ranks=(f"{name}=99",))(model, tiny.context([]))
