"""What all commands share: their common options, and how they print text, JSON and errors."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from tsp.errors import InputError, one_line
from tsp.training.stopping import Interrupted

# Heavy modules are imported inside the commands, so that `--help` answers at once.

RunsOption = Annotated[
    Path | None, Option(help="Run store (default: $TSP_RUNS, else runs/).", metavar="DIR")
]
JsonOption = Annotated[bool, Option("--json", help="Print JSON and nothing else.")]
DeviceOption = Annotated[
    str,
    Option(help="auto, cpu, cuda, cuda:1 …; several: balanced, balanced_low_0, sequential."),
]
INTERRUPTED = "stopped; finished runs are stored, and the same command resumes the rest"
REMEDIES = {
    errno.ENOSPC: "free some space, or name another store with --runs",
    errno.EROFS: "name a store that can be written with --runs",
    errno.EACCES: "name a store that you may write with --runs",
    errno.ENOLCK: "name a store on a file system that has locks, with --runs",
    errno.ENOTDIR: "name another folder",
    errno.ENAMETOOLONG: "name a shorter path",
}


def open_store(runs: Path | None, *, warn: bool = False) -> Any:
    """Open a run store that is only read: a folder named by the user must exist.

    With ``warn``, take a snapshot and name each damaged run or archive on standard error.
    """
    from tsp.store.runs import Store

    store = Store(runs)
    if runs is not None and not store.root.is_dir():
        raise InputError("runs", str(runs), "no such folder")
    if warn:
        store = store.snapshot()
        for why in dict.fromkeys(store.valid_runs()[1].values()):
            say(f"skipped: {why}", err=True)
    return store


def emit(data: Any, as_json: bool, text: str = "") -> None:
    """Print the result of a command: the data as JSON, or a text for people."""
    if as_json:
        indent = None if isinstance(data, list) else 1
        typer.echo(json.dumps(_finite(data), indent=indent, allow_nan=False))
    else:
        say(text)


def say(text: str, *, err: bool = False) -> None:
    """Print a text line by line, unless it is empty; escape characters that cannot be printed."""
    for line in text.split("\n") if text else ():
        typer.echo(one_line(line), err=err)


def records(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a DataFrame as objects for JSON; missing values are None."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot spell, nan and infinity, by None."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def outcome(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the line on standard error for what ended a command."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return 130, INTERRUPTED
    if isinstance(error, Interrupted):
        return 128 + error.number, f"{error}; the same command resumes there"
    if hasattr(error, "format_message"):  # Typer's errors of usage
        invalid = getattr(error.__cause__, "errors", None)  # pydantic's, about one option
        given = f" (given: {invalid()[0]['input']})" if invalid else ""
        return 2, f"{error.format_message().rstrip('.')}{given}; --help lists the choices"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = f"{error.filename}: " if error.filename else ""
        line = f"{place}{os.strerror(error.errno)}; {REMEDIES[error.errno]}"
        return 2 if error.errno == errno.ENAMETOOLONG else 1, line
    return 1, " ".join(str(error).split()) or type(error).__name__
