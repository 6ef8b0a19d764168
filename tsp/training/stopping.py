"""Stop when asked: a first signal lets training reach a checkpoint, a second one ends it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

StopSignal = Callable[[], int]
"""The signal that asked to stop, or 0."""


class Interrupted(RuntimeError):
    """Training was asked to stop and did, at a checkpoint.

    Parameters
    ----------
    number
        The signal that asked.
    what
        Where training stands.
    """

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, what)
        self.number, self.what = number, what

    def __str__(self) -> str:
        return self.what


def never() -> int:
    """Return 0: training goes on."""
    return 0


@contextmanager
def on_signals(tell: Callable[[], None]) -> Iterator[StopSignal]:
    """Turn SIGINT and SIGTERM into a request to stop; a second signal is a KeyboardInterrupt.

    Parameters
    ----------
    tell
        Called at the first signal.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt
        tell()

    before = {it: signal.signal(it, ask) for it in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked[0] if asked else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
