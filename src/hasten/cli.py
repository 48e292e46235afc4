"""The ``hasten`` command: options to calls of ``hasten.api``, answers to text or JSON, faults to exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import RenderableType

from hasten import console, trial
from hasten.asked import AUTO
from hasten.budget import GRADES, parse_budget
from hasten.errors import EnvironmentFault, HastenError, Stopped, UsageError, did_you_mean
from hasten.keywords import options as spoken_as_options
from hasten.options import common, door, listed, named, output_kinds, samples, seconds
from hasten.report.words import clean
from hasten.search.interrupts import interrupts

NOT_CHECKED, BUG, INTERRUPTED = 6, 70, 130


class Commands(click.Group):
    """A group that suggests the nearest command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise UsageError(f"no command is called {args[0]!r}", help=did_you_mean(args[0], self.commands))
        return super().resolve_command(ctx, args)


def _api() -> Any:
    return import_module("hasten.api")  # late: --help must not wait for it, and a test may stand in for it


def _say(data: object, text: Callable[[], RenderableType], as_json: bool) -> None:
    if as_json:
        console.write(trial.encode(data).decode(), sys.stdout, wanted=True)
    else:
        console.show(text())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("hasten"), "-V", "--version", message="hasten %(version)s")
def cli() -> None:
    """The fastest version of your network that passes a test of your accuracy budget, on this machine.

    \b
    hasten doctor
    hasten inspect model.onnx
    hasten optimize model.onnx --data samples.npz --max-drop 1% --out out/
    """


@cli.command()
@click.argument("model")
@click.option("--data", metavar="PATH", help=".npz, .npy, a folder of images, or a table; without it: lossless only.")
@click.option("--unlabelled", metavar="PATH", help="Inputs alone: changed classes bound the drop.")
@click.option("--max-drop", default="1%", show_default=True, metavar="BUDGET", help="1%, 0.5%, rel:99% or agree:99%.")
@click.option(
    "--metric", metavar="NAME", callback=named("metrics"), help="A metric's name, or package.module:function."
)
@click.option(
    "--also",
    multiple=True,
    metavar="CONDITION",
    help="A further score that must hold, with what it may lose: 'sensitivity>=-0.5%'; repeatable.",
)
@click.option("--lower-is-better", is_flag=True, help="Of a metric that is your function: a lower score is better.")
@click.option("--output", metavar="NAME", help="The output that is scored, where there are several.")
@click.option(
    "--output-kind",
    multiple=True,
    metavar="NAME=KIND",
    callback=output_kinds,
    help="What an output is, where the line about it is wrong: logits, flags, mask, quantity, boxes, ...; repeatable.",
)
@click.option(
    "--ignore-output",
    multiple=True,
    metavar="NAME",
    help="An output that need not be kept; every other one is. Repeatable.",
)
@samples
@click.option(
    "--batch", type=click.IntRange(min=1), help="Samples a request: 1 by default, 16 with --objective throughput."
)
@click.option("--confidence", default=0.95, show_default=True, help="How sure the certificate is.")
@click.option(
    "--certificate",
    type=click.Choice(GRADES),
    default="statistical",
    show_default=True,
    help="What it takes: guaranteed assumes nothing of unseen samples, statistical that they resemble these.",
)
@click.option(
    "--time",
    "limit",
    metavar="TIME",
    callback=seconds,
    default=AUTO,
    show_default=True,
    help="How long the whole run takes, test and final timing included: 30s, 5m, 1h. auto is 30s to 10m by latency.",
)
@click.option(
    "--engine",
    "--engines",
    "engines",
    multiple=True,
    metavar="NAME,...",
    callback=listed("engines"),
    help="Search only these; repeatable.",
)
@click.option("--format", metavar="NAME", help="Search only engines whose file is so: onnx, openvino, pt2, ...")
@click.option(
    "--served-by",
    metavar="NAME",
    callback=named("engines"),
    help="What serves it today; its framework by default.",
)
@door
@click.option("--seed", type=int, help="Of the splits and shuffles.")
@click.option("--threads", type=click.IntRange(min=1), help="Cores that the network may use.")
@click.option(
    "--objective",
    type=click.Choice(["latency", "throughput", "size", "memory"]),
    default="latency",
    show_default=True,
    help="What to make better.",
)
@click.option("--per-tensor", is_flag=True, help="One scale for each int8 weight, for processors that know no others.")
@click.option("--out", default="out", show_default=True, metavar="DIR", help="Where the result goes.")
@click.option("--force", is_flag=True, help="Write into a folder that holds other files.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("-v", "--verbose", is_flag=True, help="A line a candidate.")
@common
def optimize(
    model: str, data: str | None, max_drop: str, confidence: float, certificate: str, limit: float | None,
    engines: Sequence[str], out: str, quiet: bool, verbose: bool, as_json: bool, **options: Any,
) -> int:  # fmt: skip
    """Search, test and write the fastest MODEL inside the budget. Exit 0: met, 1: nothing faster or undecided."""
    budget = parse_budget(max_drop, confidence, certificate)
    with console.Progress(verbosity=0 if quiet else 2 if verbose else 1) as progress:
        result: trial.Result = _api().optimize(
            model, data, max_drop=budget, confidence=confidence, seconds=limit, engines=list(engines) or None,
            out=out, listen=progress, **options,
        )  # fmt: skip
    _say(trial.summary(result), lambda: console.result_block(result, Path(out)), as_json)
    if result.stopped:
        return Stopped.exit_code
    return 0 if result.verdict == "met" else 1


@cli.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL_OR_OUT...")
@click.option("--data", required=True, metavar="PATH", help="Samples to run.")
@samples
@click.option("--batch", default=1, show_default=True, type=click.IntRange(min=1), help="Samples a request.")
@click.option("--pairs", "rounds", default=20, show_default=True, type=click.IntRange(min=1), help="Pairs of runs.")
@door
@common
def bench(models: Sequence[str], data: str, rounds: int, as_json: bool, **options: Any) -> None:
    """Time networks or output folders in interleaved pairs against the first."""
    rows = _api().bench(list(models), data, pairs=rounds, **options)
    _say({"schema_version": trial.SCHEMA_VERSION, "models": rows}, lambda: console.bench_table(rows), as_json)


@cli.command()
@click.argument("model")
@click.option("--data", metavar="PATH", help="Run it on these samples: time and harm by region.")
@click.option(
    "--engine",
    "--engines",
    "engines",
    multiple=True,
    metavar="NAME,...",
    callback=listed("engines"),
    help="Measure on these; repeatable.",
)
@click.option("--served-by", metavar="NAME", callback=named("engines"), help="What serves it today.")
@samples
@door
@common
def inspect(model: str, data: str | None, engines: Sequence[str], as_json: bool, **options: Any) -> None:
    """Say what MODEL is; with --data also where its time goes and what int8 would do to its answers."""
    with console.Progress() as progress:
        facts = _api().inspect(model, data, engines=list(engines) or None, listen=progress, **options)
    _say({"schema_version": trial.SCHEMA_VERSION, **trial.plain(facts)}, lambda: console.inspect_block(facts), as_json)


@cli.command()
@common
def doctor(as_json: bool) -> None:
    """Say what this machine and its engines can do."""
    with console.Progress() as progress:
        facts = trial.plain(_api().doctor(listen=progress))
    _say({"schema_version": trial.SCHEMA_VERSION, **facts}, lambda: console.doctor_block(facts), as_json)


@cli.command()
@click.argument("recipe")
@click.argument("model")
@click.option("--data", required=True, metavar="PATH", help="Samples to calibrate and check with.")
@samples
@click.option("--out", required=True, metavar="DIR", help="Where the network goes.")
@click.option("--force", is_flag=True, help="Write into a folder that holds other files.")
@door
@common
def apply(recipe: str, model: str, data: str, out: str, force: bool, as_json: bool, **options: Any) -> None:
    """Replay RECIPE on another MODEL, without a search."""
    facts = _api().apply(recipe, model, data, out=out, force=force, **options)
    _say({"schema_version": trial.SCHEMA_VERSION, **facts}, lambda: console.apply_block(facts), as_json)


@cli.command()
@click.argument("out")
@click.option("--model", metavar="PATH", help="The original network, where it is not at its old place.")
@click.option("--data", metavar="PATH", help="The data of the run, where it is not at its old place.")
@click.option("--metric", metavar="PKG.MOD:FUNCTION", help="The metric, where it was a function in Python.")
@click.option("--trust", is_flag=True, help="Let code that the result names, or the network holds, run.")
@common
def verify(out: str, model: str | None, data: str | None, metric: str | None, trust: bool, as_json: bool) -> int:
    """Check an output folder: its files, then its answers and its speed on the data of the run.

    Exit 0: verified, 1: a check failed, 6: nothing failed, but something could not be checked.
    """
    with console.Progress() as progress:
        report = _api().verify(out, data, model=model, metric=metric, trust=trust, listen=progress)
    _say({"schema_version": trial.SCHEMA_VERSION, **report}, lambda: console.verify_block(report), as_json)
    return {True: 0, False: 1, None: NOT_CHECKED}[report["ok"]]


@cli.command()
@click.argument("out")
@click.option("--data", metavar="PATH", help="New samples, with labels where the metric needs them.")
@click.option("--unlabelled", metavar="PATH", help="New inputs alone: changed answers bound the drop.")
@click.option("--labels-from", metavar="PATH", help="The to_label.csv of the result, with some labels filled in.")
@click.option("--model", metavar="PATH", help="The original network, where it is not at its old place.")
@click.option("--metric", metavar="PKG.MOD:FUNCTION", help="The metric, where it was a function in Python.")
@click.option("--trust", is_flag=True, help="Let code that the result names, or the network holds, run.")
@common
def prove(out: str, as_json: bool, **options: Any) -> int:
    """Add samples to a result folder, which gets the certificate that they allow. Exit 0: guaranteed, 1: not yet."""
    with console.Progress() as progress:
        report = _api().prove(out, listen=progress, **options)
    _say({"schema_version": trial.SCHEMA_VERSION, **report}, lambda: console.prove_block(report), as_json)
    return 0 if report["answer"] == "proven" else 1


@cli.command(name="schema")
@click.argument("command", default="optimize")
@common
def schema_(command: str, as_json: bool) -> None:
    """Print the JSON schema of what COMMAND writes with --json; "error" is what every command writes on failure."""
    console.write(trial.encode(import_module("hasten.schema").schema(command)).decode(), sys.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. A traceback is shown with ``--debug`` only."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if strange := [name for name in given if any("\udc80" <= c <= "\udcff" for c in name)]:
            raise UsageError(f"{strange[0]!r} is not UTF-8", help="rename the file, or link to it under another name")
        with spoken_as_options(), interrupts():
            return cli.main(given, prog_name="hasten", standalone_mode=False) or 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        eval("0")  # noqa: S307  an interrupt inside exec, as in a dataclass, would end ``python -m`` by SIGINT at exit
        console.write("stopped\n", sys.stderr)
        return INTERRUPTED
    except Exception as fault:  # the last line of defence: whatever it is, a person gets a sentence
        known = console.translated(fault)
        if "--debug" in given:
            console.write("".join(traceback.format_exception(fault)), sys.stderr)
        code = BUG if known is None else known.exit_code
        error = known or HastenError(
            f"hasten failed: {type(fault).__name__}: {fault}", help="run it again with --debug"
        )
        cause, advice = (clean(text).replace("\n", "\n" + 9 * " ") for text in (error.cause, error.help))
        shown = HastenError(clean(error.message).replace("\n", "\\n"), cause=cause, help=advice)
        console.write(f"{shown}\n", sys.stderr)
        if "--json" in given:
            body = {"message": error.message, "cause": error.cause, "help": error.help, "exit_code": code}
            with suppress(EnvironmentFault):  # it is on standard error
                console.write(
                    trial.encode({"schema_version": trial.SCHEMA_VERSION, "error": body}).decode(), sys.stdout
                )
        return code


def run() -> NoReturn:
    """The entry point of ``python -m hasten``."""
    code = main()
    try:
        console.write("", sys.stdout)  # what a library printed and could not write must not raise at the very end
    except EnvironmentFault as fault:
        code = code or fault.exit_code
    raise SystemExit(code)


if __name__ == "__main__":
    run()
