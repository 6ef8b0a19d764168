"""Processes that are killed, and stores that are compared: what the tests of durability share."""

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

TENSORS = (".parquet", ".safetensors")
TIMES = ("written", "seconds", "checksum")  # of a record; the checksum is of all of it


def files_of(root):
    """Files of a store, relative, hidden ones too; plans are left out."""
    found = {path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()}
    return {path for path in found if path.parts[0] != "plans"}


def same_bytes(one, other):
    """Files that differ between two stores; of run.json, times and free memory do not count."""
    here, there = files_of(one), files_of(other)
    changed = {it for it in here & there if _content(one / it) != _content(other / it)}
    return sorted(map(str, (here ^ there) | changed))


def _content(path):
    if path.name != "run.json":
        return path.read_bytes()
    told = json.loads(path.read_text())
    del told["plan"]["context_budget"]  # a share of the memory that was free when a sweep began
    return {name: it for name, it in told.items() if name not in TIMES}


def context():
    """Processes that begin in a moment: forked from a server that has torch imported already."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.faults_at_work"])
    return found


def kill(process):
    """The fault itself: no handler runs, nothing is flushed."""
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def run_in(folder, work, *told, out=None):
    """Start a process of `context` in which a function of `tests.faults_at_work` works."""
    process = context().Process(target=_redirected, args=(str(out or os.devnull), work, told))
    process.start()
    return process


def _redirected(out, work, told):
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    from tests import faults_at_work

    getattr(faults_at_work, work)(*told)
