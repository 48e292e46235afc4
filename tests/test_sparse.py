"""Masks and error compensation: against the textbook's loop, which solves for each column anew."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.quant.sparse import Pattern, lowest, magnitude, parse_pattern, sparsegpt, wanda


def layer(seed: int, k: int = 24, rows: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((300, k)) @ random.standard_normal((k, k)) * 0.4
    return random.standard_normal((rows, k)), x, x.T @ x / len(x)


def textbook(w: np.ndarray, s: np.ndarray, pattern: Pattern, damp: float, block: int) -> np.ndarray:
    """Column by column with the inverse of what is left, computed anew: Hassibi & Stork, no Cholesky, no blocks."""
    w, k = w.copy(), w.shape[1]
    h = s + damp * np.mean(np.diag(s)) * np.eye(k)

    def left(j: int) -> np.ndarray:
        return np.linalg.inv(h[j:, j:])

    diagonal = np.array([left(j)[0, 0] for j in range(k)])
    gone = np.zeros(w.shape, bool)
    for j in range(k):
        if pattern.of and j % pattern.of == 0:
            span = slice(j, j + pattern.of)
            gone[:, span] = lowest(w[:, span] ** 2 / diagonal[span], pattern)
        elif not pattern.of and j % block == 0:
            span = slice(j, min(j + block, k))
            gone[:, span] = lowest(w[:, span] ** 2 / diagonal[span], pattern)
        inverse = left(j)
        for row in range(len(w)):
            if gone[row, j]:
                w[row, j:] -= w[row, j] / inverse[0, 0] * inverse[0]
    return w


@pytest.mark.parametrize("pattern", [Pattern(2, 4), Pattern(4, 8), Pattern(0.5), Pattern(0.25)])
@pytest.mark.parametrize("block", [8, 24, 128])
def test_sparsegpt_equals_the_textbook_loop(pattern: Pattern, block: int) -> None:
    w, _, s = layer(0)
    found = sparsegpt(w, s, pattern, 0.01, block)
    np.testing.assert_allclose(found, textbook(w, s, pattern, 0.01, block), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("text", ["2:4", "1:4", "0.5", "0.75"])
def test_every_method_leaves_the_zeros_it_says(text: str) -> None:
    w, _, s = layer(1)
    pattern = parse_pattern(text)
    for found in (magnitude(w, pattern), wanda(w, s, pattern), sparsegpt(w, s, pattern)):
        zeros = found == 0
        if pattern.of:
            assert (zeros.reshape(len(w), -1, pattern.of).sum(2) == pattern.zeros).all()
        else:
            assert (zeros.sum(1) == round(pattern.zeros * w.shape[1])).all()


def test_compensation_loses_less_than_a_mask_from_data_and_that_less_than_one_without() -> None:
    losses = []
    for seed in range(20):
        w, x, s = layer(seed)
        x *= np.random.default_rng(seed).uniform(0.1, 3, x.shape[1])
        s = x.T @ x / len(x)
        pattern = Pattern(2, 4)
        ways = (sparsegpt(w, s, pattern), wanda(w, s, pattern), magnitude(w, pattern))
        losses.append([np.square(x @ (found - w).T).sum() for found in ways])
    compensated, masked, blind = np.mean(losses, axis=0)
    assert compensated < 0.8 * masked
    assert masked < 0.8 * blind


def test_wanda_ranks_by_weight_times_norm() -> None:
    w = np.array([[1.0, 2.0, 3.0, 4.0]])
    s = np.diag([100.0, 1.0, 1.0, 0.01])
    assert wanda(w, s, Pattern(0.5)).tolist() == [[1, 0, 3, 0]]


def test_columns_that_are_never_fed_go_first() -> None:
    w, x, _ = layer(2)
    x[:, 5] = 0
    assert (sparsegpt(w, x.T @ x / len(x), Pattern(2, 4))[:, 5] == 0).all()


@pytest.mark.parametrize("text", ["4:2", "0:4", "1.5", "half", "2:x", "0"])
def test_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_pattern(text)
