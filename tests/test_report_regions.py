"""The plan on the page and on the console: every region, what it costs, and how well the model foretold."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from hasten import console
from hasten.report import regions
from hasten.report.build import build
from tests import results


def test_the_rows_that_matter_come_first() -> None:
    rows = regions.rows(results.mixed())
    assert rows[0].name == "conv_1"
    assert rows[0].harm == pytest.approx(0.08 / (0.08 + 0.001 * sum(i % 4 for i in range(14) if i != 1)))
    assert rows[0].why.startswith("kept f32")
    assert len(rows) == 14
    joined = replace(results.mixed().groups[0], linear=3)
    assert regions.rows(replace(results.mixed(), groups=(joined,)))[0].name == "conv_0 and 2 others"


def test_the_summary_counts_and_the_model_is_judged() -> None:
    plan = results.mixed()
    assert regions.summary(plan) == (
        "13 of 14 regions run in int8 on openvino, the others in f32. In int8 everywhere it would save "
        "1.75 ms; this plan saves 1.67 ms. What it leaves in f32 would save 80.0 µs more, with 82% of the harm. "
        "Harm was measured on 16 samples. "
        "This took 21.0 s."
    )
    assert regions.foretold(plan) == (
        "The latency foretold for 3 plans was off by 2.5 % (rank correlation with what was measured: 1.00). The harm "
        "foretold for 3 plans is the sum of their regions' harms (rank correlation with what was measured: 1.00)."
    )
    everywhere = replace(plan, groups=tuple(replace(g, chosen="int8") for g in plan.groups))
    assert regions.spared(everywhere) == ""
    few = replace(plan, foretold_ms=(1.0,), measured_ms=(1.0,), summed_harm=(), joint_harm=())
    assert regions.foretold(few) == ""
    constant = replace(plan, measured_ms=(4.0, 4.0, 4.0))
    assert "correlation" not in regions.foretold(constant).split(". ")[0]


def test_a_plan_without_harms_is_told_as_such() -> None:
    bare = replace(results.mixed(), samples=0, groups=tuple(replace(g, harm={}) for g in results.mixed().groups))
    assert "Only times were measured" in regions.summary(bare)
    assert not regions.harmed(bare)
    assert 'class="harm"' not in str(regions.picture(bare, 370))
    assert 'class="harm"' in str(regions.picture(results.mixed(), 370))
    assert '<th scope="col" class="n">Harm</th>' not in build(replace(results.met(), plans=(bare,)))
    assert all(row.harm is None for row in regions.rows(bare))
    assert "conv_13" in str(regions.picture(bare, 370))


def test_whose_times_they_are_is_told_where_the_engine_tells_none() -> None:
    told = regions.summary(replace(results.mixed(), engine="litert", teller="openvino"))
    assert "litert reports no times of its parts: the shares of the regions are openvino's. In int8" in told
    assert "does not tell" not in regions.summary(results.mixed())


def test_the_page_shows_the_picture_and_folds_the_long_table() -> None:
    html = build(results.met())
    assert "Which part in which precision" in html
    assert html.count('class="narrow-bar"') == 2 * 13 + 1, "a bar a region on the wide and the narrow picture; the key"
    assert html.count('class="wide-bar"') == 2 + 1
    assert "<summary>6 more regions</summary>" in html
    without = build(replace(results.met(), plans=()))
    assert "Which part in which precision" not in without


def test_the_page_says_where_nothing_was_planned() -> None:
    told = "litert reports no times of its parts", "no time was left to mix formats on openvino"
    html = build(replace(results.met(), plans=(), unplanned=told))
    assert "Which part in which precision" in html
    assert "A region is a convolution" not in html
    assert f"Where nothing was planned: {told[0]}; {told[1]}." in html
    assert "nothing was planned" not in build(results.met())


def test_the_console_draws_bars_that_survive_a_poor_terminal() -> None:
    stream = io.StringIO()
    console.show(console.inspect_block({"opset": 17, "regions": results.mixed()}), stream)
    text = stream.getvalue()
    assert "opset" in text
    assert "conv_1" in text
    assert "████████" in text
    poor = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console.show(console.inspect_block({"regions": results.mixed()}), poor)
    poor.seek(0)
    assert "########" in poor.read()
    plain = io.StringIO()
    console.show(console.inspect_block({"opset": 17}), plain)
    assert "region" not in plain.getvalue()
