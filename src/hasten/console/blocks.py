"""What the other commands print: facts, regions, engines, timings and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hasten.console.terminal import BAD, GOOD, SOFT, lines
from hasten.report import regions
from hasten.report.words import clean, millis, number, one_line, size, span, times
from hasten.trial import Mixed


def facts_block(facts: Mapping[str, Any]) -> RenderableType:
    """Names and values, as ``inspect`` and ``doctor`` give them; tables of things become a line a thing."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=SOFT, no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in facts.items():
        name = key.removesuffix("_bytes") if key != "weight_bytes" else "weights"
        told = [size(value)] if key.endswith("bytes") and isinstance(value, int | float) else _spell(value)
        for i, one in enumerate(told):
            grid.add_row(Text("" if i else one_line(name.replace("_", " "))), Text(one_line(one)))
    return grid


def _spell(value: Any) -> list[str]:
    if isinstance(value, list | tuple) and any(isinstance(v, str) and " " in v for v in value):
        return [_one(v) for v in value]
    if isinstance(value, Mapping):
        return [", ".join(f"{k or 'default'} {_one(v)}" for k, v in value.items())]
    if isinstance(value, list | tuple) and value and not isinstance(value[0], str | int | float):
        return [_spell(v)[0] for v in value]
    return [_one(value)]


def _one(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_one(v) for v in value) or "none"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else number(value)
    return str(value)


def inspect_block(facts: Mapping[str, Any]) -> RenderableType:
    """What the file holds, then its regions with their time and harm where they were measured."""
    plan: Mixed | None = facts.get("regions")
    told = {k: v for k, v in facts.items() if k not in ("regions", "domains") and v not in (None, [], {}, "")}
    rest = facts_block(told)
    return (
        rest if plan is None else Group(rest, Rule(style=SOFT), Text(clean(regions.summary(plan))), region_table(plan))
    )


def region_table(plan: Mixed) -> RenderableType:
    """The regions in the network's order; bars show each one's share of the time and of the harm."""
    table = Table(box=None, header_style=SOFT, pad_edge=False)
    for title in ("region", plan.wide, "int8", "time", "harm", ""):
        table.add_column(title, justify="right" if title in (plan.wide, "int8") else "left", overflow="fold")
    slowest = max(g.ms[plan.wide] for g in plan.groups) or 1.0
    worst = max((g.harm.get("int8", 0.0) for g in plan.groups), default=0.0) or 1.0
    for g in plan.groups:
        bars = (_bar(g.ms[plan.wide] / slowest), _bar(g.harm.get("int8", 0.0) / worst))
        name = Text.assemble(one_line(g.name), (f"  {g.kind}", SOFT))
        table.add_row(name, millis(g.ms[plan.wide]), millis(g.ms["int8"]), *bars, Text(one_line(g.why), style=SOFT))
    return table


def _bar(share: float, width: int = 8) -> str:
    """A bar of full and part blocks, ``width`` characters at a share of one."""
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


def doctor_block(facts: Mapping[str, Any]) -> RenderableType:
    """The machine, then an engine a line with the pip line where it is missing."""
    engines = []
    for engine in facts.get("engines", ()):
        missing = engine.get("missing")
        text = f"{engine['name']} {engine.get('version') or ''}".strip()
        formats = f" ({', '.join(engine.get('formats') or ())})"
        reason = str(missing) if str(missing).startswith(str(engine["name"])) else f"{text}: {missing}"
        engines.append(("–", reason, BAD) if missing else ("✓", text + formats, GOOD))
    rest = {k: v for k, v in facts.items() if k not in ("engines", "cores")}
    machine = rest.pop("machine", {})
    return Group(
        facts_block(machine if isinstance(machine, Mapping) else {"machine": machine}),
        lines(engines),
        facts_block(rest),
    )


def apply_block(facts: Mapping[str, Any]) -> RenderableType:
    """What a recipe made of another network; nothing of it is tested."""
    rows = [("✓", f"{facts['out']}/  {size(facts['bytes'])}", GOOD)]
    rows += [("", step, SOFT) for step in facts["steps"]]
    off = number(float(facts["difference"]) ** 0.5 * 100, 2)
    rows.append(("", f"its outputs are off by {off} % of their size (root mean square)", ""))
    rows.append(("–", "not certified: hasten optimize tests a drop, and times it", BAD))
    return lines(rows)


def bench_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Latency and paired speed-up over the first network."""
    table = Table(box=None, header_style=SOFT, pad_edge=False)
    for title in ("network", "median", "speed-up", "interval", "pairs"):
        table.add_column(title, justify="left" if title == "network" else "right", overflow="fold")
    for row in rows:
        low, high = row.get("low"), row.get("high")
        table.add_row(
            Text(one_line(str(row["name"]))),
            millis(row.get("median_ms")),
            times(row.get("speedup")),
            Text(span(low, high) or "–"),
            _one(row.get("pairs")),
        )
    lost = [("✗", f"{row['name']}: {row['reason']}", BAD) for row in rows if row.get("reason")]
    return Group(table, lines(lost)) if lost else table


def verify_block(report: Mapping[str, Any]) -> RenderableType:
    """A line a check, then the answer: verified, what failed, or what was not checked and what to give for it."""
    marks = {True: ("✓", GOOD), False: ("✗", BAD), None: ("–", SOFT)}  # None: it could not be made
    rows = []
    for check in report["checks"]:
        mark, style = marks[check["ok"]]
        rows.append((mark, f"{check['name']}: {check['text']}", style))
        if check["ok"] is None and check.get("help"):
            rows.append(("", f"help: {check['help']}", SOFT))
    return Group(lines(rows), Text(clean(answer(report)), style="bold"))


def prove_block(report: Mapping[str, Any]) -> RenderableType:
    """What the added samples are, then what they prove."""
    added = f"{report['added']:,} samples and {report['labels']:,} labels added"
    mark, style = ("✓", GOOD) if report["answer"] == "proven" else ("–", SOFT)
    open_ = f", {report['to_label']:,} without a label: to_label.csv" if report["to_label"] else ""
    rows = [("", f"{added}; {report['changed']:,} changed answers{open_}", SOFT), (mark, report["sentence"], style)]
    return Group(lines(rows), Text(clean(report["answer"]), style="bold"))


def answer(report: Mapping[str, Any]) -> str:
    """``"verified"``, ``"failed: accuracy"`` or ``"not checked: network, data"``."""
    named = [check["name"] for check in report["checks"] if check["ok"] is report["ok"]]
    if report["ok"]:
        return "verified"
    return f"{'failed' if report['ok'] is False else 'not checked'}: {', '.join(dict.fromkeys(named))}"
