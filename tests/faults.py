"""Processes that are killed, and stores that are compared: what the tests of durability share."""

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

TENSORS = (".parquet", ".safetensors")
TIMES = ("written", "seconds", "checksum")  # of a record; the checksum is of all of it


def same_bytes(one, other):
    """Files that differ between two stores; plans, times and free memory do not count."""
    here, there = _contents(one), _contents(other)
    return sorted(str(path) for path in here | there if here.get(path) != there.get(path))


def _contents(root):
    """Contents of a store's files, hidden ones too, by their place."""
    files = {path.relative_to(root): path for path in Path(root).rglob("*") if path.is_file()}
    return {place: _content(path) for place, path in files.items() if place.parts[0] != "plans"}


def _content(path):
    if path.name != "run.json":
        return path.read_bytes()
    record = json.loads(path.read_text())
    del record["plan"]["context_budget"]  # a share of the memory that was free when a sweep began
    return {name: value for name, value in record.items() if name not in TIMES}


def kill(process):
    """The fault itself: no handler runs, nothing is flushed."""
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def run_in(work, *arguments, out=os.devnull):
    """Start a process in which a function of `tests.faults_at_work` works.

    It begins in a moment: it is forked from a server that has imported torch.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults_at_work"])
    process = context.Process(target=_redirected, args=(str(out), work, arguments))
    process.start()
    return process


def _redirected(out, work, arguments):
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    from tests import faults_at_work

    getattr(faults_at_work, work)(*arguments)
