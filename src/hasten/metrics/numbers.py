"""Errors of numbers: root mean square, share of variance explained, percentage, quantile loss, correlation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hasten.metrics import totals
from hasten.metrics.pick import Array, Rows, chosen
from hasten.metrics.values import beside, counted, mean_counted

SMALLEST = 1e-8  # of a target, for an error in percent of it


@dataclass(frozen=True, kw_only=True)
class RootMeanSquare:
    """The root of the mean squared error over all numbers, in the output's unit. Rows are (squares, numbers)."""

    name: str = "rmse"
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = False
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: sum of squared errors, and count."""
        values, wanted = beside(outputs, self.output, labels, self.name)
        wanted, weights = counted(values, wanted)
        return np.stack([(weights * (values - wanted) ** 2).sum(axis=1), weights.sum(axis=1)], axis=1)

    def value(self, rows: Rows) -> float:
        """The root of the mean."""
        return totals.of_all(rows, _root)

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the error [resamples]."""
        return totals.of_resamples(rows, _root)

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own output."""
        return chosen(outputs, self.output)[1]


def _root(sums: Rows) -> Rows:
    return np.asarray(np.sqrt(totals.ratio(sums[:, 0], sums[:, 1])))


@dataclass(frozen=True, kw_only=True)
class PercentageError:
    """The mean of ``|output - label| / |label|`` over all numbers; labels within ``smallest`` of 0 do not count."""

    name: str = "mape"
    smallest: float = SMALLEST
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = False
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 2]: sum of shares, and count."""
        values, wanted = beside(outputs, self.output, labels, self.name)
        used = np.abs(wanted) > self.smallest  # not where it is NaN
        shares = np.where(used, np.abs(values - wanted) / np.where(used, np.abs(wanted), 1), 0)
        shares = np.where(np.isnan(values), np.nan, shares)
        return np.stack([shares.sum(axis=1), used.sum(axis=1)], axis=1).astype(np.float64)

    def value(self, rows: Rows) -> float:
        """The mean share; NaN where no label counts."""
        return totals.of_all(rows, lambda sums: totals.ratio(*sums.T))

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the mean share [resamples]."""
        return totals.of_resamples(rows, lambda sums: totals.ratio(*sums.T))

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own output."""
        return chosen(outputs, self.output)[1]


@dataclass(frozen=True, kw_only=True)
class QuantileLoss:
    """Pinball loss of the ``quantile``: a number below the label costs ``quantile``, one above it the rest."""

    name: str = "quantile_50"
    quantile: float = 0.5
    output: str | None = None
    kind: str = "score"
    higher_is_better: bool = False
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """The loss of each sample: [b], in the output's unit."""
        values, wanted = beside(outputs, self.output, labels, self.name)
        wanted, weights = counted(values, wanted)
        above = values - wanted
        return mean_counted(np.where(above < 0, -self.quantile * above, (1 - self.quantile) * above), weights)

    def value(self, rows: Rows) -> float:
        """The mean."""
        return float(rows.mean())

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own output."""
        return chosen(outputs, self.output)[1]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Share of variance explained (``r2``) or Pearson's correlation, of outputs and labels over all samples.

    Outputs [b] and [b, k] have a value for each column, and the score is their mean. Larger outputs are one column.
    Columns whose labels are all the same do not count. A row has seven numbers for each column: the sample's means of
    outputs and labels; within the sample the centred sums of both squares and of products; squared errors; a count.
    """

    name: str = "r2"
    score: str = "r2"
    output: str | None = None
    kind: str = "corpus"
    higher_is_better: bool = True
    needs_labels: bool = True

    def rows(self, outputs: Mapping[str, Array], labels: Array) -> Rows:
        """[b, 7 columns]: the seven numbers, each for all columns."""
        values, wanted = beside(outputs, self.output, labels, self.name)
        wanted, weights = counted(values, wanted)
        if chosen(outputs, self.output)[1].ndim <= 2:
            nothing = np.zeros_like(values)
            parts = [values, wanted, nothing, nothing, nothing, (values - wanted) ** 2, weights]
            return np.concatenate(parts, axis=1)
        number = weights.sum(axis=1, keepdims=True)
        means = [(weights * t).sum(axis=1, keepdims=True) / np.maximum(number, 1) for t in (values, wanted)]
        x, y = values - means[0], wanted - means[1]
        sums = [(weights * t).sum(axis=1, keepdims=True) for t in (x * x, y * y, x * y, (values - wanted) ** 2)]
        return np.concatenate([*means, *sums, number], axis=1)

    def value(self, rows: Rows) -> float:
        """The mean over columns; NaN where the labels of every column are all the same."""
        return float(self.weighted(rows)(np.ones((1, len(rows))))[0])

    def weighted(self, rows: Rows) -> Callable[[Rows], Rows]:
        """Counts [resamples, n] of each row to the score [resamples]; centring comes first, for large offsets."""
        mean_x, mean_y, xx, yy, xy, error, number = rows.reshape(len(rows), 7, -1).transpose(1, 0, 2)
        total = np.maximum(number.sum(axis=0), 1)
        x, y = (m - (number * m).sum(axis=0) / total for m in (mean_x, mean_y))
        parts = [number, number * x, number * y, xx + number * x * x, yy + number * y * y, xy + number * x * y, error]

        def counted(counts: Rows) -> Rows:
            n, sx, sy, sxx, syy, sxy, lost = (counts @ part for part in parts)
            safe = np.maximum(n, 1)
            var_x, var_y, both = sxx - sx * sx / safe, syy - sy * sy / safe, sxy - sx * sy / safe
            floor = 1e-14 * np.maximum(syy, 1e-300)
            varies = var_y > floor
            if self.score == "r2":
                return totals.mean_of_defined(np.where(varies, 1 - lost / np.where(varies, var_y, 1), np.nan))
            spread = np.sqrt(np.maximum(var_x, 0) * np.maximum(var_y, 0))
            flat = var_x <= 1e-14 * np.maximum(sxx, 1e-300)
            found = np.where(flat, 0.0, np.clip(both / np.where(spread > 0, spread, 1), -1, 1))
            return totals.mean_of_defined(np.where(varies, found, np.nan))

        return counted

    def reference(self, outputs: Mapping[str, Array]) -> Array:
        """The float network's own output."""
        return chosen(outputs, self.output)[1]


RMSE = RootMeanSquare()
MAPE = PercentageError()
QUANTILE_10 = QuantileLoss(name="quantile_10", quantile=0.1)
QUANTILE_50 = QuantileLoss()
QUANTILE_90 = QuantileLoss(name="quantile_90", quantile=0.9)
R2 = Moments()
PEARSON = Moments(name="pearson", score="pearson")
