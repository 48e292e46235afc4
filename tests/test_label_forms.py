"""Each notation of labels is read as it is meant, is told in one line, and scores as the plain labels do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hasten.errors import InputError
from hasten.metrics.readings import reading, seen
from hasten.model import TensorSpec
from hasten.samples import load_samples
from tests.forms import Form, forms, read, score, table

DOCS = Path(__file__).parents[1] / "docs" / "forms.md"
PLAIN = ("class numbers", "True and False", "multi-hot", "class map", "class map, ArgMax inside")


@pytest.mark.parametrize("form", forms(), ids=lambda form: form.name)
def test_a_form_scores_as_the_plain_labels_do(form: Form) -> None:
    told, labels = read(form)
    assert bool(told) == (form.name not in PLAIN)
    assert score(form, labels) == pytest.approx(score(form, form.plain))


def test_the_table_in_the_documentation_is_what_happens() -> None:
    assert table() in DOCS.read_text()


def test_a_regression_on_whole_numbers_stays_one() -> None:
    ages = np.random.default_rng(0).integers(1, 90, 50).astype(np.float32)
    assert reading(seen(ages), ages[:, None] + 0.5, ages, None) == ()


def test_a_metric_of_numbers_gets_numbers_as_they_are() -> None:
    signs = np.array([-1, 1, 1, -1])
    assert reading(seen(signs), signs[:, None] * 0.1, signs, "mse") == ()


def test_zeros_that_the_network_answers_too_are_no_holes() -> None:
    counts = np.random.default_rng(0).poisson(1.0, (20, 1, 8, 8)).astype(np.float32)
    assert reading(seen(counts), counts, counts, "mae") == ()


@pytest.mark.parametrize(
    ("labels", "names", "seen_there"),
    [
        (np.array(["cat", "dog"]), (), "the labels name 2 classes, and the network has 3"),
        (np.array(["cat", "elk"]), ("cat", "dog", "emu"), "label 'elk' is not in the list of classes"),
    ],
)
def test_names_that_do_not_fit_the_network_are_refused(
    labels: np.ndarray,
    names: tuple[str, ...],
    seen_there: str,
) -> None:
    with pytest.raises(InputError, match=seen_there) as found:
        reading(seen(labels), np.ones((2, 3)), labels, None, names)
    assert "classes.txt" in found.value.help


def test_stored_labels_are_written_anew(tmp_path: Path) -> None:
    data = {"x": np.ones((6, 2), np.float32), "labels": np.array([1, 2, 3, 1, 2, 3])}
    store = load_samples(data).spool(tmp_path / "s", (TensorSpec("x", ("N", 2), "float32"),))
    store.relabel(lambda label: label - 1)
    assert store.labels is not None
    assert np.asarray(store.labels).tolist() == [0, 1, 2, 0, 1, 2]
    masks = {"x": np.ones((3, 2), np.float32), "labels": [np.full((2, k + 1), 255) for k in range(3)]}
    store = load_samples(masks).spool(tmp_path / "m", (TensorSpec("x", ("N", 2), "float32"),))
    store.relabel(lambda label: (label > 0).astype(np.uint8))
    assert store.labels is not None
    assert [np.asarray(store.labels[k]).tolist() for k in range(3)] == [[[1] * (k + 1)] * 2 for k in range(3)]
