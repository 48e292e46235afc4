"""A result as one page: everything inline, nothing fetched, every number taken from the result alone."""

from __future__ import annotations

import base64
from functools import cache
from hashlib import sha256
from importlib.resources import files

import jinja2
import msgspec
from markupsafe import Markup

from hasten.report import caveats, chart, estimate, fates, regions, story, words
from hasten.trial import Candidate, Result, plain

SIZES = (("wide", 760), ("narrow", 370))  # the widths at which charts are drawn, so that their letters keep their size


def build(result: Result) -> str:
    """The report as one HTML file: offline, readable without JavaScript, on paper, on a phone and in the dark.

    Every string of the result is treated as hostile: control and direction marks are made visible, then escaped.
    """
    shown = msgspec.convert(words.cleaned(plain(result)), Result)
    script = read_template("sort.js")
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            r=shown,
            story=story,
            estimate=estimate,
            fates=fates,
            caveats=caveats,
            words=words,
            regions=regions,
            sizes=SIZES,
            marks=story.scale(shown),
            seen=story.quality(shown.winner),
            charts=[(kind, chart.scatter(shown, w), chart.strip(shown, w)) for kind, w in SIZES],
            rows=fates.ordered(shown),
            confirmed=[t for t in fates.ordered(shown) if t.confirm],
            recipe=recipe_json(shown.winner.candidate),
            style=Markup(read_template("style.css")),  # noqa: S704 - our own file
            script=Markup("\n" + script),  # noqa: S704 - our own file
            script_hash=base64.b64encode(sha256(("\n" + script).encode()).digest()).decode(),
        )
    )
    return page + "\n"


def recipe_json(candidate: Candidate) -> str:
    """A candidate as a person and ``hasten apply`` read it."""
    body = {"steps": candidate.steps, "engine": candidate.engine, "settings": candidate.settings}
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode()


def read_template(name: str) -> str:
    """The text of one of the package's templates."""
    return files("hasten.report").joinpath("templates", name).read_text("utf-8")


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(read_template)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "times": words.times,
        "millis": words.millis,
        "size": words.size,
        "duration": words.duration,
        "number": words.number,
    }
    return environment
