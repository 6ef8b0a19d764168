"""Prompts at three states of training on the shipped problems, with which checks are timed."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.measuring import report
from tsp.paths import data_dir
from tsp.problems.loading import load_problems
from tsp.provenance import commit
from tsp.training import models
from tsp.training.precision import choose
from tsp.training.spec import PLACEMENTS, REGIMES, RunSpec
from tsp.training.trainer import Plan, train_bank

NAMES = ("early", "middle", "late")  # the first prompt; halfway to the last wrong check; there
STATES = {"single": NAMES, "multi": ("early", "late")}  # those that are timed
EPOCHS = 120  # after which no set of ten is solved
FILE = data_dir("measurements") / "states.safetensors"


def epochs() -> dict[str, int]:
    """Return after how many epochs each stored prompt was taken."""
    with safe_open(FILE, "pt") as file:
        return {name: int(file.metadata()[name]) for name in file.keys()}  # noqa: SIM118


def load(regime: str, placement: str, state: str) -> torch.Tensor:
    """Return a stored prompt of the default model on the shipped problems, (n, d)."""
    return load_file(FILE)[f"{regime} {placement} {state}"].float()


def write(path: Path) -> None:
    """Train the default model's prompts and store them in half precision."""
    frozen, prompts, taken = models.load(), {}, {}
    plan = Plan(precision=choose("auto", frozen))
    for regime in REGIMES:
        problems = load_problems("gsm8k", regime=regime)
        first = RunSpec(method="ce", regime=regime, epochs=EPOCHS)
        specs = [first.but(placement=placement) for placement in PLACEMENTS]
        for result in train_bank(specs, frozen, [problems] * len(specs), plan=plan):
            solved = (at for at, share in result.correct().items() if at and share == 1)
            end = next(solved, EPOCHS + 1)
            checks = [at for at in result.prompts if at < end]
            chosen = (0, checks[len(checks) // 2], checks[-1])
            for state, epoch in zip(NAMES, chosen, strict=True):
                name = f"{regime} {result.spec.placement} {state}"
                prompts[name], taken[name] = result.prompts[epoch].half(), str(epoch)
                report(f"{name}: epoch {epoch}")
    save_file(prompts, path, metadata=taken | {"commit": commit(), "precision": plan.precision})


if __name__ == "__main__":  # python -m benchmarks.states
    write(FILE)
