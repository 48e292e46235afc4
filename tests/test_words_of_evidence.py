"""*Proven* is said of guaranteed certificates alone: on the console, the page, in JSON, messages, docs and README."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hasten import console
from hasten.report import story
from hasten.report.build import build
from hasten.trial import Result, encode, summary
from tests import results
from tests.test_report import Page

ROOT = Path(__file__).parent.parent
WORD = re.compile(r"\b(un)?(prov(e|es|en|ed|ing|able)|proofs?)\b", re.IGNORECASE)
COMMAND = re.compile(r"\bhasten (schema )?prove\b|`prove`|^not proven$")  # the last: an answer of it, of a guarantee
OF_THE_GUARANTEED = re.compile(r"guarantee|proven\*?:? |^proven|^Proven on|\*proven\*")
SPOKEN = ("cli.py", "api.py", "__init__.py")  # of which a person also reads the docstrings
KEYS = {"provable", "budget_provable"}  # fields of the JSON, no sentences
WITHOUT = (
    results.tested, results.nothing_faster, results.undecided, results.undecided_kept, results.estimated,
)  # fmt: skip


def texts(path: Path) -> Iterator[str]:
    """The strings of a module that may reach a person: all but docstrings, names in ``__all__`` and dotted names."""
    tree = ast.parse(path.read_text())
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    inner = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, holders) and n.body and isinstance(n.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if " " in node.value and (id(node) not in inner or path.name in SPOKEN):
            yield node.value


@pytest.mark.parametrize("path", sorted((ROOT / "src" / "hasten").rglob("*.py")), ids=lambda p: str(p)[-40:])
def test_no_string_of_the_program_says_proven(path: Path) -> None:
    for text in texts(path):
        plain = COMMAND.sub("", text)
        assert not WORD.search(plain) or OF_THE_GUARANTEED.search(plain), text


@pytest.mark.parametrize("path", sorted((ROOT / "src" / "hasten" / "report" / "templates").iterdir()), ids=str)
def test_no_template_says_proven(path: Path) -> None:
    text = re.sub(r"{[{%].*?[%}]}", "", path.read_text(), flags=re.S)
    assert not WORD.search(text)


PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "decisions")]


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_no_page_says_proven_but_of_the_guaranteed(path: Path) -> None:
    for paragraph in re.split(r"\n\s*\n|\n(?=[-|#])", path.read_text()):
        plain = COMMAND.sub("", paragraph)
        assert not WORD.search(plain) or "guaranteed" in plain, paragraph


def shown(result: Result, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    stream = io.StringIO()
    console.show(console.result_block(result, Path("out")), stream)
    return stream.getvalue()


@pytest.mark.parametrize("make", WITHOUT)
def test_without_a_guarantee_nothing_is_proven(make: Callable[[], Result], monkeypatch: pytest.MonkeyPatch) -> None:
    result = make()
    assert not WORD.search(shown(result, monkeypatch))
    assert not WORD.search(Page(build(result)).text)
    sentences = (v for v in strings(json.loads(encode(summary(result)))) if " " in v)
    assert not [text for text in sentences if WORD.search(text)]


def strings(value: object) -> Iterator[str]:
    """All texts of a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (key for key in value if key not in KEYS)
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def test_with_a_guarantee_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Verdict: met; faster, and proven inside the budget" in shown(results.met(), monkeypatch)
    assert "Verdict: met; faster, and tested inside the budget" in shown(results.tested(), monkeypatch)
    assert story.CERTIFIED["guaranteed"] in build(results.met())
    assert story.CERTIFIED["statistical"] in build(results.tested())
