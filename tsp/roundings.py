"""Does an outcome hinge on the arithmetic? The same runs in float32 twice and in bfloat16."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from tsp import models
from tsp.members import RunResult
from tsp.spec import RunSpec
from tsp.tasks import load_problems
from tsp.trainer import Plan, train_bank

PROBLEMS = {"gsm8k": range(2), "mmlu_cf": range(4), "bbh": range(4)}
EPOCHS = 80
PLANS = {
    "float32": Plan(precision="float32"),
    # Other batches, the same mathematics: what differs is the order in which sums are rounded.
    "float32, other batches": Plan(precision="float32", token_budget=512),
    "bfloat16": Plan(precision="bfloat16"),
}


def compare(
    *, model: str = models.DEFAULT, tell: Callable[[str], None] = lambda name: None
) -> list[dict[str, Any]]:
    """Train pairs of runs, with and without TSLoss, under each plan until they are solved.

    Parameters
    ----------
    model
        A name that `tsp.models.load` takes.
    tell
        Called with the name of each plan before it begins.

    Returns
    -------
    list of dict
        One row a run: ``arithmetic task problem method solved_epoch`` (None: not within the
        epochs), ``ce`` after 20 epochs, ``h1_count`` of the prompt then, and the model.
    """
    specs = [
        RunSpec(model=model, task=task, problem=k, method=method, epochs=EPOCHS, early_stop=True)
        for task, rows in PROBLEMS.items()
        for k in rows
        for method in ("ce", "tsloss")
    ]
    problems = [load_problems(spec.task, problem=spec.problem) for spec in specs]
    frozen, rows = models.load(model), []
    for name, plan in PLANS.items():
        tell(f"{len(specs)} runs: {name}")
        results = train_bank(specs, frozen, problems, plan=plan)
        rows += [_row(name, result) for result in results]
    return rows


def _row(arithmetic: str, result: RunResult) -> dict[str, Any]:
    from tsp.topology import summarize

    correct = [row["epoch"] for row in result.checks if row["correct"] and row["epoch"] > 0]
    last = result.prompts[max(epoch for epoch in result.prompts if epoch <= 20)]
    spec = result.spec
    return {
        "arithmetic": arithmetic,
        "task": spec.task,
        "problem": spec.problem,
        "method": spec.method,
        "solved_epoch": min(correct, default=None),
        "ce": result.epochs[min(20, len(result.epochs)) - 1]["ce"],
        "h1_count": int(summarize(last).h1_count[0]),
        "epochs": spec.epochs,
        "model": spec.model,
    }


def agreement(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Each way of computing against float32, run by run.

    Returns
    -------
    DataFrame
        One row a way: number of runs, how many were solved at the same epoch, median and largest
        difference in epochs (a run that is not solved counts as solved after the last epoch), and
        of the pairs how many have the same sign of the difference that TSLoss makes.
    """
    frame = pd.DataFrame(rows)
    frame["epoch"] = frame.solved_epoch.fillna(frame.epochs + 2)
    wide = frame.pivot_table(
        index=["task", "problem", "method"], columns="arithmetic", values="epoch"
    )
    found = []
    for name in [name for name in PLANS if name != "float32" and name in wide]:
        apart = (wide[name] - wide["float32"]).abs()
        signs = (
            wide[column].unstack("method").diff(axis=1).iloc[:, -1].map(_sign)
            for column in (name, "float32")
        )
        one, other = signs
        found.append(
            {
                "arithmetic": name,
                "runs": len(apart),
                "same_epoch": int((apart == 0).sum()),
                "median_difference": float(apart.median()),
                "largest_difference": float(apart.max()),
                "pairs": len(one),
                "same_sign": int((one == other).sum()),
            }
        )
    return pd.DataFrame(found)


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)
