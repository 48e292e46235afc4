"""The result of a search, handed over as a folder with all that is needed to check it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from hasten import artefacts
from hasten.evidence import Evidence, numbered
from hasten.report.source import shell
from hasten.result_files import Asked
from hasten.samples.sequence import fed_shapes
from hasten.search.field import Run
from hasten.search.question import Question, digest, told_of
from hasten.trial import Result


def write(out: Path, run: Run, question: Question, result: Result, force: bool, building: Path) -> None:
    """Write the folder ``out``: the winner's file, the report, and what ``verify`` needs to ask the question again.

    What has an estimate and no certificate gets a folder of its own in ``out``.

    ``building`` is a free place on the same disk, in a folder of ours.

    Raises:
        EnvironmentFault: no room, or no permission.
    """
    winner = result.winner
    shapes = fed_shapes(run.evaluator.store, run.work.ids, run.work.batch)
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
            "outputs": tuple(run.names),
            "shapes": {name: tuple(shape) for name, shape in shapes.items()},
            "command": " ".join(map(shell, ["hasten", *sys.argv[1:]])) if Path(sys.argv[0]).stem == "hasten" else None,
            "batch": run.evaluator.batch,
            "state": dict(run.evaluator.store.state),
            "question": _recorded(run, question),
        },
        force=force,
        building=building,
        estimated=run.folder / result.estimated.trial.artefact if result.estimated else None,
        evidence=Evidence(seen=numbered(run.evaluator.store.hashes)) if question.data is not None else None,
    )


def _recorded(run: Run, question: Question) -> Asked:
    """The question as JSON, so that ``verify`` can ask it again; of what only Python can hold, the identity."""
    named = question.metric if isinstance(question.metric, str) else None
    inside = question.model.resolve().is_relative_to(run.folder.resolve())  # a Python object, written down for this run
    return Asked(
        model=None if inside else str(question.model.resolve()),
        data=str(Path(question.data).resolve()) if isinstance(question.data, str | Path) else None,
        made_up=question.data is None,
        metric=named,
        metric_by="choice" if question.metric is None else "name" if named else "function",
        metric_sha256=None if question.metric is None or named else digest(told_of(run.evaluator.metric)),
        certificate=question.budget.certificate,
        output=question.output,
        output_kinds=dict(question.output_kinds) if question.output_kinds else None,
        ignored=tuple(question.ignored),
        labels=question.labels,
        groups=question.groups,
        preprocess=question.preprocess,
        columns={k: list(v) for k, v in question.columns.items()} if question.columns else None,
        lower_is_better=question.lower_is_better,
        also=list(question.also),
        batch=question.batch,
        threads=question.threads,
        objective=cast(Any, question.objective),
        per_tensor=question.per_tensor,
        seed=question.seed,
        served_by=question.served_by,
        state=dict(question.state) if question.state else None,
        module=question.door.module,  # whether it is trusted is asked anew each time
        signature=question.door.signature,
    )
