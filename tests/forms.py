"""Labels as people have them: each form with outputs that it fits, and the same labels as metrics read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.metrics import auto_metric, resolve
from hasten.metrics.readings import reading, seen

Array = NDArray[Any]
N, RNG = 64, np.random.default_rng(3)


@dataclass(frozen=True)
class Form:
    """A notation of labels: ``given`` as the user has them, ``plain`` as metrics read them."""

    name: str
    scores: Array
    given: Array
    plain: Array
    metric: str | None = None
    names: Sequence[str] = ()


def softmax(classes: int, *inner: int) -> tuple[Array, Array]:
    """Scores [n, classes, ...] that sum to 1, and class numbers that are mostly the highest."""
    scores = RNG.random((N, classes, *inner)).astype(np.float32)
    scores /= scores.sum(axis=1, keepdims=True)
    labels = np.where(RNG.random((N, *inner)) < 0.8, scores.argmax(1), RNG.integers(0, classes, (N, *inner)))
    labels.reshape(-1)[:classes] = np.arange(classes)
    return scores, labels


def yes_or_no(*inner: int) -> tuple[Array, Array]:
    """Probabilities [n, ...] and answers that mostly agree."""
    scores = RNG.random((N, *inner)).astype(np.float32)
    labels = np.where(RNG.random(scores.shape) < 0.8, scores >= 0.5, RNG.integers(0, 2, scores.shape)).astype(np.int64)
    labels.reshape(-1)[:2] = 0, 1
    return scores, labels


@cache
def forms() -> list[Form]:
    """Every form of the table."""
    scores, classes = softmax(4)
    maps, map_classes = softmax(4, 6, 6)
    one, answers = yes_or_no()
    mask, pixels = yes_or_no(1, 8, 8)
    several, flags = yes_or_no(5)
    void = map_classes.copy()
    void[:, 0] = -100
    void_mask = pixels.copy()
    void_mask[:, :, 0] = -100
    names = np.array(["bird", "cat", "dog", "emu"])
    own = ["emu", "dog", "cat", "bird"]
    depth = (5 + RNG.random((N, 1, 8, 8)) * 20).astype(np.float32)
    measured = np.where(RNG.random(depth.shape) < 0.2, np.nan, depth + RNG.normal(0, 0.1, depth.shape))
    unknown = np.where(RNG.random(flags.shape) < 0.1, -100, flags)
    signed = np.where(unknown == -100, -1, unknown)
    chosen = maps.argmax(1)
    return [
        Form("class numbers", scores, classes, classes),
        Form("class numbers as floats", scores, classes.astype(np.float64), classes),
        Form("class numbers from 1", scores, classes + 1, classes),
        Form("one-hot", scores, np.eye(4)[classes], classes),
        Form("names of classes", scores, names[classes], classes),
        Form("names, with classes.txt", scores, np.array(own)[classes], classes, None, own),
        Form("0 and 1 as floats", one, answers.astype(np.float32), answers),
        Form("-1 and 1", one, answers * 2 - 1, answers),
        Form("1 and 2", one, answers + 1, answers),
        Form("True and False", one, answers.astype(bool), answers),
        Form("two names", one, np.array(["no", "yes"])[answers], answers),
        Form("multi-hot", several, flags, flags),
        Form("multi-hot as floats", several, flags.astype(np.float32), flags),
        Form("multi-hot as -1 and 1", several, flags * 2 - 1, flags),
        Form("multi-hot with -1 for unknown", several, signed, unknown),
        Form("mask of 0 and 255", mask, (pixels * 255).astype(np.uint8), pixels),
        Form("mask of 0 and 1 as floats", mask, pixels.astype(np.float32), pixels),
        Form("mask without the axis of 1", mask, (pixels[:, 0] * 255).astype(np.uint8), pixels, "dice"),
        Form("mask with void 255", mask, np.where(void_mask == -100, 255, void_mask), void_mask, "dice"),
        Form("class map", maps, map_classes.astype(np.uint8), map_classes),
        Form("class map with void 255", maps, np.where(void == -100, 255, void).astype(np.uint8), void),
        Form("class map with void -1", maps, np.where(void == -100, -1, void), void),
        Form("class map from 1, void 255", maps, np.where(void == -100, 255, void + 1), void),
        Form("class map, one-hot", maps, np.moveaxis(np.eye(4)[map_classes], -1, 1), map_classes),
        Form("class map, ArgMax inside", chosen, map_classes.astype(np.uint8), map_classes),
        Form("class map, ArgMax inside, void 255", chosen, np.where(void == -100, 255, void), void, "miou"),
        Form("numbers with NaN for holes", depth, measured, measured, "mae"),
        Form("numbers with 0 for holes", depth, np.nan_to_num(measured), measured, "rmse"),
    ]


def score(form: Form, labels: Array) -> tuple[str, float]:
    """The metric's name and value with these labels in place of the form's."""
    outputs = {"y": form.scores}
    metric = resolve(form.metric) if form.metric else auto_metric(outputs, labels)[0]
    return metric.name, metric.value(metric.rows(outputs, labels))


def read(form: Form) -> tuple[str, Array]:
    """What is told of the labels, and the labels as they are read."""
    steps = reading(seen(form.given), form.scores, form.given, form.metric, form.names)
    labels = form.given
    for step in steps:
        labels = np.stack([step.change(np.asarray(one)) for one in labels])
    return "; ".join(step.told for step in steps), labels


def table() -> str:
    """The forms in Markdown: what is told of each, and which metric is chosen."""
    rows = ["| labels | a line in the console | metric without `--metric` |", "|---|---|---|"]
    for form in forms():
        told, labels = read(form)
        metric = f"(`{form.metric}`)" if form.metric else f"`{score(form, labels)[0]}`"
        rows.append(f"| {form.name} | {told or '(none)'} | {metric} |")
    return "\n".join(rows)
