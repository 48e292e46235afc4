"""The charts: accuracy against latency, and the pairs behind the speed-up. Inline SVG, styled by the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hasten.report.fates import over, slower
from hasten.report.story import budget_drop, changed, latency, name, noise, quality, scale
from hasten.report.svg import Axis, group, label, line, mark, svg, tag
from hasten.report.words import count, known, millis, number, span, times
from hasten.trial import Result, Trial

RIM = 26.0  # pixels kept at the edges for candidates that have no place on an axis
CROWD = 80  # candidates above which only finalists show their intervals
NAMED = ("exact", "winner")  # drawn last, over the others
LOST = ("crashed", "timeout", "unsupported", "skipped")


@dataclass(frozen=True)
class _Field:
    """The plane of one scatter: axes, the pixel rows of the rims, and how wide the picture is."""

    x: Axis
    y: Axis
    right: float  # where candidates without a latency stand
    bottom: float  # where candidates without a score, or far outside the budget, stand
    width: float


def scatter(result: Result, width: int = 760) -> Markup:
    """Every candidate: latency across (logarithmic, left is faster), drop downwards (up is better)."""
    field = _field(result, float(width))
    body = _frame(result, field)
    drawn = sorted(
        result.trials, key=lambda t: NAMED.index(_shape(result, t)[1]) if _shape(result, t)[1] in NAMED else -1
    )
    lost = [t for t in drawn if not _placed(result, t)]
    body += "".join(_point(result, field, t) for t in drawn if _placed(result, t))
    body += _strays(result, field, lost) + _names(result, field)
    chart = svg(
        body,
        width,
        field.bottom + 46,
        id_=f"scatter-{width}",
        title="Accuracy against latency",
        description=_describe(result),
        class_="chart",
    )
    return Markup(chart)  # noqa: S704 - built by svg.py, which escapes every text


def _is_winner(result: Result, trial: Trial) -> bool:
    return trial.candidate.key == result.winner.candidate.key


def drop_of(result: Result, trial: Trial) -> float | None:
    """The drop to draw; a lossless candidate has none by construction."""
    seen = quality(trial)
    if seen is not None and known(seen.drop):
        return seen.drop
    return 0.0 if trial.candidate.lossless or trial.candidate.key == result.as_given.candidate.key else None


def _placed(result: Result, trial: Trial) -> bool:
    return trial.status not in LOST and known(latency(result, trial))


def _field(result: Result, width: float) -> _Field:
    spent = [v for t in result.trials if _placed(result, t) and (v := latency(result, t)) is not None]
    low, high = (min(spent), max(spent)) if spent else (1.0, 2.0)
    limit = budget_drop(result) or 0.01
    drops = [d for t in result.trials if (d := drop_of(result, t)) is not None]
    best, worst = min([0.0, *drops]), max([0.0, *drops])
    height = 400.0 if width > 500 else 380.0
    left, right, bottom = (62.0 if width > 500 else 44.0), width - 10, height - 10
    return _Field(
        x=Axis(low / 1.18, high * 1.12, left, right - RIM - 8, log=True),
        y=Axis(max(best * 1.2, -1.2 * limit) - 0.5 * limit, _lowest(worst, limit), 22.0, bottom - RIM),
        right=right - RIM / 2,
        bottom=bottom - RIM / 2 + 4,
        width=width,
    )


def _lowest(worst: float, limit: float) -> float:
    """How far down the chart goes: a little beyond the budget, or as far as a candidate that is not far outside."""
    return min(max(1.5 * limit, 1.2 * worst), 2.6 * limit)


def _frame(result: Result, field: _Field) -> str:
    """Grid, ticks, the budget line with the region beyond it, and the names of the axes."""
    x, y, marks = field.x, field.y, scale(result)
    limit = budget_drop(result)
    edge = field.right + RIM / 2
    parts = []
    if limit is not None:
        top = y(limit)
        parts.append(
            tag("rect", x=x.start, y=top, width=edge - x.start, height=field.bottom + 9 - top, class_="beyond")
        )
    for tick in y.ticks(5):
        parts.append(line(x.start, y(tick), edge, y(tick), "zero" if tick == 0 else "grid"))
        parts.append(label(marks.drop(tick, unit=False), x.start - 7, y(tick) + 4, anchor="end"))
    for tick in x.ticks(6 if field.width > 500 else 4):
        parts.append(line(x(tick), y.start, x(tick), field.bottom + 9, "grid"))
        parts.append(label(_round(tick), x(tick), field.bottom + 26))
    parts.append(label("← faster", x.start, field.bottom + 42, class_="axis", anchor="start"))
    parts.append(label("median latency", (x.start + x.end) / 2, field.bottom + 42, class_="axis"))
    unit = f"drop in {marks.unit or result.metric}"
    parts.append(label(f"{unit} ↓", 4, 12, class_="axis", anchor="start"))
    if limit is not None:
        parts.append(line(x.start, y(limit), edge, y(limit), "budget"))
        parts.append(label(f"budget {marks.drop(limit)}", edge - 4, y(limit) - 6, class_="budget-name", anchor="end"))
    return "".join(parts)


def _round(milliseconds: float) -> str:
    """A tick's latency without idle zeros."""
    value, unit = millis(milliseconds).split(" ")
    return f"{value.rstrip('0').rstrip('.') if '.' in value else value} {unit}"


def _shape(result: Result, trial: Trial) -> tuple[str, str]:
    if _is_winner(result, trial):
        return "diamond", "winner"
    if trial.status in LOST:
        return "cross", "lost"
    if trial.status == "rejected" or (trial.status == "ok" and over(result, trial)):
        return "triangle", "rejected"
    if trial.candidate.key in (result.as_given.candidate.key, result.tuned.candidate.key):
        return "square", "exact"
    return "circle", "slower" if trial.status == "slower" or slower(trial) else "ok"


def _point(result: Result, field: _Field, trial: Trial) -> str:
    """One measured candidate, with a cross of its two intervals."""
    shape, class_ = _shape(result, trial)
    spent, drop, seen = latency(result, trial), drop_of(result, trial), quality(trial)
    assert spent is not None
    x = field.x(spent)
    outside = drop is None or drop > field.y.high
    y = field.bottom if outside or drop is None else field.y(drop)
    parts = []
    timing = trial.timing
    crossed = len(result.trials) <= CROWD or trial.confirm is not None
    if crossed and timing is not None and known(timing.low) and known(timing.high) and 0 < timing.low <= timing.high:
        ends = spent * timing.speedup / timing.high, spent * timing.speedup / timing.low
        parts.append(line(field.x(ends[0]), y, field.x(ends[1]), y, "ci"))
    compared = trial.candidate.key != result.as_given.candidate.key  # the baseline is exactly as good as itself
    if crossed and compared and seen is not None and not outside and known(seen.lower) and known(seen.upper):
        parts.append(line(x, field.y(seen.lower), x, field.y(seen.upper), "ci"))
    parts.append(mark(shape, x, y, 7.5 if class_ == "winner" else 4.5))
    return group("".join(parts), class_, hover(result, trial))


def _names(result: Result, field: _Field) -> str:
    """The names of the winner and of the two baselines, each where it covers no other."""
    best = "as given" if not changed(result) else "winner" if result.verdict == "met" else "best, no certificate"
    named = {best: result.winner, "as given": result.as_given, "tuned": result.tuned}
    named |= {"estimated": result.estimated.trial} if result.estimated else {}
    keys, taken, parts = set[str](), list[tuple[float, float]](), []
    for text, trial in named.items():
        if trial.candidate.key in keys or not _placed(result, trial):
            continue
        keys.add(trial.candidate.key)
        drop, spent = drop_of(result, trial) or 0.0, latency(result, trial)
        assert spent is not None
        x, y = field.x(spent), field.y(drop)
        offsets = (21.0, -13.0, 37.0, -29.0) if text == "as given" else (-13.0, 21.0, -29.0, 37.0)
        places = [(x, y + o) for o in offsets]
        place = next(
            (p for p in places if all(abs(p[0] - q[0]) > 56 or abs(p[1] - q[1]) > 13 for q in taken)), places[0]
        )
        taken += [place]
        parts.append(group(label(text, *place, class_="name"), _shape(result, trial)[1]))
    return "".join(parts)


def _strays(result: Result, field: _Field, trials: Sequence[Trial]) -> str:
    """Candidates without a latency, stacked on the right rim under a name of their own."""
    if not trials:
        return ""
    room = max(1, int((field.bottom - field.y.start) / 13))
    shown = label("not timed ↓", field.right + RIM / 2, 12, class_="axis", anchor="end")
    for i, trial in enumerate(trials):
        shape, class_ = _shape(result, trial)
        shown += group(
            mark(shape, field.right, field.y.start + 13.0 * (i % room) + 6, 4.0), class_, hover(result, trial)
        )
    return shown


def hover(result: Result, trial: Trial) -> str:
    """What a pointer shows over a candidate."""
    seen, marks = quality(trial), scale(result)
    parts = [name(trial), trial.status]
    if trial.timing is not None and known(trial.timing.speedup):
        parts.append(f"{times(trial.timing.speedup)} {span(trial.timing.low, trial.timing.high)}")
    if seen is not None and known(seen.drop):
        parts.append(
            f"drop {marks.drop(seen.drop)}" + (f", up to {marks.drop(seen.upper)}" if known(seen.upper) else "")
        )
    return "\n".join([*parts, trial.reason[:200]]).strip()


def _describe(result: Result) -> str:
    """The chart in words, for those who cannot see it."""
    placed = [t for t in result.trials if _placed(result, t)]
    winner = hover(result, result.winner).replace("\n", ", ")
    return (
        f"{count(len(result.trials), 'candidate')}, of which {len(placed)} have a latency. The winner: {winner}. "
        f"Left is faster, up is more accurate. Every point is a row of the table of candidates below."
    )


def strip(result: Result, width: int = 760) -> Markup:
    """The winner's pairs in the order they were taken, above the same network timed against itself."""
    timing = result.winner.timing
    pairs = [math.exp(r) for r in timing.log_ratios if known(r)] if timing and changed(result) else []
    floor = [math.exp(r) for r in result.noise.log_ratios if known(r)]
    shown = [v for v in (*pairs, *floor, 1.0) if 0 < v < 1e6]
    height, left, right = 250.0, 52.0, float(width) - 10
    y = Axis(min(shown) / 1.06, max(shown) * 1.06, height - 34, 14.0, log=True)
    body = "".join(
        line(left, y(t), right, y(t), "zero" if t == 1 else "grid")
        + label(f"{number(t, 2)}×", left - 7, y(t) + 4, anchor="end")
        for t in sorted({1.0, *y.ticks(4)})
    )
    body += _row(floor, result.noise.low, result.noise.high, y, (left, right), "floor", "the baseline against itself")
    if timing is not None and changed(result):
        body += _row(pairs, timing.low, timing.high, y, (left, right), "pairs", "the winner against the baseline")
    body += label("pairs in the order they were taken →", (left + right) / 2, height - 8, class_="axis")
    description = (
        f"{count(len(pairs), 'pair')} of the winner against the baseline, median {times(result.speedup)}"
        f"{' ' + span(timing.low, timing.high) if timing else ''}; "
        f"the baseline against itself scatters by {noise(result)}."
    )
    chart = svg(
        body, width, height, id_=f"strip-{width}", title="Speed of each pair", description=description, class_="chart"
    )
    return Markup(chart)  # noqa: S704 - built by svg.py, which escapes every text


def _row(
    values: list[float], low: float, high: float, y: Axis, ends: tuple[float, float], class_: str, title: str
) -> str:
    """The points of one run over its interval."""
    left, right = ends
    band = ""
    if known(low) and known(high) and low > 0:
        top, bottom = y(high), y(low)
        band = tag("rect", x=left, y=top, width=right - left, height=max(1.5, bottom - top), class_="band")
    step = (right - left - 20) / max(1, len(values) - 1)
    dots = "".join(tag("circle", cx=left + 10 + i * step, cy=y(v), r=2.6) for i, v in enumerate(values) if v > 0)
    return group(band + dots, class_, title)
