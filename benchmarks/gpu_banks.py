"""Banks of 1 to 256 runs on a GPU, beside PEFT, which trains one run after another."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from benchmarks.epochs import PEER, peer_pass
from benchmarks.flops import arithmetic
from benchmarks.measuring import compared, environment, report
from benchmarks.training import THEIRS, Row, Side, rate_of_products, same_work
from tsp.training.trainer import train_bank

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EPOCHS = 20  # of ours: from one check of all answers to the next
PEER_EPOCHS = 4
HUNDRED = 100  # epochs of the runs that are counted by the hour


def measure(side: Side, known: Sequence[Row], repeats: int = 3) -> Iterator[Row]:
    """Time banks on one problem from their first prompts, with checks.

    Yields a row for each size that ``known`` rows of this commit and device lack: seconds per epoch
    and run of both sides; of ours the runs of a hundred epochs ``per_hour``, the
    ``tokens_per_second`` of the training passes, the ``fraction`` of a large product's rate that
    all the time reaches, and the ``memory`` at the peak in bytes (nan on a CPU). A bank that does
    not fit ends the measurement.
    """
    here, cuda = environment(), side.frozen.device.type == "cuda"
    same = ("commit", "device", "processor")
    done = {row["runs"] for row in known if all(row[name] == here[name] for name in same)}
    rate = rate_of_products(side)
    for runs in (size for size in SIZES if size not in done):
        problems, specs, alone = same_work(side, runs, regime="single", epochs=EPOCHS)
        (problem,) = problems
        count = arithmetic(side.frozen, problem, specs[0])
        plan = side.plan(specs, problems)
        ours = partial(train_bank, specs, side.frozen, [problems] * runs, plan=plan)
        peer = peer_pass(alone.but(epochs=PEER_EPOCHS), side, problems, check=True)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        units = (runs * EPOCHS, PEER_EPOCHS)
        try:
            row = compared(f"bank{runs}_vs_peft", ours, peer, repeats, PEER, units=units)
        except torch.OutOfMemoryError as error:
            report(f"a bank of {runs} does not fit: {error}")
            return
        row |= {"unit": "s per epoch and run", "runs": runs, "token_budget": plan.token_budget}
        row["per_hour"] = 3600 / (HUNDRED * row["ours"])
        row["tokens_per_second"] = count["own"] / row["ours"]
        row["fraction"] = count["ours"] / row["ours"] / rate
        row["memory"] = torch.cuda.max_memory_allocated() if cuda else float("nan")
        yield row | side.columns(alone) | THEIRS | here
