"""The picture of a mixed-precision plan: for each region its time in both formats above, its harm in int8 below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from hasten.report.svg import group, label, line, svg, tag
from hasten.report.words import count, duration, known, millis
from hasten.trial import Group, Mixed

NARROW = "int8"
UP, DOWN, GAP = 150.0, 110.0, 34.0  # heights of the two halves and of the words between them
WIDEST = 48.0  # pixels of one region's bar
TOLD = 8  # regions in the table before the rest is folded away


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
    """``"31 of 43 regions run in int8 on openvino, the others in f32. Harm was measured on 16 samples. ..."``."""
    narrow = sum(g.chosen == NARROW for g in plan.groups)
    text = f"{narrow} of {count(len(plan.groups), 'region')} run in int8 on {plan.engine}"
    text += f", the others in {plan.wide}" if narrow < len(plan.groups) else ""
    shares = f"{plan.engine} reports no times of its parts: the shares of the regions are {plan.teller}'s"
    harm = f"Harm was measured on {count(plan.samples, 'sample')}"
    weighed = (spared(plan), harm) if plan.samples else ("Only times were measured: there was no harm to weigh",)
    took = f"This took {duration(plan.seconds)}."
    return ". ".join(filter(None, (text, shares if plan.teller else "", *weighed, took)))


def spared(plan: Mixed) -> str:
    """What the plan saves of the time that int8 everywhere would, and what the rest would cost; empty with no rest."""

    def saved(groups: Sequence[Group], narrow: bool = False) -> float:
        return sum(g.ms[plan.wide] - g.ms[NARROW if narrow else g.chosen] for g in groups)

    left = [g for g in plan.groups if g.chosen != NARROW and g.ms[plan.wide] > g.ms[NARROW]]
    harm, theirs = (sum(g.harm.get(NARROW, 0.0) for g in groups) for groups in (plan.groups, left))
    if not left or not harm:
        return ""
    return (
        f"In int8 everywhere it would save {millis(saved(plan.groups, narrow=True))}; this plan saves "
        f"{millis(saved(plan.groups))}. What it leaves in {plan.wide} would save {millis(saved(left, narrow=True))} "
        f"more, with {theirs / harm:.0%} of the harm"
    )


def harmed(plan: Mixed) -> bool:
    """True when the harm of its regions was measured."""
    return any(NARROW in g.harm for g in plan.groups)


def foretold(plan: Mixed) -> str:
    """How well the model's times and harms agreed with what was then measured; empty with fewer than three plans."""
    parts = []
    if len(plan.measured_ms) >= 3:
        errors = [abs(f / m - 1) for f, m in zip(plan.foretold_ms, plan.measured_ms, strict=True) if m]
        off = f"{median(errors) * 100:.1f} %"
        ranked = _rank(plan.foretold_ms, plan.measured_ms)
        parts.append(f"The latency foretold for {len(plan.measured_ms)} plans was off by {off}{ranked}.")
    if len(plan.joint_harm) >= 3:
        ranked = _rank(plan.summed_harm, plan.joint_harm)
        parts.append(f"The harm foretold for {len(plan.joint_harm)} plans is the sum of their regions' harms{ranked}.")
    return " ".join(parts)


def _rank(a: tuple[float, ...], b: tuple[float, ...]) -> str:
    from scipy import stats  # slow to import, and seldom needed

    if len(set(a)) < 2 or len(set(b)) < 2:
        return ""
    value = float(stats.spearmanr(a, b).statistic)
    return f" (rank correlation with what was measured: {value:.2f})" if known(value) else ""


def picture(plan: Mixed, width: int, number: int = 1) -> Markup:
    """Bars in the network's order: grey the time in the wide format, coloured the time as chosen; harm hangs down."""
    step = min((width - 4.0) / max(len(plan.groups), 1), WIDEST)
    base = 20 + UP
    body = _times(plan, step) + line(2.0, base, width - 2.0, base, "zero")
    slowest = max((max(g.ms.values()) for g in plan.groups), default=0.0)
    body += label("time, as it was and as chosen", 2.0, 12, class_="axis", anchor="start")
    body += label(f"tallest {millis(slowest)}", width - 2.0, 12, class_="axis", anchor="end")
    if harmed(plan):
        worst, bars = _harms(plan, step)
        body += bars + line(2.0, base + GAP, width - 2.0, base + GAP, "zero")
        body += label("harm if only this were int8", 2.0, base + GAP - 8, class_="axis", anchor="start")
        body += label(f"longest {worst * 100:.0f} % of all", width - 2.0, base + GAP - 8, class_="axis", anchor="end")
    chart = svg(
        body,
        width,
        base + (GAP + DOWN + 6 if harmed(plan) else 4),
        id_=f"regions-{number}-{width}",
        title="Time and harm by region" if harmed(plan) else "Time by region",
        description=summary(plan),
        class_="chart",
    )
    return Markup(chart)  # noqa: S704 - built by svg.py, which escapes every text


def _times(plan: Mixed, step: float) -> str:
    """A bar a region on the common base line."""
    slowest = max((max(g.ms.values()) for g in plan.groups), default=0.0) or 1.0
    body = ""
    for i, g in enumerate(plan.groups):
        x, wide = 2.0 + i * step, max(step - 2, 1.0)
        tall, own = (UP * g.ms[f] / slowest for f in (plan.wide, g.chosen))
        bars = tag("rect", x=x, y=20 + UP - tall, width=wide, height=tall, class_="was")
        bars += tag("rect", x=x, y=20 + UP - own, width=wide, height=own, class_="is")
        body += group(bars, "narrow-bar" if g.chosen == NARROW else "wide-bar", _hover(plan, g))
    return body


def _harms(plan: Mixed, step: float) -> tuple[float, str]:
    """The largest share of all harm, and a hanging bar a region."""
    harms = [g.harm.get(NARROW, 0.0) for g in plan.groups]
    total, worst = sum(harms) or 1.0, max(harms, default=0.0)
    body = ""
    for i, (g, harm) in enumerate(zip(plan.groups, harms, strict=True)):
        hang = max(DOWN * harm / (worst or 1.0), 0.5)
        bar = tag("rect", x=2.0 + i * step, y=20 + UP + GAP, width=max(step - 2, 1.0), height=hang, class_="harm")
        body += group(bar, "hang", _hover(plan, g))
    return worst / total, body


def _hover(plan: Mixed, g: Group) -> str:
    return f"{g.name} ({g.kind}): {millis(g.ms[plan.wide])} in {plan.wide}, {millis(g.ms[NARROW])} in int8; {g.why}"
