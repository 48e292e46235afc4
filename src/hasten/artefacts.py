"""The output folder: built beside its place, synced, the manifest last, then renamed; never half of it."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hasten import bounded, durable, owned, trial
from hasten.errors import HastenError, UsageError
from hasten.evidence import Evidence, form, read_evidence
from hasten.example import example, module
from hasten.model import TensorSpec
from hasten.model_files import copy_model
from hasten.report.build import build
from hasten.result_files import (
    ESTIMATED,
    EVIDENCE,
    LARGEST,
    MANIFEST,
    RECIPE,
    REPORT,
    SESSIONS,
    TIMINGS,
    TO_LABEL,
    Manifest,
    Recipe,
    Source,
    describe,
    read_manifest,
)
from hasten.trial import Candidate, Result


def check_out(out: Path, inputs: Sequence[Path], force: bool) -> None:
    """Refuse, before any work starts, an output folder whose contents we may not replace.

    Raises:
        UsageError: ``out`` is a file, holds or lies in an input, or holds files that are not ours without ``force``.
    """
    _check_place(out)
    place = out.resolve()
    if os.path.lexists(place) and not place.is_dir():
        raise UsageError(f"the output {str(out)!r} is a file", help="name a folder: --out out")
    if place == Path.cwd() or place in Path.cwd().parents:
        raise UsageError(f"the output {str(out)!r} is the current folder or holds it", help="name a new one: --out out")
    for given in (path.resolve() for path in inputs):
        if place == given or place in given.parents:
            raise UsageError(
                f"the output {str(out)!r} holds the input {given.name!r}",
                cause="inputs are never touched, and the output folder is replaced as a whole",
                help="name a folder of its own: --out out",
            )
        if given in place.parents and not force:
            raise UsageError(
                f"the output {str(out)!r} lies inside the input {given.name!r}",
                help="name a folder elsewhere, or add --force",
            )
    if not force and place.exists() and any(place.iterdir()) and not is_ours(place):
        raise UsageError(
            f"the output {str(out)!r} is not empty",
            cause="this version of hasten did not write its files",
            help="add --force",
        )


def _check_place(out: Path) -> None:
    """A link in the place of the output would send the result elsewhere; a mounted folder cannot be replaced."""
    if out.is_symlink():
        raise UsageError(
            f"the output {str(out)!r} is a link to {str(out.readlink())!r}",
            cause="the output folder is replaced as a whole, and a link is never followed",
            help="name the folder that it leads to: --out",
        )
    if out.resolve().is_mount():
        raise UsageError(
            f"the output {str(out)!r} is a mounted folder",
            cause="it cannot be replaced as a whole",
            help=f"name a folder in it: --out {out / 'out'}",
        )


def is_ours(out: Path) -> bool:
    """True when ``out`` holds the manifest of an earlier run."""
    return _manifest(out) is not None


def _manifest(out: Path) -> Manifest | None:
    try:
        return read_manifest(out)
    except (HastenError, OSError):
        return None


def write(
    out: Path,
    *,
    result: Result,
    artefact: Path,
    inputs: Sequence[TensorSpec],
    splits: Mapping[str, int],
    extra: Mapping[str, Any],
    force: bool,
    building: Path,
    estimated: Path | None = None,
    evidence: Evidence | None = None,
) -> None:
    """Write the folder that a person takes away: model, recipe, manifest, reports, timings, example.

    ``evidence`` says which samples were seen, and lists changed inputs that a label would help.
    ``estimated`` is the artefact of ``result.estimated``, which gets a folder of the same layout in this one.
    ``extra`` goes into the manifest as it is; of it, ``state`` (input -> output), ``batch`` and ``shapes``
    (input -> a real shape) also shape ``example.py``, ``batch`` goes into the recipe too, and ``command`` is the line
    that made all this.

    ``building`` is a free place on the same disk.

    Raises:
        UsageError: as ``check_out``.
        EnvironmentFault: the disk is full or not writable; nothing is left behind.
    """
    check_out(out, [artefact], force=force)

    def fill(building: Path) -> None:
        if estimated is not None:
            inner = building / ESTIMATED
            inner.mkdir()
            _fill(inner, as_estimated(result), estimated, inputs, splits, extra)
        if evidence is not None:
            durable.put(building / EVIDENCE, trial.encode(evidence))
            if evidence.unknown:
                durable.put(building / TO_LABEL, form(evidence))
        _fill(building, result, artefact, inputs, splits, extra)

    publish(out, fill, building)


def _fill(
    folder: Path, result: Result, artefact: Path, inputs: Sequence[TensorSpec], splits: Mapping[str, int],
    extra: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write all files of a result folder, the manifest last."""
    model = copy_model(artefact, folder)
    durable.put(folder / RECIPE, trial.encode(recipe(result, int(extra.get("batch", 1)))))
    durable.put(folder / REPORT, trial.encode(result))
    durable.put(folder / "report.html", build(result).encode())
    durable.put(folder / TIMINGS, _timings(result))
    durable.put(folder / "example.py", example(result, model, inputs, extra).encode())
    told = _told(result, inputs, splits, extra)
    durable.put(folder / MANIFEST, trial.encode(describe(folder, network=model, **told)))


def as_estimated(result: Result) -> Result:
    """The result as the folder of the estimate reports it: the estimate in the winner's place, undecided."""
    found = result.estimated
    assert found is not None
    return replace(
        result, verdict="undecided", sentence=found.sentence, winner=found.trial, estimated=None,
        needed_samples=found.needed_samples,
    )  # fmt: skip


def write_applied(
    out: Path, building: Path, *, recipe: Recipe, artefact: Path, shapes: Mapping[str, Sequence[int]], **told: Any
) -> None:
    """Write the folder of an applied recipe: model, recipe, example and manifest.

    ``told`` are fields of the manifest, ``shapes`` are those of the samples by input.

    ``building`` is a free place on the same disk.

    Raises:
        EnvironmentFault: the disk is full or not writable; nothing is left behind.
    """

    def fill(building: Path) -> None:
        model = copy_model(artefact, building)
        durable.put(building / RECIPE, trial.encode(recipe))
        chosen = Candidate(steps=tuple(recipe.steps), engine=recipe.engine, settings=recipe.settings)
        of = {name: told[name] for name in ("state", "outputs", "batch")}
        how, versions = "with the settings of the recipe", told["machine"].versions
        text = module(chosen, model, told["inputs"], {**of, "shapes": shapes}, how=how, versions=versions)
        durable.put(building / "example.py", text.encode())
        manifest = describe(building, network=model, made_by="apply", **told)
        durable.put(building / MANIFEST, trial.encode(manifest))

    publish(out, fill, building)


def publish(out: Path, fill: Callable[[Path], None], building: Path) -> None:
    """Let ``fill`` write the folder ``building``, then put it in the place of ``out``; files of others in there stay.

    ``building`` is a name that is free, in a folder of ours on the same disk.

    Raises:
        EnvironmentFault: the disk is full or not writable; what was at ``out`` is still there.
    """
    place = out.resolve()
    left = {building}
    try:
        with durable.disk(f"the output {str(out)!r}"):
            place.parent.mkdir(parents=True, exist_ok=True)
            building.mkdir()
            fill(building)
            _carry_over(place, building)
            left |= {old} if (old := durable.swap(building, place)) is not None else set()
    finally:
        for path in left:
            owned.remove(path)


def recipe(result: Result, batch: int) -> Recipe:
    """What ``hasten apply`` replays: the winner's steps, engine and settings, and what was asked for."""
    chosen = result.winner.candidate
    return Recipe(
        hasten=version("hasten"),
        steps=list(chosen.steps),
        engine=chosen.engine,
        settings=chosen.settings,
        batch=batch,
        lossless=chosen.lossless,
        label=chosen.label,
        budget=result.budget,
        confidence=result.confidence,
        metric=result.metric,
    )


def _timings(result: Result) -> bytes:
    """Log ratios of every timed candidate under its key, of the baseline against itself under ``noise``."""
    arrays = {t.candidate.key: np.asarray(t.timing.log_ratios) for t in result.trials if t.timing}
    file = io.BytesIO()
    np.savez(file, noise=np.asarray(result.noise.log_ratios), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _told(
    result: Result, inputs: Sequence[TensorSpec], splits: Mapping[str, int], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """What the manifest says beside the digests: what made the files."""
    return {
        "made_by": "optimize",
        "schema_version": result.schema_version,
        "verdict": result.verdict,
        "started": result.started,
        "source": Source(model=result.model, sha256=result.model_sha256, data_sha256=result.data_sha256),
        "machine": result.machine,
        "inputs": tuple(inputs),
        "splits": dict(splits),
        "seed": result.seed,
        "looks": result.looks,
        **extra,
    }


def _carry_over(place: Path, building: Path) -> None:
    """What at ``place`` is not, byte by byte, what hasten wrote gets a second name in ``building``: none is ever lost.

    Where the new result has a file of that name, the old one is kept with ``.before`` added.
    """
    manifest = _manifest(place)
    same = [name for name in manifest.files if _is_written(manifest, place, name)] if manifest else []
    written = {MANIFEST, SESSIONS, f"{ESTIMATED}/{SESSIONS}", *same} if manifest else set[str]()
    if manifest and _is_our_form(place):
        written.add(TO_LABEL)
    for stranger in place.iterdir() if place.exists() else ():
        inside = [p for p in stranger.rglob("*") if not p.is_dir() or p.is_symlink()] if _is_folder(stranger) else []
        if written.issuperset(p.relative_to(place).as_posix() for p in inside or [stranger]):
            continue
        target = _free(building / stranger.name)
        if _is_folder(stranger):
            shutil.copytree(stranger, target, symlinks=True, copy_function=_second_name)
        else:
            _second_name(stranger, target)


def _is_our_form(place: Path) -> bool:
    """True where nobody has filled in the table of changed inputs."""
    try:
        return bounded.read(place / TO_LABEL, LARGEST[EVIDENCE]) == form(read_evidence(place))
    except (HastenError, OSError):
        return False


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_written(manifest: Manifest, place: Path, name: str) -> bool:
    """True where the file at ``place`` is still what a manifest of ours says that hasten wrote."""
    try:
        return manifest.is_written(place, name)
    except (HastenError, OSError, ValueError):
        return False


def _free(target: Path) -> Path:
    while os.path.lexists(target):
        target = target.with_name(f"{target.name}.before")
    return target


def _second_name(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        if stat.S_IFMT(os.lstat(source).st_mode) not in (stat.S_IFREG, stat.S_IFLNK):
            raise
        shutil.copy2(source, target, follow_symlinks=False)
