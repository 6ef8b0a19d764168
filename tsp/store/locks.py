"""Who is at what in a store: locks that end with the process that holds them."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tsp.atomic import own_folder, remove
from tsp.errors import InputError
from tsp.training.stopping import Stop, Stopped

WORK = ".work"  # in a store: locks, and checkpoints of banks that train
POLL = 0.2  # seconds between two looks at a lock that another process holds


def are_free(root: Path, names: Iterable[str]) -> bool:
    """Whether nobody holds one of some names just now."""
    locks = _taken(root / WORK, sorted(set(names)))
    _release(root / WORK, locks or [])
    return locks is not None


@contextmanager
def claimed(
    root: Path, names: Iterable[str], *, wait: Stop | None = None, clear: bool = True
) -> Iterator[bool]:
    """Hold the locks of some names in a store, all of them or none, and say which.

    A process that is killed holds nothing any more.

    Parameters
    ----------
    root
        The store's folder.
    names
        Ids of runs, or a plan's name.
    wait
        Until they are free, or somebody asks to stop; None: not at all.
    clear
        Remove what a killed process left half-written under a name, which takes a look at the whole
        store.

    Raises
    ------
    OSError, InputError
        If nothing can be written there, or elsewhere through a link.
    Stopped
        If somebody asked to while it waited.
    """
    work = root / WORK
    locks = _taken(work, sorted(set(names)))
    while wait and locks is None:
        if asked := wait():
            raise Stopped(asked, "stopped before a bank began")
        time.sleep(POLL)
        locks = _taken(work, sorted(set(names)))
    try:
        if locks and clear:
            _clear(root, [Path(lock.lock_file).stem for lock in locks])
        yield locks is not None
    finally:
        _release(work, locks or [])


def checkpoint_folder(root: Path, run_id: str) -> Path:
    """Where the bank that begins with a run has its checkpoint."""
    return root / WORK / run_id


def tidy(root: Path, done: Iterable[str]) -> None:
    """Remove locks and checkpoints of runs that are stored, which a killed process may leave."""
    work, stored = root / WORK, set(done)
    with suppress(OSError, InputError):  # a store that is only read has nothing to tidy
        left = {path.name.split(".")[0] for path in work.glob("*")} & stored
        left |= {path.name[1:].split("-")[0] for path in root.glob(".*-*")} & stored
        for name in left:
            with claimed(root, [name]) as mine:
                if mine:
                    remove(work / name)
        work.rmdir()


def _taken(work: Path, names: list[str]) -> list[FileLock] | None:
    locks: list[FileLock] = []
    for name in names:
        lock = FileLock(
            work / f"{name}.lock", timeout=0, thread_local=False, fallback_to_soft=False
        )
        try:
            _acquire(work, lock)
        except Timeout:
            _release(work, locks)
            return None
        except BaseException:
            _release(work, locks)
            raise
        locks.append(lock)
    return locks


def _acquire(work: Path, lock: FileLock) -> None:
    while True:
        own_folder(work)
        try:
            lock.acquire()
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        return


def _release(work: Path, locks: list[FileLock]) -> None:
    for lock in locks:
        # While it is held: whoever opened the old file finds that it has no name any more.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
    with suppress(OSError):  # something else is in it
        work.rmdir()


def _clear(root: Path, names: list[str]) -> None:
    """Remove what a killed process had begun to write under some names (`tsp.atomic`)."""
    for left in (*root.glob(".*-*"), *root.glob("plans/.*-*")):
        if left.name[1:].rpartition("-")[0].removesuffix(".json") in names:
            remove(left)
