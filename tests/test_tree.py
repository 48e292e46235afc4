"""The shape of the code: imports run one way, files and functions stay small, the commands in the README exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

import hasten
from hasten import cli

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "hasten"
LAYERS = (
    ("errors", "extras", "registry", "durable", "owned", "scratch", "bounded", "typed_json"),
    ("model", "samples", "machine", "trial", "budget", "asked", "splits", "compare", "result_files", "sessions"),
    ("protocols", "metrics", "evidence"),
    ("graph", "quant"),
    ("passes", "engines", "export", "frontends", "safety"),
    ("wire", "serve", "deaths", "process", "worker", "replies", "restarting", "measure", "journal", "looks"),
    ("search",),
    ("report", "model_files", "artefacts", "example"),
    ("write_result", "read_result"),
    ("claims", "apply_recipe", "adding", "proving", "reproduce", "console", "keywords"),
    ("api",),
    ("options", "cli", "schema", "__main__", "testing"),
)
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}
LINES, FUNCTION = 350, 60
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(f.relative_to(SOURCE)) for f in FILES]


def parts_of(file: Path) -> str:
    """The first name below ``hasten`` that a file belongs to."""
    return file.relative_to(SOURCE).with_suffix("").parts[0]


def imported(tree: ast.AST) -> set[str]:
    """First names below ``hasten`` that a file imports for use at run time, inside functions too."""
    found = set()
    typing_only = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and ast.unparse(guard.test) == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "hasten":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hasten."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("hasten.")}
    return found


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_imports_run_one_way(file: Path) -> None:
    own = parts_of(file)
    if own == "__init__":
        return
    assert own in RANK, f"give {own} a layer in LAYERS"
    for name in imported(ast.parse(file.read_text())) - {own}:
        assert name in RANK, f"give {name} a layer in LAYERS"
        assert RANK[name] <= RANK[own], f"{own} must not import {name}"


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_files_and_functions_stay_small(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LINES
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [f"{node.name}: {length(node)} lines" for node in functions if length(node) > FUNCTION]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body; signature and docstring are free, so that nobody saves on them."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_modules_and_public_classes_say_what_they_are(file: Path) -> None:
    tree = ast.parse(file.read_text())
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node) is None
    ]
    assert not bare
    assert ast.get_docstring(tree) or not text_of(tree)


def text_of(tree: ast.Module) -> str:
    """What a module holds beside its docstring."""
    return ast.unparse(tree)


def test_no_name_says_nothing() -> None:
    classes = {n.name for f in FILES for n in ast.walk(ast.parse(f.read_text())) if isinstance(n, ast.ClassDef)}
    empty = {c for c in classes if re.search(r"(Config|Manager|Factory|Handler)$|^Base|Mixin", c)}
    assert not empty
    assert not {f.stem for f in FILES} & {"utils", "helpers", "common", "misc"}


def test_public_names_are_listed_and_exist() -> None:
    names = getattr(hasten, "__all__", [])
    assert list(names) == sorted(names)
    assert all(hasattr(hasten, name) for name in names)


def readme_commands() -> list[str]:
    """Each ``hasten …`` line of the README's console blocks."""
    blocks = re.findall(r"```(?:console|sh|bash)\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    return [
        line.lstrip("$ ") for block in blocks for line in block.splitlines() if line.lstrip("$ ").startswith("hasten ")
    ]


@pytest.mark.parametrize("text", readme_commands())
def test_the_readme_only_names_commands_and_options_that_exist(text: str) -> None:
    _, command, *rest = text.split("#")[0].split()
    assert command in cli.cli.commands
    options = {name for p in cli.cli.commands[command].params for name in p.opts if isinstance(p, click.Option)}
    assert {word for word in rest if re.match(r"--?[a-z]", word)} <= options


def test_the_readme_opens_with_the_two_commands_and_they_exist() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    opening = readme[:600]
    for target in ("demo", "test"):
        assert f"make {target}" in opening
        assert re.search(rf"^{target}:", makefile, re.M)
    for target in re.findall(r"`make (\w+)`", readme):
        assert re.search(rf"^{target}:", makefile, re.M)


def test_the_readme_has_a_sentence_for_each_module() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = {parts_of(f) for f in FILES} - {"__init__"} - set(re.findall(r"^\| `(\w+)", readme, re.M))
    assert not missing
