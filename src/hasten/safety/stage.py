"""A private copy of a model: what is checked is what is run, whatever happens to the user's file meanwhile."""

from __future__ import annotations

import json
import os
import stat
from hashlib import sha256
from pathlib import Path

from hasten.errors import EnvironmentFault, InputError
from hasten.model import file_digest
from hasten.safety.detect import require_onnx
from hasten.safety.tensors import locate
from hasten.safety.walk import check_onnx

MAX_MEMBERS = 10_000  # files of a model that is a folder
DIGESTS = ".hasten-sha256.json"  # {file name in the stage: sha256 of its bytes}


def stage(path: Path, directory: Path) -> Path:
    """Copy the model and its data files to ``directory`` under their logical names; returns the model's copy.

    The copy is the file that gets checked. Links of a hub cache become plain files. The sha256 of each file is
    taken while copying and kept in ``.hasten-sha256.json``; copies are read-only.

    Raises:
        UsageError, InputError: as ``check_onnx``. EnvironmentFault: the disk is full or not writable.
    """
    require_onnx(path)
    staged = directory / path.name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        digests = {path.name: _copy(path.resolve(), staged)}
        for location in check_onnx(staged, original=path).external:
            if location in (path.name, DIGESTS):
                raise InputError(
                    f"{path} keeps its data in {location!r}", cause="that name is taken", help="rename the data"
                )
            source = locate(location, path.parent, path.resolve(), "the model")
            target = directory / location
            target.parent.mkdir(parents=True, exist_ok=True)
            digests[location] = _copy(source, target)
        (directory / DIGESTS).write_text(json.dumps(digests, indent=1), encoding="utf-8")
    except InputError:
        staged.unlink(missing_ok=True)
        raise
    except OSError as error:
        cause = str(error.strerror or error)
        where = f"cannot copy {path} to {directory}"
        raise EnvironmentFault(where, cause=cause, help="free some disk") from error
    return staged


def stage_original(path: Path, directory: Path) -> Path:
    """Copy a file of any format, or a folder of regular files, to ``directory``; returns the copy.

    Raises:
        InputError: it holds a link or anything but files, or too many. EnvironmentFault: the disk is full.
    """
    staged = directory / path.name
    members = sorted(path.rglob("*")) if path.is_dir() else [path]
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{path} holds {len(members):,} files", help="give the folder of the model alone")
    try:
        for member in members:
            target = staged / member.relative_to(path) if path.is_dir() else staged
            if path.is_dir() and member.is_symlink():
                raise InputError(f"{path} holds a link", cause=f"{member.name!r}", help="give a folder of plain files")
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(member if path.is_dir() else member.resolve(), target)
    except OSError as error:
        where = f"cannot copy {path} to {directory}"
        raise EnvironmentFault(where, cause=str(error.strerror or error), help="free some disk") from error
    return staged


def staged_digests(staged: Path) -> dict[str, str]:
    """The sha256 of each file beside ``staged``, as taken when it was copied."""
    found: dict[str, str] = json.loads((staged.parent / DIGESTS).read_text(encoding="utf-8"))
    return found


def given_digest(staged: Path) -> str:
    """sha256 of the file or folder that the user gave, of which ``staged`` is the copy."""
    return staged_digests(staged)[staged.name] if (staged.parent / DIGESTS).is_file() else file_digest(staged)


def _copy(source: Path, target: Path) -> str:
    """Copy a regular file without following a link at its end; returns the sha256 of what was written."""
    digest = sha256()
    building = target.with_name(f"{target.name[:200]}.{os.getpid()}.part")
    try:
        with (
            os.fdopen(os.open(source, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file,
            building.open("wb") as out,
        ):
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{source} is not a regular file", help="give the .onnx file")
            while piece := file.read(1 << 20):
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        building.chmod(0o400)
        building.replace(target)
    finally:
        building.unlink(missing_ok=True)
    return digest.hexdigest()
