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


def are_free(root: Path, names: Iterable[str]) -> bool:
    """Return whether no process holds one of the names now."""
    with claimed(root, names, clear=False) as mine:
        return mine


@contextmanager
def claimed(
    root: Path, names: Iterable[str], *, wait: StopSignal | None = None, clear: bool = True
) -> Iterator[bool]:
    """Hold the locks of some names in a store, all of them or none, and return which.

    A process that is killed no longer holds any.

    Parameters
    ----------
    root
        The store's folder.
    names
        Ids of runs, or a plan's name.
    wait
        Wait until they are free or until this asks to stop; None: do not wait.
    clear
        Remove what a killed process left half-written under a name.

    Raises
    ------
    OSError, InputError
        If nothing can be written there, or a link leads elsewhere.
    Interrupted
        If it was asked to stop while it waited.
    """
    held, work = sorted(set(names)), root / WORK
    locks = _take(work, held)
    while wait and locks is None:
        if signal := wait():
            raise Interrupted(signal, "stopped before a bank began")
        time.sleep(POLL_SECONDS)
        locks = _take(work, held)
    with locks or ExitStack():
        if locks and clear:
            for path in (*root.glob(".*-*"), *root.glob("plans/.*-*")):
                if path.name[1:].rpartition("-")[0].removesuffix(".json") in held:
                    remove(path)
        yield locks is not None


def checkpoint_folder(root: Path, run_id: str) -> Path:
    """Return the folder for the checkpoint of the bank that begins with a run."""
    return root / WORK / run_id


def tidy(root: Path, stored: Iterable[str]) -> None:
    """Remove locks, checkpoints and half-written folders that killed processes left of runs."""
    work, names = root / WORK, set(stored)
    with suppress(OSError, InputError):  # a store that is only read has nothing to tidy
        left = {path.name.split(".")[0] for path in work.glob("*")} & names
        left |= {path.name[1:].split("-")[0] for path in root.glob(".*-*")} & names
        for name in left:
            with claimed(root, [name]) as mine:
                if mine:
                    remove(work / name)
        work.rmdir()


def _take(work: Path, names: list[str]) -> ExitStack | None:
    """Take all locks, or none; closing the stack releases them."""
    with ExitStack() as locks:
        for name in names:
            lock = FileLock(
                work / f"{name}.lock", timeout=0, thread_local=False, fallback_to_soft=False
            )
            try:
                _acquire(work, lock)
            except Timeout:
                return None
            locks.callback(_release, work, lock)
        return locks.pop_all()


def _acquire(work: Path, lock: FileLock) -> None:
    while True:
        own_folder(work)
        with suppress(FileNotFoundError):  # another process has just removed the empty folder
            lock.acquire()
            return


def _release(work: Path, lock: FileLock) -> None:
    # The file goes while it is locked: a process that opened it finds that it has no name.
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
    with suppress(OSError):  # other locks are in it
        work.rmdir()
