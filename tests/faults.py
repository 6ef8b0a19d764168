"""Processes that are killed, and stores that are compared: what the tests of durability share."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.conftest import PATIENCE_SECONDS

TENSORS = (".parquet", ".safetensors")
TIMES = ("written", "seconds", "checksum")  # of a record; the checksum is of all of it


def differences(one, other):
    """Return the files that differ between two stores, but for plans, times and free memory."""
    ours, theirs = _contents(one), _contents(other)
    return sorted(str(path) for path in ours | theirs if ours.get(path) != theirs.get(path))


def _contents(root):
    """Return the contents of a store's files, hidden ones too, by their place."""
    files = {path.relative_to(root): path for path in Path(root).rglob("*") if path.is_file()}
    return {place: _content(path) for place, path in files.items() if place.parts[0] != "plans"}


def _content(path):
    if path.name != "run.json":
        return path.read_bytes()
    record = json.loads(path.read_text())
    del record["plan"]["context_budget"]  # a share of the memory that was free when a sweep began
    return {name: value for name, value in record.items() if name not in TIMES}


def until(log, pattern, process):
    """Wait until a process, which may have ended by then, has logged a pattern."""
    end, logged = time.monotonic() + PATIENCE_SECONDS, None
    while not logged:
        popen = isinstance(process, subprocess.Popen)
        code = process.poll() if popen else process.exitcode
        logged = log.exists() and re.search(pattern, log.read_text())
        assert logged or code is None, f"ended with {code}; never logged {pattern!r}"
        assert logged or time.monotonic() < end, f"never logged {pattern!r}"
        time.sleep(0.005)


def kill(process):
    """Kill a process: no handler runs, nothing is flushed."""
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def run_in(work, *arguments, out=os.devnull):
    """Start a process in which a function of `tests.faults_at_work` works.

    It starts at once, forked from a server that has imported torch.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults_at_work"])
    process = context.Process(target=_redirected, args=(str(out), work, [*map(str, arguments)]))
    process.start()
    return process


def _redirected(out, work, arguments):
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    from tests import faults_at_work

    getattr(faults_at_work, work)(*arguments)
