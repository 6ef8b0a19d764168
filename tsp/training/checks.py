"""Checks that wait for answers: which problems are asked, and together with which others."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tsp.training.members import PromptRun

# Answers are generated together once so many wait or come from so many epochs: each step reads all
# weights, however few answers there are.
WAITING_ROWS = 128
WAITING_EPOCHS = 16
STOPPING_EPOCHS = 6  # of runs that stop early, since one that is solved trains on until then


class PendingAnswer(NamedTuple):
    """An answer that a check needs and no training pass has settled."""

    run: PromptRun
    problem: int
    epoch: int
    agreed: int | None = None  # reference tokens that it begins with; None: not known


def enough(waiting: Sequence[PendingAnswer]) -> bool:
    """Return whether answers are decoded now: `WAITING_ROWS` wait, or some of `WAITING_EPOCHS`.

    A check that does not ask every problem counts as one answer, since the first may be wrong.
    """
    checks = _by_check(waiting)
    answers = sum(len(some) if run.asks_all(at) else 1 for (run, at), some in checks.items())
    epochs = {at for _, at in checks}
    stopping = {at for run, at in checks if run.spec.early_stop}
    return (
        answers >= WAITING_ROWS or len(epochs) >= WAITING_EPOCHS or len(stopping) >= STOPPING_EPOCHS
    )


def decoding_rounds(waiting: Sequence[PendingAnswer]) -> Iterator[list[PendingAnswer]]:
    """Yield what to decode together; each round is recorded before the next is chosen.

    Some checks ask all problems (`PromptRun.asks_all`). Others end at the first wrong answer: the
    problem most likely wrong is asked, then two more, then four. Which that is depends on the last
    check of all, so if that waits too, they begin a round later; what is asked does not depend on
    which other checks wait.
    """
    checks = _by_check(waiting)
    whole: dict[PromptRun, int] = {}  # the first check of all that waits
    for run, epoch in checks:
        if run.asks_all(epoch):
            whole[run] = min(epoch, whole.get(run, epoch))
    portions = {check: _portions(*check, some) for check, some in checks.items()}
    first = [
        portions.pop((run, epoch))
        for run, epoch in checks
        if run.asks_all(epoch) or epoch < whole.get(run, epoch + 1)
    ]
    chosen = first
    while answers := [one for some in chosen for one in next(some, [])]:
        yield answers
        chosen = [*first, *portions.values()]


def _portions(
    run: PromptRun, epoch: int, waiting: Sequence[PendingAnswer]
) -> Iterator[list[PendingAnswer]]:
    """Yield the answers of a check that each round asks for, while they matter."""
    if run.asks_all(epoch):
        yield list(waiting)
        return
    asked = {one.problem: one for one in waiting}
    order, count = [asked[k] for k in run.likely_wrong(epoch) if k in asked], 1
    while order and not run.is_wrong(epoch):
        yield order[:count]
        order, count = order[count:], 2 * count


def _by_check(
    waiting: Sequence[PendingAnswer],
) -> dict[tuple[PromptRun, int], list[PendingAnswer]]:
    checks: dict[tuple[PromptRun, int], list[PendingAnswer]] = defaultdict(list)
    for one in waiting:
        checks[one.run, one.epoch].append(one)
    return checks
