"""The pip line that brings what an optional part needs: right for a clone, a repository, and an index."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def pip(*extras: str) -> str:
    """``pip install 'hasten[torch]'``, or from where hasten itself was installed.

    >>> pip("torch").startswith("pip install ") and "[torch]" in pip("torch")
    True
    """
    return line(_origin(), extras)


def line(origin: str | None, extras: tuple[str, ...]) -> str:
    """The same for the text of ``direct_url.json``, which pip writes beside what came from no index."""
    wanted = f"[{','.join(extras)}]"
    try:
        told = json.loads(origin) if origin else {}
        url = str(told["url"]) if told else ""
    except (ValueError, KeyError, TypeError):
        told, url = {}, ""
    told = told if isinstance(told, dict) else {}
    if "vcs_info" in told:
        return "pip install " + shlex.quote(f"hasten{wanted} @ {told['vcs_info'].get('vcs', 'git')}+{url}")
    folder = _local(url) if url.startswith("file://") else None
    if folder is not None and (folder / "pyproject.toml").is_file():
        editable = "-e " if told.get("dir_info", {}).get("editable") else ""
        return f"pip install {editable}{shlex.quote(f'{folder}{wanted}')}"
    return f"pip install 'hasten{wanted}'" if folder is None else f"pip install '.{wanted}' in a clone of hasten"


def _local(url: str) -> Path:
    """The path in a ``file://`` address, whose odd characters are written as ``%20``."""
    escaped = url.removeprefix("file://").encode()
    return Path(re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), escaped).decode("utf-8", "replace"))


@cache
def _origin() -> str | None:
    try:
        return distribution("hasten").read_text("direct_url.json")
    except (PackageNotFoundError, OSError):
        return None
