"""The result of a search, handed over as a folder with all that is needed to check it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hasten import artefacts
from hasten.report.source import shell
from hasten.samples.sequence import fed_shapes
from hasten.search.field import Run
from hasten.search.question import Question
from hasten.trial import Result

RECORDED = (
    "output",
    "labels",
    "groups",
    "preprocess",
    "batch",
    "threads",
    "objective",
    "per_tensor",
    "seed",
    "served_by",
)


def write(out: Path, run: Run, question: Question, result: Result, force: bool, building: Path) -> None:
    """Write the folder ``out``: the winner's file, the report, and what ``verify`` needs to ask the question again.

    ``building`` is a free place on the same disk, in a folder of ours.

    Raises:
        EnvironmentFault: no room, or no permission.
    """
    winner = result.winner
    artefacts.write(
        out,
        result=result,
        artefact=run.folder / winner.artefact,
        inputs=run.inputs,
        splits={
            "calibrate": len(run.splits.calibrate),
            "search": len(run.splits.search),
            "confirm": len(run.splits.confirm),
        },
        extra={
            "inputs": list(run.inputs),
            "outputs": run.names,
            "shapes": fed_shapes(run.evaluator.store, run.work.ids, run.work.batch),
            "command": " ".join(map(shell, ["hasten", *sys.argv[1:]])) if Path(sys.argv[0]).stem == "hasten" else None,
            "batch": run.evaluator.batch,
            "state": dict(run.evaluator.store.state),
            "question": _recorded(question),
        },
        force=force,
        building=building,
    )


def _recorded(question: Question) -> dict[str, Any]:
    """The question as JSON, so that ``verify`` can ask it again; what only Python can hold is left out."""
    named = {name: getattr(question, name) for name in RECORDED}
    data = str(Path(question.data).resolve()) if isinstance(question.data, str | Path) else None
    metric = question.metric if isinstance(question.metric, str) else None
    state = dict(question.state) if question.state else None
    door = {"module": question.door.module, "signature": question.door.signature}  # trust is given anew each time
    asked = {"model": str(question.model.resolve()), "data": data, "made_up": question.data is None}
    return {**named, **asked, "metric": metric, "state": state, **door}
