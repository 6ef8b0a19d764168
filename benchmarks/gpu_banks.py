"""Banks of 1 to 256 runs on a GPU, beside PEFT, which trains one run after another."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from benchmarks.epochs import PEER
from benchmarks.flops import arithmetic
from benchmarks.measuring import Done, Work, compared, environment, report
from benchmarks.training import (
    THEIRS,
    Row,
    Side,
    peer,
    rate_of_products,
    same_work,
    step_compiled,
)
from tsp.training.trainer import train_bank

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EPOCHS = 20  # of ours: from one check of all answers to the next
PEER_EPOCHS = 4
RUN_EPOCHS = 100  # of the runs that are counted by the hour


def measure(side: Side, known: Sequence[Row], repeats: int = 3) -> Iterator[Row]:
    """Time banks on one problem from their first prompts, with checks.

    Yields a row for each size that ``known`` rows of this commit and device lack: seconds per epoch
    and run of both sides; of ours the runs of `RUN_EPOCHS` ``per_hour``, the ``tokens_per_second``
    that are trained on and the ``fraction`` of a large product's rate, both over all the time with
    checks, and the ``memory`` at the peak in bytes (0 on a CPU); and, with ``compiled_``, three
    columns of `step_compiled`. A bank that does not fit ends the measurement.
    """
    here, cuda = environment(), side.frozen.device.type == "cuda"
    done = {row["runs"] for row in known if _where(row) == _where(here)}
    rate = rate_of_products(side)
    for runs in (size for size in SIZES if size not in done):
        problems, specs, alone = same_work(side, runs, regime="single", epochs=EPOCHS)
        (problem,) = problems
        count = arithmetic(side.frozen, problem, specs[0])
        plan = side.plan(specs, problems)
        work = partial(train_bank, specs, side.frozen, [problems] * runs, plan=plan)
        ours = partial(_with_memory, work, runs * EPOCHS, cuda)
        peft = peer(alone.but(epochs=PEER_EPOCHS), side, problems)
        try:
            row = compared(f"bank{runs}_vs_peft", ours, peft, repeats, PEER)
        except torch.OutOfMemoryError as error:
            report(f"a bank of {runs} does not fit beside PEFT's model: {error}")
            return
        try:
            (step,) = step_compiled(side, repeats, specs, problems) or [{}]
        except torch.OutOfMemoryError:  # it takes more than the bank
            step = {}
        row |= {"unit": "s per epoch and run", "runs": runs, "token_budget": plan.token_budget}
        row["per_hour"] = 3600 / (RUN_EPOCHS * row["ours"])
        row["tokens_per_second"] = count["own"] / row["ours"]
        row["fraction"] = count["ours"] / row["ours"] / rate
        row["memory"] = row.pop("ours_memory")
        row |= {f"compiled_{key}": step[key] for key in ("ours", "peer", "first") if step}
        yield row | side.columns(alone) | THEIRS | here


def _where(row: Row) -> tuple[str, ...]:
    """Return the code and the machine of a row; the rows themselves may be changed meanwhile."""
    return row["commit"].rstrip("+"), row["device"], row["processor"]


def _with_memory(work: Work, units: int, cuda: bool) -> Done:
    """Do a piece of work, and note its peak memory; PEFT's model, which rests, is part of it."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    work()
    return Done(units, {"memory": torch.cuda.max_memory_allocated() if cuda else 0})
