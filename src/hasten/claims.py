"""Check a result again: its files, then, with the original network and data, its claims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hasten.budget import parse_budget
from hasten.errors import InputError, UsageError
from hasten.measure.evaluate import NewNaN
from hasten.measure.quality import assess
from hasten.measure.speed import margin_of
from hasten.measure.timing import interleave, timing
from hasten.model import file_digest
from hasten.protocols import Door, Listener
from hasten.replay import load_served, only_known, served
from hasten.report import story
from hasten.report.words import scatter
from hasten.search.baseline import noise_floor
from hasten.search.confirm import unchanged
from hasten.search.folder import RunFolder
from hasten.search.prepare import prepare
from hasten.search.question import Question
from hasten.trial import Result, Timing, decode
from hasten.worker import CallFailed, Worker, WorkerDied

VERIFY_ROUNDS = 20
BUSIER = 2  # times the noise of the search: worth a word


def verify(out: Path, data: object, folder: RunFolder, listen: Listener, *, trust: bool = False) -> dict[str, Any]:
    """Check a result again: the files' hashes, then, with the original network and data, the claims themselves.

    Returns ``{"ok", "checks": [{"name", "ok", "text"}]}``; a check that cannot be made has ``ok`` None.
    """
    manifest = _manifest(out)
    checks = [_hashes(out, manifest)]
    question = manifest.get("question", {})
    data = data if data is not None else question.get("data")
    model = Path(question.get("model", ""))
    if (data is None and not question.get("made_up")) or model == Path() or not model.exists():
        text = "needs the original network and the data; name the data with --data"
        checks.append({"name": "claims", "ok": None, "text": text})
    elif checks[0]["ok"]:
        checks += _claims(out, manifest, model, data, folder, listen, trust)
    return {"ok": all(c["ok"] is not False for c in checks), "checks": checks}


def _manifest(out: Path) -> dict[str, Any]:
    try:
        manifest = msgspec.json.decode((out / "manifest.json").read_bytes(), type=dict[str, Any])
        msgspec.convert(manifest.get("files", {}), dict[str, str])
        msgspec.convert(manifest.get("question", {}), dict[str, Any])
        return manifest
    except (OSError, RecursionError, msgspec.MsgspecError) as fault:
        raise UsageError(
            f"{out} is not a result of optimize", cause=str(fault), help="name its --out folder"
        ) from fault


def _report(out: Path) -> Result:
    try:
        return decode((out / "report.json").read_bytes(), Result)
    except (OSError, RecursionError, msgspec.MsgspecError) as fault:
        raise UsageError(f"{out / 'report.json'} is no report of this version", cause=str(fault)) from fault


def _hashes(out: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    inside = out.resolve()
    wrong = [
        name
        for name, digest in manifest.get("files", {}).items()
        if not (place := (out / name).resolve()).is_relative_to(inside)
        or not place.is_file()
        or file_digest(place) != digest
    ]
    text = f"changed or missing: {', '.join(wrong)}" if wrong else f"{len(manifest.get('files', {}))} files unchanged"
    return {"name": "files", "ok": not wrong, "text": text}


def _claims(
    out: Path, manifest: Mapping[str, Any], model: Path, data: object, folder: RunFolder, listen: Listener, trust: bool
) -> list[dict[str, Any]]:
    result = _report(out)
    if file_digest(model) != result.model_sha256:
        return [{"name": "network", "ok": False, "text": f"{model} is not the network of this result"}]
    asked = dict(manifest["question"])
    door = Door(trust=trust, module=asked.pop("module", None), signature=asked.pop("signature", None))
    asked = {k: v for k, v in asked.items() if k not in ("model", "data", "made_up", "budget", "confidence")}
    for group, name in (("metrics", asked.get("metric")), ("engines", asked.get("served_by"))):
        if name:
            only_known(group, name, out / "manifest.json", trust=trust)
    if door.module and not trust:
        cause = f"the manifest names {door.module!r}, and calling it would run whatever it is"
        raise InputError(f"{model.name} is built by code", cause=cause, help="--trust, if the result is yours")
    budget = parse_budget(result.budget, result.confidence)
    try:
        question = Question(model=model, data=data, budget=budget, door=door, **asked)
    except TypeError as fault:
        raise UsageError(f"{out} was written by another version of hasten", cause=str(fault)) from fault
    run, _, _ = prepare(question, folder, listen, look=result.looks)
    try:
        if run.evaluator.store.digest != result.data_sha256:
            return [{"name": "data", "ok": False, "text": "these are not the samples of this result"}]
        ids = [int(i) for i in run.splits.confirm] or [int(i) for i in run.splits.search]
        run.evaluator.measure_baseline(run.loaded[run.given], ids)
        noise = noise_floor(run)
        network = served(out, trust=trust)
        with Worker(name=network.name) as worker:
            load_served(worker, network, run.names)
            rows = run.evaluator.rows(worker, ids)
            sides = {"baseline": run.loaded[run.given], "result": worker}
            series = interleave(sides, run.work, rounds=VERIFY_ROUNDS, seed=run.seed, rested=True)
        known, groups = run.evaluator.known(ids), run.evaluator.groups(ids)
        quality = assess(run.evaluator.metric, run.proof, known, rows, split="confirm", groups=groups)
        if result.winner.candidate.lossless:
            quality = unchanged(quality, known, rows)
        speed = timing(series.blocks["baseline"], series.blocks["result"])
    except (WorkerDied, CallFailed, NewNaN) as fault:
        return [{"name": "claims", "ok": False, "text": str(fault)}]
    finally:
        run.close()
    return [
        {
            "name": "accuracy",
            "ok": bool(quality.met or result.verdict != "met"),
            "text": f"drop {quality.drop * 100:.2f} points, at most {quality.upper * 100:.2f} (budget {budget})",
        },
        _speed(result, speed, noise),
    ]


def _speed(result: Result, found: Timing, noise: Timing) -> dict[str, Any]:
    """The speed-up found now beside the one claimed, and what this machine can tell apart now and could then."""
    now, then = (margin_of(one.low, one.high) for one in (noise, result.noise))
    parts = [
        f"{found.speedup:.2f}× [{found.low:.2f}, {found.high:.2f}], claimed {result.speedup:.2f}×",
        f"noise {scatter(noise.low, noise.high)}, {story.noise(result)} in the search",
        *["the machine is busier now"] * (now > BUSIER * then),
        *dict.fromkeys((*noise.flags, *found.flags)),
    ]
    return {"name": "speed", "ok": bool(found.low > 1 or result.verdict != "met"), "text": "; ".join(parts)}
