"""The page: whole, offline, honest about what is missing, and safe whatever a name contains."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.report import caveats, chart, fates, story, words
from hasten.report.build import build
from hasten.report.svg import Axis
from hasten.trial import Quality, Result, Step, Timing, Trial
from tests import results

ALL = (
    results.met, results.tested, results.nothing_faster, results.undecided, results.undecided_kept, results.estimated,
    results.met_and_estimated,
)  # fmt: skip
VOID = {"meta", "link", "br", "circle", "rect", "path", "line", "input", "img"}
NAN = math.nan


class Page(HTMLParser):
    """Tags with attributes, visible text, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data + " "


@pytest.mark.parametrize("make", ALL)
def test_a_page_is_whole_and_fetches_nothing(make: Any) -> None:
    html = build(make())
    page = Page(html)
    assert page.open == []
    assert ("html", {"lang": "en"}) in page.tags
    sources = [a[k] for _, a in page.tags for k in ("src", "href") if k in a]
    assert sources == ["data:,"]
    assert not re.search(r"https?://|@import|url\(", html)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for named in (attributes.get("aria-labelledby") or "").split():
            assert named in ids


def test_the_verdict_comes_first_with_all_its_numbers() -> None:
    text = " ".join(Page(build(results.met())).text.split())
    order = ["Mind: load average", "Proven on unseen samples", "3.02× faster", "[2.98, 3.06]", "0.14 points"]
    order += ["at most 0.60; budget 1.00 points", "2,800 samples", "Before and after", "Every candidate"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for part in ("76.10 % 75.96 %", "97.8 MB 25.1 MB", "int8: 52 of 53 convolutions", "avx512_vnni", "Tango score"):
        assert part in text


def test_a_conversion_is_told_with_its_error() -> None:
    converted = replace(results.met(), format="tflite", conversion=1.3e-6)
    text = " ".join(Page(build(converted)).text.split())
    assert "The network came as tflite." in text
    assert "within 1.3e-06 of each output's largest value" in text
    assert "The network came as" not in Page(build(results.met())).text


def test_verdicts_that_are_not_met_never_claim_proof() -> None:
    nothing, undecided = (Page(build(r())).text for r in (results.nothing_faster, results.undecided))
    assert "✓ " not in nothing + undecided.partition("Every candidate")[0]
    assert "The original stays" in nothing
    assert "about 1,100 more samples" in undecided
    assert (
        "look 3 at the confirm samples: each bound at 99.85 %, so that all looks together keep 95 % confidence"
        in undecided
    )
    kept = Page(build(results.undecided_kept())).text
    assert "the network as given stays for now" in kept
    assert "faster, without a certificate" not in kept


def test_every_candidate_has_a_row_and_a_mark() -> None:
    result = results.met()
    page = Page(build(result))
    assert all(t.reason in page.text for t in result.trials)
    marks = chart.scatter(result).count("<title>")
    assert marks == len(result.trials)


def test_five_hundred_candidates_stay_under_a_megabyte() -> None:
    html = build(results.many(500))
    assert len(html.encode()) < 1_000_000
    assert html.count("<tr") > 500


HOSTILE = "</script></title><script>alert(1)</script><img src=x onerror=y>\x1b[31m\u202egnp\"'{{7*7}}&amp;"


def test_hostile_names_stay_text() -> None:
    base = results.met()
    trial = replace(base.winner, candidate=replace(base.winner.candidate, label=HOSTILE, engine=HOSTILE))
    machine = replace(base.machine, cpu=HOSTILE, versions={HOSTILE: HOSTILE})
    html = build(
        replace(
            base,
            model=HOSTILE,
            metric=HOSTILE,
            sentence=HOSTILE,
            warnings=(HOSTILE,),
            winner=trial,
            machine=machine,
            trials=(*base.trials, replace(trial, reason=HOSTILE, executed=HOSTILE)),
        )
    )
    assert Page(html).open == []
    assert html.count("<script") == 1
    assert "<img" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "\\u202egnp" in html
    assert "49" not in re.findall(r"gnp.{1,12}", html)[0]


@given(st.text(max_size=60))
def test_any_text_is_shown_without_control_or_direction_marks(text: str) -> None:
    shown = words.clean(text)
    assert all(c in "\n\t" or c.isprintable() or not re.match(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", c) for c in shown)


def _blank(result: Result) -> Result:
    """As little as a result can hold: NaN for every number, None for everything optional."""
    q = Quality(
        split="confirm", metric="top1", n=0, baseline=NAN, value=NAN, drop=NAN, lower=NAN, upper=NAN,
        p_value=NAN, method="", met=False,
    )  # fmt: skip
    t = Timing(speedup=NAN, low=NAN, high=NAN, pairs=0, median_ms=NAN, baseline_ms=NAN, log_ratios=(NAN,))
    rows: list[Trial] = [
        replace(x, search=q, confirm=q, timing=t, bytes=None, peak_bytes=None, seconds=NAN) for x in result.trials
    ]
    return replace(result, trials=tuple(rows), as_given=rows[0], tuned=rows[2], winner=rows[4], noise=t, seconds=NAN)


@pytest.mark.parametrize("make", ALL)
def test_missing_numbers_are_said_not_printed(make: Any) -> None:
    base = results.met()
    for result in (_blank(base), replace(_blank(base), verdict=make().verdict)):
        html = build(result)
        assert not re.search(r"(?<![a-z])(nan|inf|None)(?![a-z])", Page(html).text)
        assert not re.search(r"=\"-?(nan|inf)", html)
        assert "not measured" in html
    bare = [replace(t, search=None, confirm=None, timing=None, bytes=None) for t in base.trials]
    html = build(replace(base, trials=tuple(bare), as_given=bare[0], tuned=bare[2], winner=bare[4]))
    assert "not measured" in html


def test_budgets_become_drops_on_the_scale_of_the_score() -> None:
    base = results.met()
    assert story.budget_drop(base) == pytest.approx(0.01)
    assert story.budget_drop(replace(base, budget="rel:99%")) == pytest.approx(0.01)
    assert story.budget_drop(replace(base, budget="agree:99%")) == pytest.approx(0.01)
    assert story.budget_words(replace(base, budget="agree:99%")) == "keep 99% of the answers"
    assert story.budget_words(replace(base, budget="nonsense")) == "nonsense"


def test_the_two_factors_multiply_to_the_whole() -> None:
    given_, lossless, lossy = story.factors(results.met())
    assert given_.speedup == 1.0
    assert lossless.step == pytest.approx(1.38)
    assert (lossless.step or 0) * (lossy.step or 0) == pytest.approx(3.02)
    assert all(f.step == pytest.approx(1) for f in story.factors(results.nothing_faster()))


def test_errors_in_their_own_units_are_not_called_points() -> None:
    assert words.Scale.of("mse", 0.02).drop(0.001) == "0.00100"
    assert words.Scale.of("custom", 37.0).score(38.25) == "38.2"
    assert words.Scale.of("top1", 0.76).drop(-0.00001) == "0.00 points"


@given(st.floats(1e-4, 1e4), st.floats(1.01, 1e3), st.booleans(), st.integers(2, 8))
def test_axes_keep_order_and_choose_ticks_inside(low: float, factor: float, log: bool, about: int) -> None:
    axis = Axis(low, low * factor, 10, 110, log)
    assert axis(low) == pytest.approx(10)
    assert axis(low * factor) == pytest.approx(110)
    assert axis(low / 2) == pytest.approx(10)
    assert all(low * 0.99 <= t <= low * factor * 1.01 for t in axis.ticks(about))
    assert len(axis.ticks(about)) <= 40


def test_a_relative_budget_is_told_in_shares_of_the_score() -> None:
    base = replace(results.met(), budget="rel:99%")
    assert story.scale(base).drop(0.0014) == "0.14 % of the score"
    assert "drop in % of the score" in build(base)
    assert story.scale(replace(base, metric="mse")).drop(0.0014) == "0.14 % of the score"


def test_what_looks_over_the_budget_is_not_shown_as_inside() -> None:
    base = results.met()
    risky = results.trial("int8 + bf16", "openvino", 3.3, 0.0117, steps=(Step(name="quantize"),))
    slow = results.trial("openvino float32", "openvino", 0.79)
    result = replace(base, trials=(*base.trials, risky, slow))
    assert (fates.fate(result, risky), fates.tone(result, risky)) == ("looks over the budget", "rejected")
    assert (fates.fate(result, slow), fates.tone(result, slow)) == ("slower", "slower")
    assert any("int8 + bf16 3.30× but a drop of 1.17 points" in line for line in fates.near_misses(result))
    assert '<span class="fate rejected">looks over the budget</span>' in build(result)


def test_a_first_race_that_outshines_the_final_timing_is_told_as_such() -> None:
    base = results.met()
    assert base.winner.timing is not None
    winner = replace(base.winner, timing=replace(base.winner.timing, waking=(3.0, 2.9, 3.1)))
    result = replace(base, winner=winner, trials=(winner, *base.trials[1:]))
    raced = results.trial("raced", "openvino", 3.2, 0.001, reason="others are faster")
    slower = results.trial("slower", "openvino", 2.99, 0.001, reason="others are faster")
    assert raced.timing is not None
    final = replace(raced, timing=replace(raced.timing, waking=(3.0, 2.9, 3.1)))
    for trial, told in ((raced, "3.20× in a short race: others"), (final, "3.20×: others"), (slower, "2.99×: others")):
        assert any(told in line for line in fates.near_misses(replace(result, trials=(winner, trial))))


def test_a_recipe_shows_only_what_was_chosen() -> None:
    step = Step(name="quantize", options={"ranges": "mse", "exclude": [], "include": ["a", "b"]})
    assert str(step) == "quantize(ranges=mse, include=a|b)"


def test_names_in_the_chart_cover_no_other() -> None:
    near = results.trial("int8 near", "openvino", 1.01, 0.0004, steps=(Step(name="quantize"),), confirm=0.001)
    base = results.met()
    result = replace(base, winner=near, tuned=results.trial("tuned", "openvino", 1.02), trials=(*base.trials, near))
    told = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name"[^>]*>([^<]+)', str(chart.scatter(result, 370)))
    assert {name for _, _, name in told} == {"winner", "as given", "tuned"}
    for i, (x, y, _) in enumerate(told):
        assert all(abs(float(x) - float(u)) > 56 or abs(float(y) - float(v)) > 13 for u, v, _ in told[:i])


def test_a_proof_that_took_fewer_samples_says_so_and_a_better_score_is_looked_at() -> None:
    base = results.met()
    assert caveats.share_tested(base) == ""
    assert base.winner.confirm is not None
    fewer = replace(base, winner=replace(base.winner, confirm=replace(base.winner.confirm, n=1318)))
    assert "took 1,318 of the 2,800, drawn at random" in build(fewer)
    assert "more than chance explains" not in build(base)
    better = replace(base.winner.confirm, drop=-0.0097, upper=-0.0027, value=0.7707)
    risen = build(replace(base, winner=replace(base.winner, confirm=better)))
    assert "0.97 points better" in risen
    assert "more than chance explains" in risen


def test_a_name_that_says_nothing_comes_with_its_folder() -> None:
    base = results.met()
    assert story.title(replace(base, model="/a/magika/model.onnx")) == "magika/model.onnx"
    assert story.title(replace(base, model="C:\\nets\\resnet50.onnx")) == "resnet50.onnx"
    assert story.title(replace(base, model="model.onnx")) == "model.onnx"
