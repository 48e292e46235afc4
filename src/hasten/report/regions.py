"""The picture of a mixed-precision plan: for each region its time in both formats above, its harm in int8 below."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from hasten.report.svg import group, label, line, svg, tag
from hasten.report.words import count, known, millis, number
from hasten.trial import Group, Mixed

NARROW = "int8"
UP, DOWN, GAP = 150.0, 110.0, 34.0  # heights of the two halves and of the words between them
TOLD = 10  # regions in the table before the rest is folded away


@dataclass(frozen=True)
class Row:
    """One region as the table shows it; ``harm`` is its share of the sum of harms, None where none was measured."""

    name: str
    kind: str
    chosen: str
    wide: str
    narrow: str
    harm: float | None
    why: str


def rows(plan: Mixed) -> list[Row]:
    """The regions, those first that matter: by harm, then by time."""
    total = sum(g.harm.get(NARROW, 0.0) for g in plan.groups)
    ranked = sorted(plan.groups, key=lambda g: (-g.harm.get(NARROW, 0.0), -g.ms[plan.wide]))
    return [
        Row(
            name=g.name if g.linear == 1 else f"{g.name} and {count(g.linear - 1, 'other')}",
            kind=g.kind,
            chosen=g.chosen,
            wide=millis(g.ms[plan.wide]),
            narrow=millis(g.ms[NARROW]),
            harm=g.harm[NARROW] / total if total and NARROW in g.harm else None,
            why=g.why,
        )
        for g in ranked
    ]


def summary(plan: Mixed) -> str:
    """``"31 of 43 regions run in int8, the others in f32; planned from 16 samples in 24 s"``."""
    narrow = sum(g.chosen == NARROW for g in plan.groups)
    text = f"{narrow} of {count(len(plan.groups), 'region')} run in int8"
    text += f", the others in {plan.wide}" if narrow < len(plan.groups) else ""
    measured = f"harm on {count(plan.samples, 'sample')}" if plan.samples else "times only: there was no harm to weigh"
    return f"{text} on {plan.engine}; measured: {measured}, {number(plan.seconds, 2)} s in all"


def foretold(plan: Mixed) -> str:
    """How well the model's times and harms agreed with what was then measured; empty with fewer than three plans."""
    parts = []
    if len(plan.measured_ms) >= 3:
        errors = [abs(f / m - 1) for f, m in zip(plan.foretold_ms, plan.measured_ms, strict=True) if m]
        agreed = _rank(plan.foretold_ms, plan.measured_ms)
        parts.append(f"latency foretold for {len(plan.measured_ms)} plans: median error {median(errors):.1%}{agreed}")
    if len(plan.joint_harm) >= 3:
        agreed = _rank(plan.summed_harm, plan.joint_harm)
        parts.append(f"sum of single harms against joint harm for {len(plan.joint_harm)} plans{agreed}")
    return "; ".join(parts)


def _rank(a: tuple[float, ...], b: tuple[float, ...]) -> str:
    from scipy import stats  # slow to import, and seldom needed

    if len(set(a)) < 2 or len(set(b)) < 2:
        return ""
    value = float(stats.spearmanr(a, b).statistic)
    return f", rank correlation {value:.2f}" if known(value) else ""


def picture(plan: Mixed, width: int) -> Markup:
    """Bars in the network's order: grey the time in the wide format, coloured the time as chosen; harm hangs down."""
    left, step = 2.0, (width - 4.0) / max(len(plan.groups), 1)
    slowest = max((max(g.ms.values()) for g in plan.groups), default=0.0) or 1.0
    total = sum(g.harm.get(NARROW, 0.0) for g in plan.groups) or 1.0
    worst = max((g.harm.get(NARROW, 0.0) / total for g in plan.groups), default=0.0) or 1.0
    body = label("time, as it was and as chosen", left, 12, class_="axis", anchor="start")
    body += label(f"{millis(slowest)} at most", width - 2.0, 12, class_="axis", anchor="end")
    base = 20 + UP
    body += line(left, base, width - 2.0, base, "zero")
    for i, g in enumerate(plan.groups):
        x, wide = left + i * step, max(step - 2, 1.0)
        tall, own = (UP * g.ms[f] / slowest for f in (plan.wide, g.chosen))
        hang = DOWN * g.harm.get(NARROW, 0.0) / total / worst
        bars = tag("rect", x=x, y=base - tall, width=wide, height=tall, class_="was")
        bars += tag("rect", x=x, y=base - own, width=wide, height=own, class_="is")
        bars += tag("rect", x=x, y=base + GAP, width=wide, height=max(hang, 0.5), class_="harm")
        body += group(bars, "narrow-bar" if g.chosen == NARROW else "wide-bar", _hover(plan, g))
    body += line(left, base + GAP, width - 2.0, base + GAP, "zero")
    body += label("harm if this region alone were int8", left, base + GAP - 8, class_="axis", anchor="start")
    body += label(f"{worst:.0%} of the sum at most", width - 2.0, base + GAP - 8, class_="axis", anchor="end")
    chart = svg(
        body,
        width,
        base + GAP + DOWN + 6,
        id_=f"regions-{plan.candidate}-{width}",
        title="Time and harm by region",
        description=summary(plan),
        class_="chart",
    )
    return Markup(chart)  # noqa: S704 - built by svg.py, which escapes every text


def _hover(plan: Mixed, g: Group) -> str:
    return f"{g.name} ({g.kind}): {millis(g.ms[plan.wide])} in {plan.wide}, {millis(g.ms[NARROW])} in int8; {g.why}"
