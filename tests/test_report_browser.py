"""The page in a real browser: no complaint, no request, nothing wider than the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hasten.report.build import build
from tests import results
from tests.browser import CHROMIUM, Tab, browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]
LONG = "layer/with/a/very/long/name/" * 12


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def pages() -> dict[str, str]:
    made = {f.__name__: build(f()) for f in (results.met, results.nothing_faster, results.undecided)}
    made["many"] = build(results.many(500))
    base = results.met()
    long = tuple(replace(t, reason=LONG, candidate=replace(t.candidate, label=LONG)) for t in base.trials)
    made["long"] = build(replace(base, model=LONG, metric=LONG, trials=long, winner=long[4], warnings=(LONG,)))
    return made


@pytest.mark.parametrize("name", ["met", "nothing_faster", "undecided", "many", "long"])
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, False), (1400, True)])
def test_nothing_is_asked_for_and_nothing_sticks_out(
    tab: Tab, tmp_path: Path, name: str, width: int, dark: bool
) -> None:
    page = tmp_path / "report.html"
    page.write_text(pages()[name], encoding="utf-8")
    tab.requests.clear()
    tab.open(page, width, dark=dark)
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert tab.complaints == []
    assert set(tab.requests) <= {page.resolve().as_uri(), "data:,"}
    backgrounds = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert backgrounds == ("rgb(21, 24, 27)" if dark else "rgb(247, 246, 242)")
    tall = tab.ask("[...document.querySelectorAll('svg.chart')].some(s => s.getBoundingClientRect().height > 200)")
    assert tall, "a chart is drawn"


def test_a_click_sorts_the_candidates_and_without_scripts_all_is_there(tab: Tab, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(build(results.met()), encoding="utf-8")
    read = "[...document.querySelectorAll('table.sortable tbody tr')].map(r => r.cells[2].dataset.sort)"
    tab.open(page)
    tab.ask("document.querySelectorAll('table.sortable th button')[2].click()")
    found = [float(text) for text in tab.ask(read) if text]
    assert found == sorted(found, reverse=True)
    assert len(found) > 5
    tab.open(page, script=False)
    counted = tab.call("DOM.getDocument", depth=-1)
    assert str(counted).count("'nodeName': 'TR'") > len(results.met().trials)
    assert tab.complaints == []
