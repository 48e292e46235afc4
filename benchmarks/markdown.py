"""Tables in Markdown pages, between marks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with each table between ``<!-- NAME -->`` and the next ``<!-- end -->``."""
    for name, text in tables.items():
        head, mark, rest = page.partition(f"<!-- {name} -->\n")
        page = head + mark + text + "\n" + rest[rest.index("<!-- end -->") :] if mark else page
    return page


def command(about: str | None, page: Path, tables: Mapping[str, str]) -> None:
    """Print the tables, or with ``--write`` put them into the page."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"into {page.name}")
    if parser.parse_args().write:
        page.write_text(filled(page.read_text(), tables))
        return
    for name, text in tables.items():
        print(f"{name}\n\n{text}\n")
