"""Does an outcome hinge on the arithmetic? The same runs in float32, twice, and in bfloat16."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from tsp import models
from tsp.members import RunResult
from tsp.spec import RunSpec
from tsp.stats import paired_ratio
from tsp.tasks import load_problems
from tsp.trainer import Plan, train_bank
from tsp.verdicts import judge_signs

PROBLEMS = {"gsm8k": range(2), "mmlu_cf": range(4), "bbh": range(4)}
EPOCHS = 80
PLANS = {
    "float32": Plan(precision="float32"),
    # The same mathematics: only the order in which attention's sums are rounded is another.
    "float32, nothing shared": Plan(precision="float32", context_budget=0),
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
    """Each way of computing: what it finds about TSLoss, and its runs beside those of float32.

    Returns
    -------
    DataFrame
        One row a way. Of the pairs of runs, those in which TSLoss was solved earlier, as early
        and later (``wins ties losses``), the median ratio of epochs with its 95 % interval, and
        the verdict, by `tsp.stats.paired_ratio` and `tsp.verdicts.judge_signs`; pairs that
        neither solves are apart. Of the runs, how many were solved at the epoch of float32,
        ``earlier`` and ``later``, and the median and largest ``difference`` in epochs (a run
        that is not solved counts as solved after the last epoch).
    """
    frame = pd.DataFrame(rows)
    epochs = float(frame.epochs.max())
    frame["never"] = frame.solved_epoch.fillna(epochs + 2).astype(float)
    wide = frame.pivot(
        index=["task", "problem", "method"], columns="arithmetic", values="never"
    ).astype(float)
    found = []
    for name in (name for name in PLANS if name in wide):
        solved = wide[name].where(wide[name] <= epochs).unstack("method").dropna(how="all")
        pairs = paired_ratio(solved["ce"], solved["tsloss"], cap=epochs)
        change = wide[name] - wide["float32"]
        found.append(
            {
                "arithmetic": name,
                "pairs": pairs.n,
                "wins": pairs.wins,
                "ties": pairs.ties,
                "losses": pairs.losses,
                "median_ratio": pairs.median_ratio,
                "low": pairs.low,
                "high": pairs.high,
                "verdict": judge_signs(pairs.wins, pairs.ties, pairs.losses)[0],
                "runs": len(change),
                "same": int((change == 0).sum()),
                "earlier": int((change < 0).sum()),
                "later": int((change > 0).sum()),
                "median_difference": float(change.abs().median()),
                "largest_difference": float(change.abs().max()),
            }
        )
    return pd.DataFrame(found)
