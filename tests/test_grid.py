"""Grids against the definition of ONNX QuantizeLinear and onnxruntime's own kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hasten.quant import grid as g

GRIDS = [g.U8, g.S8, g.S8_FULL, g.S7]
numbers = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def test_levels() -> None:
    assert [x.levels for x in GRIDS] == [255, 254, 255, 128]


@given(numbers, numbers, st.sampled_from(GRIDS))
def test_affine_represents_zero_and_covers_the_range(a: float, b: float, grid: g.Grid) -> None:
    low, high = min(a, b, 0), max(a, b, 0)
    scale, zero = g.affine(low, high, grid)
    assert scale.dtype == np.float32
    assert zero.dtype == grid.dtype
    assert g.fake_quantize(np.zeros(1, np.float32), scale, zero, grid)[0] == 0
    ends = np.array([low, high], np.float32)
    error = np.abs(g.fake_quantize(ends, scale, zero, grid) - ends)
    assert np.all(error <= 1.001 * scale)  # the zero point rounds by half a step, the value by another half


def test_affine_worked_example() -> None:
    scale, zero = g.affine(-1.0, 4.1, g.U8)
    assert scale == np.float32(0.02)
    assert zero == 50
    scale, zero = g.affine([0.0, -2.0], [2.55, 0.0], g.U8)
    np.testing.assert_array_equal(zero, [0, 255])


def test_a_dead_tensor_has_a_scale_that_survives_a_product() -> None:
    scale, zero = g.affine(0.0, 0.0, g.U8)
    assert zero == 0
    product = g.bias_scale(scale, g.symmetric(0.0, g.S8)[0])
    assert product >= np.finfo(np.float32).tiny


@given(st.floats(2.0**-20, 2.0**20, width=32), st.sampled_from(GRIDS))
def test_symmetric_keeps_both_ends(absmax: float, grid: g.Grid) -> None:
    scale, zero = g.symmetric(absmax, grid)
    ends = np.array([absmax, -absmax], np.float32)
    np.testing.assert_allclose(g.fake_quantize(ends, scale, zero, grid), ends, rtol=1e-5)
    assert zero == (128 if grid is g.U8 else 0)


@settings(deadline=None)  # the first call loads a runtime
@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32)), st.sampled_from([g.U8, g.S8_FULL]))
def test_quantize_is_the_kernel_of_onnxruntime(x: NDArray[Any], grid: g.Grid) -> None:
    scale, zero = g.affine(-30.0, 50.0, grid)
    (theirs,) = _kernel(grid).run(None, {"x": x, "scale": scale, "zero": zero})
    np.testing.assert_array_equal(g.quantize(x, scale, zero, grid), theirs)


def test_halves_go_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    np.testing.assert_array_equal(g.quantize(x, 1.0, 0, g.S8), [0, 2, 2, 0, -2])


def test_per_channel_is_a_loop_over_channels() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    scale, zero = g.affine(x.min(axis=(0, 2)), x.max(axis=(0, 2)), g.U8)
    whole = g.fake_quantize(x, scale, zero, g.U8, axis=1)
    for c in range(3):
        np.testing.assert_array_equal(whole[:, c], g.fake_quantize(x[:, c], scale[c], zero[c], g.U8))


def test_bias_codes_are_exact_to_half_a_step_and_overflow_is_said() -> None:
    bias = np.array([0.3, -7.0], np.float32)
    codes, scale = g.quantize_bias(bias, 0.02, np.array([0.001, 0.004]))
    assert codes.dtype == np.int32
    np.testing.assert_allclose(codes * scale, bias, atol=4e-5)
    dead = np.array([1e-15, 0.004])
    with pytest.raises(OverflowError, match="channel 0 does not fit int32 at scale 2e-17"):
        g.quantize_bias(bias, 0.02, dead)
    wider = g.fit_weight_scale(dead, bias, 0.02)
    codes, scale = g.quantize_bias(bias, 0.02, wider)
    np.testing.assert_allclose(codes * scale, bias, rtol=1e-6)
    assert wider[1] == np.float32(0.004)


def test_sqnr_of_uniform_noise_is_six_decibels_a_bit() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    y = g.fake_quantize(x, *g.affine(-1, 1, g.U8), g.U8)
    assert g.sqnr(x, y) == pytest.approx(20 * np.log10(2) * 8, abs=0.2)  # 48.2 dB: Oppenheim & Schafer
    assert g.sqnr(x, x) == np.inf
    assert g.sqnr(np.zeros(2), np.ones(2)) == -np.inf


def _kernel(grid: g.Grid) -> Any:
    import onnxruntime as ort
    from onnx import TensorProto, helper

    if grid not in _KERNELS:
        kind = TensorProto.UINT8 if grid is g.U8 else TensorProto.INT8
        graph = helper.make_graph(
            [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])],
            "g",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4]),
                helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
                helper.make_tensor_value_info("zero", kind, []),
            ],
            [helper.make_tensor_value_info("y", kind, [3, 4])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)
        _KERNELS[grid] = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return _KERNELS[grid]


_KERNELS: dict[g.Grid, Any] = {}
