"""Progress bars for the terminal: what is being trained, epoch, loss, correct so far, time left."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tsp.sweep import Events, Job
from tsp.trainer import Progress


class _Bars:
    """One bar a bank, whose unit is the epoch."""

    def __init__(self) -> None:
        self.bar: Any = None

    def begin(self, jobs: Sequence[Job], number: int, banks: int, peak: int) -> None:
        """Open the bar of a bank, and say how many bytes it may take."""
        spec = jobs[0].spec
        first = f"bank {number}/{banks}: {len(jobs)} prompts on {spec.model}, {spec.protocol}"
        memory = f"at most about {peak / 2**20:.0f} MiB"
        lines = [f"{first} protocol, lr {spec.lr:g}, {memory}"]
        lines += [f"  {job.id}  {job.spec.label}" for job in jobs]
        tqdm.write("\n".join(lines), file=sys.stderr)
        self.bar = tqdm(total=max(job.spec.epochs for job in jobs), unit="epoch", ncols=96)
        self.bar.set_description(f"{spec.task} {spec.regime}")

    def progress(self, now: Progress) -> None:
        """Move the bar to the epoch that ended."""
        self.bar.update(now.epoch - self.bar.n)
        self.bar.set_postfix_str(f"loss {now.loss:.3f}, correct {now.solved}/{now.runs}")

    def stored(self, jobs: Sequence[Job]) -> None:
        """Close the bar: the bank's runs are in the store."""
        self.bar.close()

    def left_out(self, job: Job, why: str) -> None:
        """Say which run is not trained, and why."""
        tqdm.write(f"  left out: {job.spec.label}: {why}", file=sys.stderr)


def say_set_aside(why: str, place: Path) -> None:
    """Say which run was damaged and where it is now."""
    tqdm.write(f"{why}; kept as {place} and trained again", file=sys.stderr)


def bars() -> Events:
    """Events that draw progress bars on standard error."""
    drawn = _Bars()
    return Events(drawn.begin, drawn.progress, drawn.stored, drawn.left_out, say_set_aside)
