"""Checks that wait for answers: which problems are asked, and together with which others."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tsp.training.members import PromptRun

# Answers are generated together once so many wait or come from so many epochs: on two cores a step
# for 128 answers takes less than twice as long as one for 24.
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

    First come the problems of checks that ask all (`PromptRun.asks_all`). Other checks end at the
    first wrong answer: the problem most likely wrong is asked, then two more, then four. So what is
    asked does not depend on which other checks wait.
    """
    checks = _by_check(waiting)
    whole = [one for (run, at), some in checks.items() if run.asks_all(at) for one in some]
    if whole:
        yield whole
    rest = []
    for (run, epoch), some in checks.items():
        if not run.asks_all(epoch):
            asked = {one.problem: one for one in some}
            rest.append([asked[k] for k in run.likely_wrong(epoch) if k in asked])
    count = 1
    while rest := [some for some in rest if some and not some[0].run.is_wrong(some[0].epoch)]:
        yield [one for some in rest for one in some[:count]]
        rest = [some[count:] for some in rest]
        count *= 2


def _by_check(
    waiting: Sequence[PendingAnswer],
) -> dict[tuple[PromptRun, int], list[PendingAnswer]]:
    checks: dict[tuple[PromptRun, int], list[PendingAnswer]] = defaultdict(list)
    for one in waiting:
        checks[one.run, one.epoch].append(one)
    return checks
