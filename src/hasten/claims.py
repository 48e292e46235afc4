"""Check a result again: its files, then, with the original network and the data, what it claims.

verified      every check was made, and each one passed
failed        a check was made and did not pass
not checked   nothing failed, and something could not be checked: each such check says what to give
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from hasten import sessions
from hasten.budget import parse_budget
from hasten.errors import InputError, UsageError
from hasten.evidence import read_evidence
from hasten.frontends.objects import as_file
from hasten.measure.added import excludes
from hasten.measure.speed import LEAST_RESTARTS, block_average, restart_interval, speedup_of
from hasten.model import file_digest
from hasten.protocols import Listener
from hasten.read_result import Served, copy_network, only_known, present, read_recipe, safe_copy
from hasten.reproduce import BETTING, Original, again
from hasten.result_files import (
    ESTIMATED,
    EVIDENCE,
    MANIFEST,
    NAMES,
    RECIPE,
    REPORT,
    SESSIONS,
    TIMINGS,
    Asked,
    Check,
    Manifest,
    Recipe,
    read_manifest,
    read_report,
    read_timings,
)  # fmt: skip
from hasten.search.folder import RunFolder
from hasten.search.reading import look
from hasten.trial import Result

MADE_UP_BY_SYSTEM = ("proc", "sys", "dev")
ROUNDED = 1e-4  # ratios are written with six digits
REQUIRED = (RECIPE, REPORT, TIMINGS)
ANSWERS = {True: "verified", False: "failed", None: "not checked"}
GIVE_MODEL, GIVE_DATA = "give the original network: --model PATH", "give the data of the run: --data PATH"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller of ``verify`` adds to the folder: where things are now, and what only Python can hold."""

    model: object = None
    data: object = None
    metric: str | Callable[..., Any] | None = None
    trust: bool = False

    @property
    def exported(self) -> bool:
        """True where the network is an object, which is exported for this call."""
        return self.model is not None and not isinstance(self.model, str | Path)


def verify(out: Path, given: Given, folder: RunFolder, listen: Listener) -> dict[str, Any]:
    """Check a result again.

    Returns ``{"answer", "ok", "checks": [{"name", "ok", "text", "help"}]}``. ``answer`` is "verified", "failed" or "not
    checked"; ``ok`` is True, False or None for these, of the whole and of each check.

    Raises:
        UsageError: it is no result folder. InputError: it could run code, or holds what is no regular file.
    """
    manifest = read_manifest(out)
    wrong = changed(out, manifest)
    checks = [_files(manifest, wrong), *_listing(out, manifest)]
    if not any(check.ok is False for check in checks):
        checks += _contents(out, manifest, given, folder, listen)
    answers = {check.ok for check in checks}
    ok = False if False in answers else None if None in answers else True
    told = [{"name": c.name, "ok": c.ok, "text": c.text, "help": c.help} for c in checks]
    return {"answer": ANSWERS[ok], "ok": ok, "checks": told}


def changed(out: Path, manifest: Manifest) -> list[str]:
    """Listed files that are missing or have other contents.

    Raises:
        InputError: one is no regular file.
    """
    return [name for name in manifest.files if not manifest.is_written(out, name)]


def _files(manifest: Manifest, wrong: Sequence[str]) -> Check:
    text = f"{len(manifest.files)} files unchanged"
    return Check("files", not wrong, f"changed or missing: {', '.join(wrong)}" if wrong else text)


def _listing(out: Path, manifest: Manifest) -> list[Check]:
    """What the manifest does not list: a file of ours is missed, another network beside it is no part of the check."""
    missing = [name for name in REQUIRED if name not in manifest.files]
    if missing and manifest.made_by == "optimize":
        return [Check("listing", False, f"{MANIFEST} does not list {', '.join(missing)}")]
    listed = {name.split("/")[0] for name in manifest.files} | {MANIFEST, SESSIONS}
    strange = sorted(p.name for p in out.iterdir() if p.name not in listed)
    ours = [name for name in strange if name in NAMES or Path(name).stem == "model"]
    if ours:
        text = f"{MANIFEST} does not list {', '.join(ours)}"
        return [Check("listing", None, text, f"move {ours[0]} elsewhere, and check again")]
    return [Check("listing", True, f"not listed, and left alone: {', '.join(strange)[:300]}")] if strange else []


def _contents(
    out: Path, manifest: Manifest, given: Given, folder: RunFolder, listen: Listener
) -> list[Check]:  # fmt: skip
    """What the files say must agree; then the claims, where everything that they need is there."""
    recipe = read_recipe(out / RECIPE, trust=given.trust)
    if manifest.made_by == "apply" or manifest.question is None:
        help_text = "run hasten optimize, which tests a drop and times it"
        return [
            Check("claims", None, "a recipe was applied: nothing is claimed of its answers or its speed", help_text)
        ]
    result = read_report(out)
    checks = [
        _agreement(manifest, recipe, result),
        _timings(out, result),
        *_estimate(out, manifest, result, given),
        *_added(out, result),
    ]
    if any(check.ok is False for check in checks):
        return checks
    began, missing = original(out, manifest.question, result, given, folder)
    if began is None:
        return [*checks, *missing]
    present(recipe.engine)
    copy = folder.path / "result"
    if wrong := copy_network(out, manifest, copy / "copy"):
        return [*checks, Check("files", False, f"changed while they were checked: {', '.join(wrong)}")]
    shown = out / manifest.network
    path = safe_copy(recipe, copy / "copy" / manifest.network, copy / "checked", shown, trust=given.trust)
    network = Served(out.name, recipe.engine, path, recipe.settings, manifest.inputs, shown=shown)
    found, timed = again(result, began, network, folder, listen, sessions.earlier(out, manifest))
    if timed is not None:
        sessions.add(out, manifest, timed)
    return [*checks, *found]


def original(
    out: Path, asked: Asked, result: Result, given: Given, folder: RunFolder
) -> tuple[Original | None, list[Check]]:
    """What the search was asked about, found again; or None, and what must be given.

    Raises:
        InputError: the manifest names code, and nobody said ``trust``. UsageError: a name is not registered.
    """
    named = [] if asked.metric is None else [("metrics", asked.metric)]
    for group, name in [*named, *([("engines", asked.served_by)] if asked.served_by else [])]:
        only_known(group, name, out / MANIFEST, trust=given.trust)
    if asked.module and not given.trust:
        cause = f"the manifest names {asked.module!r:.120}, and calling it would run whatever it is"
        raise InputError("the network of this result is built by code", cause=cause, help="--trust, if it is yours")
    if given.metric is not None and asked.metric_by != "function" and given.metric != asked.metric:
        what = f"the metric of this result is {result.metric!r:.80}, which hasten knows"
        raise UsageError(what, help="leave out --metric")
    model, data = _found(asked, given, folder)
    missing = [
        *_network(model, result, exported=given.exported),
        *([] if asked.made_up else _data(data)),
        *_metric(asked, result, given),
    ]
    if missing or model is None:
        return None, missing
    return Original(
        model=model, data=data, asked=asked, metric=given.metric or asked.metric, trust=given.trust or given.exported
    ), []


def _found(asked: Asked, given: Given, folder: RunFolder) -> tuple[Path | None, object]:
    """The network's file, or None, and the data: what the caller gives, else what lies where it was."""
    data = asked.data if given.data is None else given.data
    if given.model is None:
        return Path(asked.model) if asked.model else None, data
    place = folder.path / "given"
    path, samples = as_file(given.model, data, place, partial(look, folder=place, labels=asked.labels))
    if not path.exists():
        raise UsageError(f"there is no {path}", help=GIVE_MODEL)
    return path, samples


def _network(model: Path | None, result: Result, *, exported: bool) -> list[Check]:
    if model is None:
        return [Check("network", None, "the network was an object of a Python program", GIVE_MODEL)]
    if not _readable(model):
        return [Check("network", None, f"the original network is not at {model}", GIVE_MODEL)]
    if file_digest(model) == result.model_sha256:
        return []
    text = f"{model} is not the network of this result: its sha256 differs"
    if exported:
        text = "the network was exported anew, and the file differs from that of the run"
    return [Check("network", None, text, GIVE_MODEL)]


def _data(data: object) -> list[Check]:
    if data is None:
        return [Check("data", None, "the data was an object of a Python program", GIVE_DATA)]
    if isinstance(data, str | Path) and not _readable(Path(data)):
        return [Check("data", None, f"the data is not at {data}", GIVE_DATA)]
    return []


def _metric(asked: Asked, result: Result, given: Given) -> list[Check]:
    if asked.metric_by != "function" or given.metric is not None:
        return []
    text = f"the metric {result.metric!r:.80} was a Python function"
    return [Check("metric", None, text, "give it again: metric= in Python, or --metric package.module:function")]


def _readable(path: Path) -> bool:
    """True for files and folders, wherever a link leads; not for devices, and what a system makes up as it is read."""
    try:
        found = path.resolve()
        return (found.is_file() or (found.is_dir() and len(found.parts) > 1)) and found.parts[
            1
        ] not in MADE_UP_BY_SYSTEM
    except (OSError, ValueError, IndexError, RuntimeError):
        return False


def _agreement(manifest: Manifest, recipe: Recipe, result: Result) -> Check:
    """The recipe is that of the winner in the report, and the manifest names the same network and samples."""
    chosen, source = result.winner.candidate, manifest.source
    pairs = {
        "the engine": (recipe.engine, chosen.engine),
        "the settings": (recipe.settings, chosen.settings),
        "the steps": (list(recipe.steps), list(chosen.steps)),
        "the verdict": (manifest.verdict, result.verdict),
        "the original network": (source.sha256, result.model_sha256),
        "the data": (source.data_sha256, result.data_sha256),
        "the budget": (recipe.budget, result.budget),
    }
    other = [name for name, (one, two) in pairs.items() if one != two]
    text = f"manifest, recipe and report disagree about {', '.join(other)}" if other else "manifest, recipe and report"
    return Check("agreement", not other, text if other else f"{text} agree")


def _estimate(out: Path, manifest: Manifest, result: Result, given: Given) -> list[Check]:
    """The folder of the estimate holds what the report says; its own claims are checked by a call of its own."""
    place, found = out / ESTIMATED, result.estimated
    if found is None:
        return []
    if missing := [name for name in (MANIFEST, *REQUIRED) if f"{ESTIMATED}/{name}" not in manifest.files]:
        return [Check("estimate", False, f"{MANIFEST} does not list {ESTIMATED}/{missing[0]}")]
    inside = read_report(place)
    agrees = _agreement(read_manifest(place), read_recipe(place / RECIPE, trust=given.trust), inside)
    if not agrees.ok or inside.winner.candidate != found.trial.candidate:
        about = f"{REPORT} is about another network" if agrees.ok else agrees.text
        return [Check("estimate", False, f"in {ESTIMATED}/, {about}")]
    return [Check("estimate", True, f"no certificate is claimed: hasten verify {place} measures it")]


def _added(out: Path, result: Result) -> list[Check]:
    """The bound that rests on added samples follows from their losses."""
    claimed = result.winner.confirm
    if claimed is None or claimed.method != BETTING:
        return []
    found = read_evidence(out)
    budget = parse_budget(result.budget, result.confidence)
    asked = 0.0 if budget.kind == "relative" else budget.max_drop
    fits = found.candidate == result.winner.candidate.key and claimed.n == found.n and found.limit <= asked
    ok = fits and claimed.level <= budget.alpha * (1 + ROUNDED) and excludes(found, claimed.level)
    text = f"{found.n:,} added samples, {found.unknown:,} of them changed and without a label"
    return [Check("evidence", ok, text if ok else f"the certificate does not follow from {EVIDENCE}: {text}")]


def _timings(out: Path, result: Result) -> Check:
    """The claimed speed-up follows from the pairs that lie beside it."""
    timed = result.winner.timing
    if timed is None:
        return Check("timings", True, "no speed-up is claimed")
    key = result.winner.candidate.key
    stored = read_timings(out).get(key)
    if stored is None or tuple(stored.tolist()) != timed.log_ratios:
        return Check("timings", False, f"{TIMINGS} does not hold the pairs behind the speed-up ({key})")
    follows = [speedup_of(pairs) for pairs in (stored, block_average(stored)) if len(pairs)]
    if timed.restarts >= LEAST_RESTARTS:
        whole = len(stored) > 0 and len(stored) % timed.restarts == 0
        follows = [restart_interval(stored, timed.restarts)[0]] if whole else [inf]
    if follows and not any(abs(one - timed.speedup) <= ROUNDED * one for one in follows):
        return Check("timings", False, f"the pairs give {follows[0]:.3f}×, and {timed.speedup:.3f}× is claimed")
    return Check("timings", True, f"the claimed speed-up follows from {len(stored)} pairs")
