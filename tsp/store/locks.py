"""Locks on the runs of a store: they end with the process that holds them."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tsp.atomic import own_folder, remove
from tsp.errors import InputError
from tsp.training.stopping import Interrupted, StopSignal

WORK = ".work"  # in a store: locks, and checkpoints of banks that train
POLL_SECONDS = 0.2  # between two attempts to take a lock


@contextmanager
def claimed(root: Path, names: Iterable[str], *, wait: StopSignal | None = None) -> Iterator[bool]:
    """Hold the locks of runs or plans in a store, all or none, and yield whether they are held.

    A lock ends with its process. With ``wait``, wait until the locks are free or until that signal
    asks to stop, which raises `Interrupted`. What a killed process left half-written under these
    names is removed.
    """
    names = sorted(set(names))
    while (locks := _take(root / WORK, names)) is None and wait:
        if signal := wait():
            raise Interrupted(signal, "stopped before a bank began")
        time.sleep(POLL_SECONDS)
    with locks or ExitStack():
        if locks:
            for path in (*root.glob(".*-*"), *root.glob("plans/.*-*")):
                if path.name[1:].rpartition("-")[0].removesuffix(".json") in names:
                    remove(path)
        yield locks is not None


def tidy(root: Path, stored: Iterable[str]) -> None:
    """Remove locks, checkpoints and half-written folders that killed processes left of runs."""
    work, names = root / WORK, set(stored)
    with suppress(OSError, InputError):  # a store that is only read has nothing to tidy
        left = {path.name.split(".")[0] for path in work.glob("*")}
        left |= {path.name[1:].split("-")[0] for path in root.glob(".*-*")}
        for name in left & names:
            with claimed(root, [name]) as mine:
                if mine:
                    remove(work / name)
        work.rmdir()


def _take(work: Path, names: list[str]) -> ExitStack | None:
    """Take all locks, or none; closing the stack releases them."""
    with ExitStack() as locks, suppress(Timeout):
        for name in names:
            locks.enter_context(_locked(work, name))
        return locks.pop_all()
    return None


@contextmanager
def _locked(work: Path, name: str) -> Iterator[None]:
    path = work / f"{name}.lock"
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    while not lock.is_locked:
        own_folder(work)
        with suppress(FileNotFoundError):  # another process has just removed the empty folder
            lock.acquire()
    try:
        yield
    finally:
        # The file goes while it is locked: a process that opened it finds that it has no name.
        path.unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # other locks are in it
            work.rmdir()
