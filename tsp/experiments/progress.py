"""Progress bars for the terminal: what is being trained, epoch, loss, correct so far, time left."""

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from tsp.experiments.banks import Events
from tsp.experiments.jobs import Job
from tsp.training.trainer import Progress


class _Bars:
    """One bar per bank, in epochs; on a cluster several are open at once."""

    def __init__(self) -> None:
        self.open: dict[int, Any] = {}  # by the bank's number

    def begin(self, jobs: Sequence[Job], number: int, banks: int, peak: int) -> None:
        """Open the bar of a bank, and print how many bytes it may take."""
        spec = jobs[0].spec
        first = f"bank {number}/{banks}: {len(jobs)} prompts on {spec.model}, {spec.protocol}"
        lines = [f"{first} protocol, lr {spec.lr:g}, at most about {peak / 2**20:.0f} MiB"]
        say("\n".join([*lines, *(f"  {job.id}  {job.spec.label}" for job in jobs)]))
        self.close(number)  # of a node that was lost
        total, title = max(job.spec.epochs for job in jobs), f"{number}: {spec.task} {spec.regime}"
        self.open[number] = tqdm(total=total, unit="epoch", ncols=96, desc=title)
        self.open[number].epoch = 0  # a bar that is switched off does not count

    def progress(self, now: Progress) -> None:
        """Move the bar to the epoch that ended."""
        bar = self.open[now.bank]
        if bar.epoch == 0 and now.epoch > 1:  # the first event: a new bank's is of epoch 1
            say(f"bank {now.bank} resumes after epoch {now.epoch}")
            bar.initial = now.epoch  # so that the rate is of what is trained here
        bar.update(now.epoch - bar.epoch)
        bar.epoch = now.epoch
        bar.set_postfix_str(f"loss {now.loss:.3f}, correct {now.solved}/{now.runs}")

    def close(self, number: int) -> None:
        """Close a bank's bar, if one is open."""
        if number in self.open:
            self.open.pop(number).close()


def say(text: str) -> None:
    """Print a line on standard error without spoiling the bars."""
    tqdm.write(text, file=sys.stderr)


def bars() -> Events:
    """Return events that draw progress bars on standard error."""
    drawn = _Bars()
    return Events(
        drawn.begin,
        drawn.progress,
        drawn.close,
        left_out=lambda job, why: say(f"  left out: {job.spec.label}: {why}"),
        quarantined=lambda why, place: say(f"{why}; kept as {place} and trained again"),
        say=say,
    )
