"""The command line: every command is a thin layer over the package."""

import gc
import os
import sys
from typing import Annotated

import typer

from tsp import __version__
from tsp.cli import analysis, project, runs, training
from tsp.cli.options import with_spec_options
from tsp.cli.terminal import INTERRUPTED, outcome
from tsp.errors import one_line

app = typer.Typer(
    epilog="With --debug, or TSP_DEBUG=1, a failure of any command shows its traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tsp {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Train soft prompts, look at them through persistent homology, build the book."""


for command in (
    with_spec_options(training.run),
    *(training.sweep, analysis.heldout, analysis.report, analysis.analyze, analysis.export),
    *(project.book, project.bench, project.doctor),
):
    app.command()(command)
app.add_typer(runs.app, name="runs")
app.add_typer(project.model_app, name="model")


def main() -> None:
    """Run the command line.

    The exit code is 0, 2 for wrong input, 1 for a failure, 128 and the signal's number for an
    interruption. Errors are one line on standard error.
    """
    words = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(words) < len(sys.argv[1:]) or bool(os.environ.get("TSP_DEBUG"))
    line = ""
    try:
        code = app(words, standalone_mode=False) or 0
        if code == 130:  # Typer turns a KeyboardInterrupt into this code
            line = INTERRUPTED
    except BaseException as error:  # a panic of a library in Rust is not an Exception
        if debug or isinstance(error, SystemExit):
            raise
        code, line = outcome(error)
        if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed
            line = ""
    if line:
        typer.secho(f"tsp: {one_line(line)}", err=True, fg=typer.colors.RED)
    gc.freeze()  # the process ends: nothing it holds need be searched for cycles
    sys.exit(code)
