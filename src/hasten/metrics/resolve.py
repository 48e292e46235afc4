"""From a name, a ``package.module:function`` or a callable to a metric."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from hasten.errors import HastenError, InputError, UsageError
from hasten.metrics.classes import TopK, check_labels, class_axis, is_binary_head
from hasten.metrics.corpus import Auc, MacroF1
from hasten.metrics.pick import Array, Rows, chosen
from hasten.protocols import Metric
from hasten.registry import find

Outputs = Mapping[str, Array]
Function = Callable[[dict[str, Array], Array], Any]
Sample = tuple[Outputs, Array | None]  # the float network's outputs on a few samples, and their labels


@dataclass(frozen=True)
class Column:
    """Where a function's argument lies in a row: an output by name, or the labels (None)."""

    name: str | None
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class FromFunction:
    """A user's ``function(outputs, labels)``; ``corpus`` rows are its arguments, flattened."""

    function: Function
    name: str
    kind: str
    higher_is_better: bool = True
    needs_labels: bool = True
    columns: tuple[Column, ...] = ()

    def rows(self, outputs: Outputs, labels: Array) -> Rows:
        """[b] scores, or [b, numbers a sample] for a corpus value."""
        labels = np.asarray(labels)
        if self.kind != "corpus":
            scores = np.asarray(_call(self, outputs, labels), dtype=np.float64)
            if scores.shape != (len(labels),):
                raise _refused(self.name, f"it returned {list(scores.shape)} for {len(labels)} samples")
            return scores
        arrays = [labels if c.name is None else np.asarray(outputs[c.name]) for c in self.columns]
        for column, array in zip(self.columns, arrays, strict=True):
            if array.shape[1:] != column.shape:
                raise InputError(
                    f"metric {self.name!r} gives one value for all samples, but {column.name or 'labels'} changes "
                    f"from {list(column.shape)} to {list(array.shape[1:])} a sample",
                    help="return one score a sample [b] instead",
                )
        return np.concatenate([a.reshape(len(labels), -1).astype(np.float64) for a in arrays], axis=1)

    def value(self, rows: Rows) -> float:
        """The function's value for all of these samples, or the mean of its scores."""
        if self.kind != "corpus":
            return float(rows.mean())
        ends = np.cumsum([prod(c.shape) for c in self.columns])[:-1]
        parts = {
            c.name: part.reshape(len(rows), *c.shape).astype(c.dtype)
            for c, part in zip(self.columns, np.split(rows, ends, axis=1), strict=True)
        }
        labels = parts.pop(None)
        return float(_call(self, cast(Outputs, parts), labels))

    def reference(self, outputs: Outputs) -> Array:
        """The float network's first floating output stands in for labels."""
        return chosen(outputs, None)[1]


def _refused(name: str, why: str) -> InputError:
    return InputError(
        f"metric {name!r} cannot be used: {why}",
        help="return one number for all samples, or an array with one number a sample",
    )


def _call(metric: FromFunction, outputs: Outputs, labels: Array) -> Array:
    """The function's answer as numbers."""
    return _numbers(metric.name, metric.function, outputs, labels)


def _numbers(name: str, function: Function, outputs: Outputs, labels: Array) -> Array:
    try:
        answer = function(dict(outputs), labels)
    except HastenError:
        raise
    except Exception as error:
        raise InputError(
            f"metric {name!r} failed: {type(error).__name__}: {error}",
            help="it is called with a dict of output arrays [b, ...] and the labels [b, ...]",
        ) from error
    try:
        numbers = np.asarray(answer)
    except ValueError as error:
        raise _refused(name, "its answer is not one array of numbers") from error
    if numbers.dtype.kind not in "fiub":
        raise _refused(name, f"it returned {type(answer).__name__} {str(answer)[:40]!r}, not numbers")
    return numbers


def resolve(
    choice: str | Function | Metric,
    *,
    output: str | None = None,
    sample: Sample | None = None,
    higher_is_better: bool = True,
) -> Metric:
    """The metric that ``choice`` names.

    Args:
        choice: a built-in name, ``"package.module:function"``, a callable ``(outputs, labels) -> score``, or a metric.
        output: the output that a built-in metric looks at; the first floating one by default.
        sample: outputs and labels of two samples or more; a function is tried on them to see what it returns.
        higher_is_better: for functions only; built-in metrics know.

    Raises:
        UsageError: no metric or module has that name.
        InputError: the function fails, or returns something that is not a finite score, or a new one each time.
    """
    if isinstance(choice, str) and ":" not in choice:
        metric = cast(Metric, find("metrics", choice))
        return _looking_at(metric, output)
    if not isinstance(choice, str) and hasattr(choice, "rows") and hasattr(choice, "value"):
        return _looking_at(cast(Metric, choice), output)
    name = choice if isinstance(choice, str) else getattr(choice, "__name__", type(choice).__name__)
    function = _imported(choice) if isinstance(choice, str) else choice
    if not isinstance(function, type) and hasattr(function, "rows") and hasattr(function, "value"):
        return _looking_at(cast(Metric, function), output)
    if not callable(function):
        raise UsageError(f"metric {name!r} is not a function", help="give (outputs, labels) -> score")
    if sample is None:
        raise UsageError(f"metric {name!r} is a function and needs a sample to be tried on", help="pass sample=")
    return _from_function(function, name, sample, higher_is_better)


def _looking_at(metric: Metric, output: str | None) -> Metric:
    return metric if output is None else cast(Metric, replace(cast(Any, metric), output=output))


def _imported(path: str) -> Function:
    module, _, attribute = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a command has its own folder there, not the user's
    try:
        return cast(Function, getattr(import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"cannot load the metric {path!r}",
            cause=str(error),
            help="write package.module:function, importable from here",
        ) from error


def _from_function(function: Function, name: str, sample: Sample, higher_is_better: bool) -> FromFunction:
    outputs, labels = sample
    labelled = labels is not None
    answers = labels if labels is not None else chosen(outputs, None)[1]
    first, again = (_numbers(name, function, outputs, answers) for _ in range(2))
    if first.shape not in ((), (len(answers),)):
        raise _refused(name, f"it returned {list(first.shape)} for {len(answers)} samples")
    if not np.isfinite(first).all():
        raise _refused(name, f"it returned {'NaN' if np.isnan(first).any() else 'infinity'} for the float network")
    if not np.array_equal(first, again):
        raise _refused(name, "it returned two different values for the same outputs")
    columns: tuple[Column, ...] = ()
    kind = "corpus"
    if first.shape:
        kind = "binary" if np.isin(first, (0, 1)).all() else "score"
    else:
        named: list[tuple[str | None, Array]] = [(n, np.asarray(a)) for n, a in outputs.items()]
        named = [(n, a) for n, a in named if a.shape[:1] == (len(answers),)] + [(None, np.asarray(answers))]
        columns = tuple(Column(n, a.shape[1:], str(a.dtype)) for n, a in named)
    return FromFunction(
        function=function,
        name=name,
        kind=kind,
        higher_is_better=higher_is_better,
        needs_labels=labelled,
        columns=columns,
    )


def validate(metric: Metric, outputs: Outputs, labels: Array | None) -> None:
    """Try ``metric`` on the float network's outputs of the first samples; ``labels`` may be all of the data's.

    Raises:
        InputError: labels are missing, out of range or of the wrong shape; a score is NaN; two calls disagree.
    """
    if labels is None and metric.needs_labels:
        raise InputError(f"metric {metric.name!r} needs labels, and the data has none", help="use agreement or cosine")
    b = len(next(iter(outputs.values())))
    answers = np.asarray(labels) if labels is not None and metric.needs_labels else metric.reference(outputs)
    if isinstance(metric, TopK | MacroF1 | Auc):
        scores = chosen(outputs, metric.output)[1]
        classes = 2 if is_binary_head(scores) else scores.shape[class_axis(scores, answers[:b])]
        check_labels(answers, classes)
    first, again = (metric.rows(outputs, answers[:b]) for _ in range(2))
    if np.isnan(first).any():
        raise InputError(
            f"metric {metric.name!r} is NaN for the float network on sample {int(np.argwhere(np.isnan(first))[0][0])}"
        )
    if not np.array_equal(first, again):
        raise InputError(f"metric {metric.name!r} gives two different values for the same outputs")
