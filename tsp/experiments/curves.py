"""Live curves for TensorBoard: each run's losses, TSLoss's terms, gradients, rate and answers."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tsp.errors import InputError
from tsp.experiments.banks import Events
from tsp.experiments.jobs import Job
from tsp.training.trainer import Progress

Scalars = set[tuple[str, int]]  # (name, epoch) of each value in an event file


def with_curves(folder: Path, events: Events) -> Events:
    """Return events for `ensure` that also write TensorBoard's files while runs train.

    Parameters
    ----------
    folder
        Log directory, as ``tensorboard --logdir`` takes it; runs get folders in it. Scalars, by
        epoch: those of `tsp.store.runs.Run.epochs`, and ``correct``, the share of right answers.

    Raises
    ------
    InputError
        If the package tensorboard is missing, or ``folder`` is a file.

    Notes
    -----
    A run that stops early may train on until its answers are decided; the curves show that, the
    stored run does not. A resumed sweep adds to the curves it finds, each epoch once. Workers
    of a cluster report twice a second at most: epochs between are left out of the curves, not of
    the stored runs.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        remedy = "the package tensorboard is missing: pip install 'tsp[tensorboard]'"
        raise InputError("tensorboard", str(folder), remedy) from error
    if folder.exists() and not folder.is_dir():
        raise InputError("tensorboard", str(folder), "is a file; name a folder")
    curves = _Curves(folder, SummaryWriter)

    def both(name: str) -> Callable[..., None]:
        def call(*values: Any) -> None:
            getattr(curves, name)(*values)
            getattr(events, name)(*values)

        return call

    return replace(events, **{name: both(name) for name in ("begin", "progress", "stored")})


class _Curves:
    """Event files of the banks that train, a folder per run."""

    def __init__(self, folder: Path, writer: Any) -> None:
        self.folder, self.writer = folder, writer
        self.jobs: dict[int, Sequence[Job]] = {}  # by the bank's number
        self.open: dict[int, list[tuple[Any, Scalars]]] = {}  # each run's file and its scalars

    def begin(self, jobs: Sequence[Job], number: int, banks: int, peak: int) -> None:
        """Expect a bank; its files may be open if its node was lost."""
        self.stored(number)
        self.jobs[number] = jobs

    def progress(self, now: Progress) -> None:
        """Add the last epoch of each run, and the answers that have been checked since."""
        if now.bank not in self.open:  # only now is it known from which epoch the bank resumes
            self.open[now.bank] = [self._curve(job, now.epoch) for job in self.jobs[now.bank]]
        curves = zip(self.open[now.bank], now.rows, now.correct, strict=True)
        for (writer, written), row, correct in curves:
            epoch = int(row.get("epoch", 0))
            values = {(name, epoch): value for name, value in row.items()}
            values |= {("correct", checked): share for checked, share in correct.items()}
            for (name, at), value in values.items():
                if (name, at) not in written and name not in ("epoch", "step"):
                    writer.add_scalar(name, value, at)
            written.update(values)
            writer.flush()

    def _curve(self, job: Job, first: int) -> tuple[Any, Scalars]:
        """Open a run's event file for epochs from ``first`` on; earlier ones stay as they are.

        Return its writer and the (name, epoch) pairs of the scalars that it keeps.
        """
        name = re.sub(r"[^A-Za-z0-9.=]+", "-", job.spec.label)
        folder = self.folder / f"{name}-{job.id}"
        written = {(name, at) for name, at in _written(folder) if at < first}
        writer = self.writer(str(folder), purge_step=first)  # TensorBoard forgets what is later
        if not written:
            lines = [f"    {name}: {value}" for name, value in job.spec.to_dict().items()]
            writer.add_text("spec", "\n".join(lines))
        return writer, written

    def stored(self, number: int) -> None:
        """Close the event files of a bank, if they are open."""
        for writer, _ in self.open.pop(number, ()):
            writer.close()


def _written(folder: Path) -> Scalars:
    """Return the (name, epoch) pairs of the scalars that earlier sweeps left in a run's folder."""
    if not folder.is_dir():
        return set()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of each purge
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {(name, at.step) for name in events.Tags()["scalars"] for at in events.Scalars(name)}
