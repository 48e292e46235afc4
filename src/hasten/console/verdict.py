"""The verdict, as the last thing that a search prints."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from hasten.console.terminal import BAD, GOOD, SOFT, lines
from hasten.report import caveats, estimate, fates, story
from hasten.report.source import shell
from hasten.report.words import count, millis, one_line, size, span, times
from hasten.trial import Result

GRADED = {"guaranteed": "proven", "statistical": "tested"}


def result_block(result: Result, out: Path | None = None) -> RenderableType:
    """The last thing that a search prints: baseline, certificate, what was not chosen, where things are."""
    parts: list[RenderableType] = [lines(_baseline(result)), Rule(style=SOFT)]
    parts.append(lines([*_headline(result), *_facts(result), *_estimated(result)]))
    misses = fates.near_misses(result)
    if misses:
        parts += [Text("Not chosen", style=SOFT), lines([("·", miss, SOFT) for miss in misses])]
    for warning in result.warnings:
        parts.append(Text.assemble(("warning: ", BAD), one_line(warning)))
    if out is not None:
        parts += [Text(), Text(_folder(out)), *_next(result, out)]
    return Group(*parts, Text(f"Verdict: {_ending(result, out)}", style="bold"))


def _ending(result: Result, out: Path | None) -> str:
    """The last line: which verdict it is, since exit code 1 means two of them, and where an estimate is."""
    if result.verdict == "nothing_faster":
        return "nothing faster; the network as given stays (exit code 1)"
    if result.verdict == "undecided" and result.untried and result.estimated is None:
        return "undecided; the time was up before every narrow format was tried (exit code 1)"
    if result.verdict == "undecided":
        text = _uncertified(result, out) or "something faster was found and has no certificate"
        return f"undecided; {text} (exit code 1)"
    grade = GRADED.get(result.certificate)
    text = f"faster, and {grade} inside the budget" if grade else "faster, the answers are unchanged"
    return "; ".join(filter(None, ["met", text, _uncertified(result, out)]))


def _uncertified(result: Result, out: Path | None) -> str:
    """Where the estimate is, and what it may cost; empty where there is none."""
    found = result.estimated
    if found is None:
        return ""
    where = one_line(str(out / estimate.FOLDER)) if out is not None else f"result.{estimate.FOLDER}"
    return f"{where} is {estimate.speed(found)} faster without a certificate, {estimate.cost(result, found)}"


def _estimated(result: Result) -> list[tuple[str, str, str]]:
    """What is handed over without a certificate, where the headline is about something else."""
    found = result.estimated
    if found is None or found.sentence == result.sentence:
        return []
    return [("?", found.sentence, BAD)]


def _baseline(result: Result) -> list[tuple[str, str, str]]:
    splits = result.provable
    names = (("calibrate", splits.n_calibrate), ("search", splits.n_search), ("confirm", splits.n_confirm))
    data = " · ".join(f"{name} {n:,}" for name, n in names)
    given = story.comparison(result)
    score = [] if result.made_up else [f"{given[1].before} {result.metric}"]
    facts = " · ".join([*score, given[0].before, given[2].before])
    return [
        *([] if result.made_up else [("Data", data, "")]),
        ("Data" if result.made_up else "", splits.sentence, SOFT),
        *([("", caveats.look(result), SOFT)] if result.looks > 1 else []),
        ("Baseline", f"{facts}  ({story.engine(result.as_given)}, noise {story.noise(result)})", ""),
    ]


def _headline(result: Result) -> list[tuple[str, str, str]]:
    if not story.changed(result):
        return [("–", result.sentence, BAD)]
    timing = result.winner.timing
    factors = story.factors(result)
    interval = f" {span(timing.low, timing.high)}" if timing else ""
    split = f"  ({times(factors[1].step)} lossless, {times(factors[2].step)} lossy)"
    text = f"{times(result.speedup)} faster{interval}  {millis(story.latency(result, result.winner))}{split}"
    mark, style = ("✓", GOOD) if result.certified else ("?", BAD)
    rows = [(mark, text, style), ("", story.name(result.winner), "")]
    rows += [("", f"ran {result.winner.executed}", SOFT)] if result.winner.executed else []
    return rows if result.certified else [(story.MARKS[result.verdict], result.sentence, BAD), *rows]


def _facts(result: Result) -> list[tuple[str, str, str]]:
    winner, seen = result.winner, story.quality(result.winner)
    good = ("✓", GOOD) if result.certified else (story.MARKS[result.verdict], BAD)
    rows = []
    if seen is not None and story.changed(result) and not result.made_up:
        rows.append((good[0], f"{story.bound(result, seen)} (budget {story.budget_words(result)})", good[1]))
        if seen.split == "confirm":
            rows += [("", f"{g.name}: {g.bound}, {g.condition}", SOFT) for g in story.grades(result, seen)]
            rows.append(("", story.hidden(seen), SOFT))
        rows += [(good[0], f"also {text}", good[1]) for text in seen.also]
        if seen.flips is not None and seen.n:
            share = f"{seen.flips / seen.n * 100:.1f} % of {count(seen.n, 'answer')} changed"
            rows.append(("", share, SOFT))
    if story.changed(result):
        sizes, peaks = story.comparison(result)[2:4]
        memory = f"  peak memory {peaks.after} ({peaks.change})" if peaks.change else ""
        rows.append(
            ("✓" if result.certified else " ", f"{size(winner.bytes)} ({sizes.change or 'size'}){memory}", GOOD)
        )
    return rows


def _folder(out: Path) -> str:
    names = sorted(p.name for p in out.iterdir()) if out.is_dir() else []
    return f"{one_line(str(out))}/  {' '.join(map(one_line, names))}"


def _next(result: Result, out: Path) -> list[RenderableType]:
    page, program, recipe = (shell(str(out / name)) for name in ("report.html", "example.py", "recipe.json"))
    commands = [f"open {page}", f"hasten verify {shell(str(out))}"]
    if result.verdict == "met":
        commands += [f"python {program}", f"hasten apply {recipe} OTHER.onnx --data DATA --out OUT"]
    if result.estimated is not None:
        commands.append(f"python {shell(str(out / estimate.FOLDER / 'example.py'))}")
    return [lines([("Next:" if i == 0 else "", command, "") for i, command in enumerate(commands)])]
