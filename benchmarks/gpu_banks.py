"""Banks of 1 to 256 runs on a GPU, beside PEFT, which trains one run after another."""

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from benchmarks.epochs import PEER
from benchmarks.flops import arithmetic
from benchmarks.measuring import compared, environment, report
from benchmarks.training import (
    THEIRS,
    Row,
    Side,
    peer,
    rate_of_products,
    same_work,
    step_compiled,
)
from tsp.problems.loading import Problem
from tsp.training.spec import RunSpec
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
    checks, and the ``memory`` at the peak in bytes (0 on a CPU). Where our passes are in bfloat16,
    ``peer_bfloat16`` is the peer's time if its passes are too. Last, with ``compiled_``, come three
    columns of `step_compiled`, None if compiling failed; the row is yielded without them at first,
    and measured again if it stayed so. A bank that does not fit ends the measurement.
    """
    here, cuda = environment(), side.frozen.device.type == "cuda"
    whole = [row for row in known if "compiled_ours" in row]
    done = {row["runs"] for row in whole if _where(row) == _where(here)}
    rate = rate_of_products(side)
    for runs in (size for size in SIZES if size not in done):
        problems, specs, alone = same_work(side, runs, regime="single", epochs=EPOCHS)
        (problem,) = problems
        count = arithmetic(side.frozen, problem, specs[0])
        plan = side.plan(specs, problems)
        work = partial(train_bank, specs, side.frozen, [problems] * runs, plan=plan)
        _forget()
        try:
            memory = _peak_memory(work) if cuda else 0  # while PEFT has no model there
            row = _beside_peft(side, alone, problems, work, runs, repeats)
        except torch.OutOfMemoryError as error:
            report(f"a bank of {runs} does not fit, alone or beside PEFT's model: {error}")
            return
        row |= {"unit": "s per epoch and run", "runs": runs, "token_budget": plan.token_budget}
        row["per_hour"] = 3600 / (RUN_EPOCHS * row["ours"])
        row["tokens_per_second"] = count["own"] / row["ours"]
        row["fraction"] = count["ours"] / row["ours"] / rate
        row |= {"memory": memory} | side.columns(alone) | THEIRS | here
        yield row  # compiling may take minutes, and fail
        try:
            (step,) = step_compiled(side, repeats, specs, problems) or [{}]
        except torch.OutOfMemoryError:  # it takes more than the bank
            step = {}
        yield row | {f"compiled_{key}": step.get(key) for key in ("ours", "peer", "first")}


def _where(row: Row) -> tuple[str, ...]:
    """Return the code and the machine of a row; the rows themselves may be changed meanwhile."""
    return row["commit"].rstrip("+"), row["device"], row["processor"]


def _forget() -> None:
    """Free what the size before has left: compiled layers, and Trainers, which end in a circle."""
    torch._dynamo.reset()
    gc.collect()


def _beside_peft(
    side: Side,
    alone: RunSpec,
    problems: list[Problem],
    work: Callable[[], object],
    runs: int,
    repeats: int,
) -> Row:
    """Time in turn a bank, PEFT and, if our passes are in bfloat16, PEFT with such passes."""
    theirs = partial(peer, alone.but(epochs=PEER_EPOCHS), side, problems)
    half = {"peer_bfloat16": theirs(bf16=True)} if side.precision == "bfloat16" else {}
    units = (runs * EPOCHS, PEER_EPOCHS)
    row = compared(f"bank{runs}_vs_peft", work, theirs(), repeats, PEER, units=units, others=half)
    return row | {name: statistics.median(row[f"{name}_times"]) for name in half}


def _peak_memory(work: Callable[[], object]) -> int:
    """Do a piece of work, and return the most bytes that a GPU held meanwhile."""
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()
