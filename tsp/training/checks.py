"""Checks that wait for answers: which problems are asked, and together with which others."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tsp.training.decoding import DecodingRequest
from tsp.training.forward import TokenRow
from tsp.training.members import PromptRun

# Answers are generated together, which is cheaper, once so many wait or come from so many checks:
# a run that is solved trains on until they are decoded.
WAITING_ROWS = 48
WAITING_ROUNDS = 6


class PendingCheck(NamedTuple):
    """A problem of a check that no training pass has settled, with the prompt as it was."""

    run: PromptRun
    problem: int
    epoch: int
    row: TokenRow
    request: DecodingRequest


def enough(waiting: Sequence[PendingCheck]) -> bool:
    """Return whether so many answers wait, or from so many epochs, that they are decoded now.

    A check that is not complete counts as one answer, since the first may be wrong.
    """
    checks = _by_check(waiting)
    answers = sum(len(some) if run.is_complete(at) else 1 for (run, at), some in checks.items())
    return answers >= WAITING_ROWS or len({at for _, at in checks}) >= WAITING_ROUNDS


def rounds(waiting: Sequence[PendingCheck]) -> Iterator[list[PendingCheck]]:
    """Yield what to decode together; each round is recorded before the next is chosen.

    First come all problems of complete checks (`PromptRun.is_complete`). A check that is not
    complete ends at its first wrong answer: the problem most likely wrong is asked, then two more,
    then four. So what is asked does not depend on which other checks wait.
    """
    checks = _by_check(waiting)
    yield [one for (run, epoch), some in checks.items() if run.is_complete(epoch) for one in some]
    rest = []
    for (run, epoch), some in checks.items():
        if not run.is_complete(epoch):
            asked = {one.problem: one for one in some}
            rest.append([asked[k] for k in run.likely_wrong(epoch) if k in asked])
    count = 1
    while rest := [some for some in rest if some and not some[0].run.is_wrong(some[0].epoch)]:
        yield [one for some in rest for one in some[:count]]
        rest = [some[count:] for some in rest]
        count *= 2


def _by_check(waiting: Sequence[PendingCheck]) -> dict[tuple[PromptRun, int], list[PendingCheck]]:
    checks: dict[tuple[PromptRun, int], list[PendingCheck]] = defaultdict(list)
    for one in waiting:
        checks[one.run, one.epoch].append(one)
    return checks
