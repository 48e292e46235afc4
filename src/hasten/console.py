"""What the terminal shows: the verdict, tables, and progress; plain where there is no terminal, narrow where it is."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hasten.protocols import Event
from hasten.report import caveats, fates, regions, story
from hasten.report.words import clean, count, duration, known, millis, number, size, span, times
from hasten.trial import Mixed, Result

_ASCII = str.maketrans({
    "✓": "+", "✗": "x", "★": "*", "×": "x", "−": "-", "–": "-", "·": "|", "→": ">", "←": "<", "±": "~", "≤": "<",
    "─": "-", "…": ".", "µ": "u", "\u00a0": " ", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "|", "▎": "|",
    "▏": "|",
})  # fmt: skip
_GOOD, _BAD, _SOFT = "green", "yellow", "dim"


def write(text: str, stream: IO[str]) -> None:
    """Write and flush; a reader that is gone (``| head``, a closed terminal) and a poor encoding are no errors."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except OSError as fault:
        if fault.errno not in (errno.EPIPE, errno.EIO):
            raise
        # whatever is left in the buffer must not raise again when the interpreter closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show(renderable: RenderableType, stream: IO[str] | None = None) -> None:
    """Render for ``stream`` (standard output): colours on a terminal only, as wide as it is; NO_COLOR is obeyed."""
    stream = stream or sys.stdout
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(renderable)
    write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n", stream)


def _lines(rows: Sequence[tuple[str, str, str]]) -> Table:
    """Rows of (mark, text, style): the mark in a column of its own, so that wrapped text stays aligned."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for mark, text, style in rows:
        grid.add_row(Text(mark, style=style), Text(clean(text), style=_SOFT if style == _SOFT else ""))
    return grid


def result_block(result: Result, out: Path | None = None) -> RenderableType:
    """The verdict as the last thing that a search prints: baseline, proof, what was not chosen, where things are."""
    parts: list[RenderableType] = [_lines(_baseline(result)), Rule(style=_SOFT)]
    parts.append(_lines([*_headline(result), *_facts(result)]))
    misses = fates.near_misses(result)
    if misses:
        parts += [Text("Not chosen", style=_SOFT), _lines([("·", miss, _SOFT) for miss in misses])]
    for warning in result.warnings:
        parts.append(Text.assemble(("warning: ", _BAD), clean(warning)))
    if out is not None:
        parts += [Text(), Text(_folder(out)), *_next(result, out)]
    return Group(*parts)


def _baseline(result: Result) -> list[tuple[str, str, str]]:
    splits = result.provable
    names = (("calibrate", splits.n_calibrate), ("search", splits.n_search), ("confirm", splits.n_confirm))
    data = " · ".join(f"{name} {n:,}" for name, n in names)
    given = story.comparison(result)
    facts = " · ".join([given[1].before + f" {result.metric}", given[0].before, given[2].before])
    return [
        ("Data", data, ""),
        ("", splits.sentence, _SOFT),
        *([("", caveats.look(result), _SOFT)] if result.looks > 1 else []),
        ("Baseline", f"{facts}  ({story.engine(result.as_given)}, noise {story.noise(result)})", ""),
    ]


def _headline(result: Result) -> list[tuple[str, str, str]]:
    if not story.changed(result):
        return [("–", result.sentence, _BAD)]
    timing = result.winner.timing
    factors = story.factors(result)
    interval = f" {span(timing.low, timing.high)}" if timing else ""
    split = f"  ({times(factors[1].step)} lossless, {times(factors[2].step)} lossy)"
    text = f"{times(result.speedup)} faster{interval}  {millis(story.latency(result, result.winner))}{split}"
    mark, style = ("✓", _GOOD) if result.certified else ("?", _BAD)
    rows = [(mark, text, style), ("", story.name(result.winner), "")]
    rows += [("", f"ran {result.winner.executed}", _SOFT)] if result.winner.executed else []
    return rows if result.certified else [(story.MARKS[result.verdict], result.sentence, _BAD), *rows]


def _facts(result: Result) -> list[tuple[str, str, str]]:
    winner, seen = result.winner, story.quality(result.winner)
    good = ("✓", _GOOD) if result.certified else (story.MARKS[result.verdict], _BAD)
    rows = []
    if seen is not None and story.changed(result):
        rows.append((good[0], f"{story.bound(result, seen)} (budget {story.budget_words(result)})", good[1]))
        if seen.flips is not None and seen.n:
            share = f"{seen.flips / seen.n * 100:.1f} % of {count(seen.n, 'answer')} changed"
            rows.append(("", share, _SOFT))
    if story.changed(result):
        sizes, peaks = story.comparison(result)[2:4]
        memory = f"  peak memory {peaks.after} ({peaks.change})" if peaks.change else ""
        rows.append(
            ("✓" if result.certified else " ", f"{size(winner.bytes)} ({sizes.change or 'size'}){memory}", _GOOD)
        )
    return rows


def _folder(out: Path) -> str:
    names = sorted(p.name for p in out.iterdir()) if out.is_dir() else []
    return f"{clean(str(out))}/  {' '.join(map(clean, names))}"


def _next(result: Result, out: Path) -> list[RenderableType]:
    place = clean(str(out))
    commands = [f"open {place}/report.html", f"hasten verify {place}"]
    if result.verdict == "met":
        commands += [f"python {place}/example.py", f"hasten apply {place}/recipe.json OTHER.onnx --data DATA --out OUT"]
    return [_lines([("Next:" if i == 0 else "", command, "") for i, command in enumerate(commands)])]


def facts_block(facts: Mapping[str, Any]) -> RenderableType:
    """Names and values, as ``inspect`` and ``doctor`` give them; tables of things become a line a thing."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=_SOFT, no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in facts.items():
        name = key.removesuffix("_bytes") if key != "weight_bytes" else "weights"
        lines = [size(value)] if key.endswith("bytes") and isinstance(value, int | float) else _spell(value)
        for i, line in enumerate(lines):
            grid.add_row(Text("" if i else clean(name.replace("_", " "))), Text(clean(line)))
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
        rest if plan is None else Group(rest, Rule(style=_SOFT), Text(clean(regions.summary(plan))), region_table(plan))
    )


def region_table(plan: Mixed) -> RenderableType:
    """The regions in the network's order; bars show each one's share of the time and of the harm."""
    table = Table(box=None, header_style=_SOFT, pad_edge=False)
    for title in ("region", plan.wide, "int8", "time", "harm", ""):
        table.add_column(title, justify="right" if title in (plan.wide, "int8") else "left", overflow="fold")
    slowest = max(g.ms[plan.wide] for g in plan.groups) or 1.0
    worst = max((g.harm.get("int8", 0.0) for g in plan.groups), default=0.0) or 1.0
    for g in plan.groups:
        bars = (_bar(g.ms[plan.wide] / slowest), _bar(g.harm.get("int8", 0.0) / worst))
        name = Text.assemble(clean(g.name), (f"  {g.kind}", _SOFT))
        table.add_row(name, millis(g.ms[plan.wide]), millis(g.ms["int8"]), *bars, Text(clean(g.why), style=_SOFT))
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
        engines.append(("–", reason, _BAD) if missing else ("✓", text + formats, _GOOD))
    rest = {k: v for k, v in facts.items() if k not in ("engines", "cores")}
    machine = rest.pop("machine", {})
    return Group(
        facts_block(machine if isinstance(machine, Mapping) else {"machine": machine}),
        _lines(engines),
        facts_block(rest),
    )


def apply_block(facts: Mapping[str, Any]) -> RenderableType:
    """What a recipe made of another network; nothing of it is proven."""
    rows = [("✓", f"{facts['out']}/  {size(facts['bytes'])}", _GOOD)]
    rows += [("", step, _SOFT) for step in facts["history"]]
    off = number(float(facts["difference"]) ** 0.5 * 100, 2)
    rows.append(("", f"its outputs are off by {off} % of their size (root mean square)", ""))
    rows.append(("–", "not certified: hasten optimize proves a drop, and times it", _BAD))
    return _lines(rows)


def bench_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Latency and paired speed-up over the first network."""
    table = Table(box=None, header_style=_SOFT, pad_edge=False)
    for title in ("network", "median", "speed-up", "interval", "pairs"):
        table.add_column(title, justify="left" if title == "network" else "right", overflow="fold")
    for row in rows:
        low, high = row.get("low"), row.get("high")
        table.add_row(
            Text(clean(str(row["name"]))),
            millis(row.get("median_ms")),
            times(row.get("speedup")),
            Text(span(low, high) or "–"),
            _one(row.get("pairs")),
        )
    lost = [("✗", f"{row['name']}: {row['reason']}", _BAD) for row in rows if row.get("reason")]
    return Group(table, _lines(lost)) if lost else table


def verify_block(report: Mapping[str, Any]) -> RenderableType:
    """A line a check, then the verdict."""
    marks = {True: ("✓", _GOOD), False: ("✗", _BAD), None: ("–", _SOFT)}  # None: it could not be made
    checks = [(marks[c["ok"]][0], f"{c['name']}: {c['text']}", marks[c["ok"]][1]) for c in report["checks"]]
    failed = sum(c["ok"] is False for c in report["checks"])
    verdict = "verified" if report["ok"] else f"not verified: {count(failed, 'check')} failed"
    return Group(_lines(checks), Text(verdict, style="bold"))


class Progress:
    """Draws events as they come: one live line on a terminal, else a plain line a trial. Collects nothing but ``best``.

    ``verbosity``: 0 warnings only, 1 a line a stage on a terminal, 2 a line a trial everywhere.
    """

    def __init__(self, stream: IO[str] | None = None, verbosity: int = 1) -> None:
        self.best: float | None = None
        self._stream = stream or sys.stderr
        self._verbosity = verbosity
        self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        alive = self._console.is_terminal and not self._console.is_dumb_terminal and verbosity > 0
        self._live = Live(console=self._console, transient=True, refresh_per_second=8) if alive else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        self.best = event.best if known(event.best) else self.best
        if self._live:
            self._live.update(Text(line(event), no_wrap=True, overflow="ellipsis"))
        if event.kind == "warning":
            self._print(f"warning: {clean(event.text)}", _BAD)
        elif self._verbosity and (event.kind in ("stage", "note") or not self._live or self._verbosity > 1):
            self._print(line(event), "")

    def _print(self, text: str, style: str) -> None:
        if self._live:
            self._console.print(Text(text, style=style))
        else:
            write(text + "\n", self._stream)


def line(event: Event) -> str:
    """An event as one line: where we are, what happened, the best so far, the time left."""
    where = event.stage + (f" {event.done}/{event.total}" if event.total else "")
    best = f"best {times(event.best)}" if known(event.best) else ""
    remaining = event.seconds_left if known(event.seconds_left) else None
    left = "" if remaining is None else f"{duration(remaining)} left" if remaining >= 1 else "finishing"
    return " · ".join(part for part in (where, clean(event.text).replace("\n", " "), best, left) if part)
