"""The contract of a search: what each output is, described before anything is tried, and kept by what is narrowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hasten.errors import UsageError, did_you_mean
from hasten.measure.kinds import CLASSES, KINDS, LISTED, WHOLE
from hasten.measure.outputs import describe
from hasten.protocols import Array
from hasten.search.question import Question
from hasten.search.run import Run

HELP = f"write --output-kind NAME=KIND, where KIND is one of {', '.join(KINDS)}"


def draw_up(run: Run, question: Question, seen: Sequence[Sequence[Array]], labels: Array | None) -> None:
    """Describe each output from the answers ``seen`` of the network as given, and print a line for each.

    Raises:
        UsageError: the question names an output that is not there, or a kind that does not fit.
    """
    check_names(run, question)
    kinds = dict(question.output_kinds or {})
    fed_back = set(run.evaluator.store.state.values())
    answers = {
        name: [one[k] for one in seen]
        for k, name in enumerate(run.names)
        if name not in fed_back and name not in question.ignored
    }
    check_kinds(kinds, answers)
    run.contract = describe(answers, labels=labels, kinds=kinds, fixed_inputs=fixed_inputs(run))
    for output in run.contract:
        run.say("note", f"output {output}")
    for name in question.ignored:
        run.say("warning", ignored(name))


def lines(run: Run, question: Question) -> tuple[str, ...]:
    """A line for each output, for the report."""
    return (*map(str, run.contract), *map(ignored, question.ignored))


def ignored(name: str) -> str:
    """What is said of an output that need not be kept."""
    return f"output {name} is ignored: what is narrowed may answer anything there"


def check_names(run: Run, question: Question) -> None:
    """Names of outputs and kinds that there are.

    Raises:
        UsageError: there is none of that name, or all outputs are ignored.
    """
    for name in (*question.ignored, *(question.output_kinds or {})):
        if name not in run.names:
            raise UsageError(f"the network has no output {name!r}", help=did_you_mean(name, run.names))
    for kind in (question.output_kinds or {}).values():
        if kind not in KINDS:
            raise UsageError(f"no kind of output is called {kind!r}", help=did_you_mean(kind, KINDS))
    if question.output in question.ignored or not set(run.names) - set(question.ignored):
        raise UsageError("the output that is scored cannot be ignored", help="leave out --ignore-output")


def check_kinds(kinds: Mapping[str, str], answers: Mapping[str, Sequence[Array]]) -> None:
    """Kinds that the outputs' types and shapes allow.

    Raises:
        UsageError: one does not.
    """
    for name, kind in kinds.items():
        arrays = answers.get(name, ())
        types = {a.dtype.kind for a in arrays}
        if kind != WHOLE and not types <= set("fiubV"):
            raise UsageError(f"output {name!r} holds {arrays[0].dtype}, no numbers, and cannot be {kind}", help=HELP)
        wide = min((a.shape[-1] if a.ndim > 1 else 1 for a in arrays), default=1)
        axes = min((max(a.shape[1:], default=1) for a in arrays), default=1)
        few = (kind == "boxes" and axes < 4) or (kind in CLASSES and axes < 2)
        if few and kind != LISTED:
            shape = list(arrays[0].shape) if arrays else []
            raise UsageError(f"output {name!r} is {shape}: {wide} columns are too few for {kind}", help=HELP)


def fixed_inputs(run: Run) -> bool:
    """True where the inputs of all samples have one shape."""
    store = run.evaluator.store
    shapes = (store.columns[entry.name].shapes for entry in store.inputs if not entry.once)
    return not store.sequential and all(not (one != one[:1]).any() for one in shapes if len(one))
