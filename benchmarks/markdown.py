"""Tables in Markdown pages, between marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with each table between ``<!-- NAME -->`` and the next ``<!-- end -->``."""
    for name, text in tables.items():
        head, mark, rest = page.partition(f"<!-- {name} -->\n")
        page = head + mark + text + "\n" + rest[rest.index("<!-- end -->") :] if mark else page
    return page
