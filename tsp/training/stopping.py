"""Stop on a signal: the first lets training reach a checkpoint, a second one ends it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CHECKPOINT_SECONDS = 30.0  # between two checkpoints
StopSignal = Callable[[], int]
"""Returns the signal that asked training to stop, or 0."""


class Interrupted(RuntimeError):
    """Training stopped at a checkpoint, on the signal ``number``; ``what`` says where it stands."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, what)
        self.number, self.what = number, what

    def __str__(self) -> str:
        return self.what


def never() -> int:
    """Return 0: training goes on."""
    return 0


@contextmanager
def on_signals(announce: Callable[[], None]) -> Iterator[StopSignal]:
    """Turn a first SIGINT or SIGTERM into a call of ``announce`` and a request to stop.

    A second signal raises KeyboardInterrupt.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        announce()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
