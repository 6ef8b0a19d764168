"""Call the command line as a user does: words in; output, error line and exit code out."""

import io
import json
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace
from unittest.mock import patch

from tsp.cli.main import main

TINY = ["--model", "tiny-llama", "--n-tokens", "4", "--epochs", "2", "--device", "cpu"]
BBH = {"input": "not True is", "target": "False", "task": "boolean_expressions"}


def tsp(*words, **environment):
    """Run a command in this process: a new one would spend seconds importing torch."""
    variables = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"} | environment
    out, err = io.StringIO(), io.StringIO()
    argv = patch.object(sys, "argv", ["tsp", *map(str, words)])
    with argv, patch.dict(os.environ, variables), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def fails(code, pattern, *words, **environment):
    """Run a command that ends with a code and one line of error; return what `tsp` returns."""
    done = tsp(*words, **environment)
    assert done.returncode == code, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(pattern, last), done.stderr
    assert "Traceback" not in done.stderr
    return done


def loads(*words):
    """Return the JSON that a command prints, in which NaN is an error."""
    return parsed(tsp(*words))


def parsed(done):
    assert done.returncode == 0, done.stderr

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(done.stdout, parse_constant=refuse)


def write(path, *lines):
    """Write lines and return the folder they are in."""
    path.write_text("\n".join(lines) + "\n")
    return path.parent
