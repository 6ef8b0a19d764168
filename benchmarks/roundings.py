"""Train the same runs in float32, twice, and in bfloat16: do outcomes hinge on rounding?"""

from typing import Any

import pandas as pd

from tsp.analysis.stats import paired_ratio
from tsp.analysis.verdicts import judge_signs
from tsp.problems.loading import load_problems
from tsp.training.model_cards import DEFAULT
from tsp.training.spec import RunSpec

PROBLEMS = {"gsm8k": range(2), "mmlu_cf": range(4), "bbh": range(4)}
EPOCHS = 80
PLANS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "float32"},
    # The same mathematics: only the order in which attention's sums are rounded is another.
    "float32, nothing shared": {"precision": "float32", "context_budget": 0},
    "bfloat16": {"precision": "bfloat16"},
}


def compare(*, model: str = DEFAULT) -> list[dict[str, Any]]:
    """Train pairs of runs, with and without TSLoss, under each plan until they are solved.

    Returns a row a run: ``arithmetic task problem method solved_epoch`` (None: not within the
    epochs), whether it was right at check 0 already (``known``), ``ce`` after 20 epochs, the
    number of ``epochs`` and the model.
    """
    # Not above: a chapter reads `agreement` alone, and these take seconds to import.
    from benchmarks.measuring import report
    from tsp.training import models
    from tsp.training.trainer import Plan, train_bank

    specs = [
        RunSpec(model=model, task=task, problem=k, method=method, epochs=EPOCHS, early_stop=True)
        for task, rows in PROBLEMS.items()
        for k in rows
        for method in ("ce", "tsloss")
    ]
    problems = [load_problems(spec.task, problem=spec.problem) for spec in specs]
    frozen, rows = models.load(model), []
    for name, plan in PLANS.items():
        report(f"{len(specs)} runs: {name}")
        for run in train_bank(specs, frozen, problems, plan=Plan(**plan)):
            correct = [check["epoch"] for check in run.checks if check["correct"]]
            solved = min((epoch for epoch in correct if epoch > 0), default=None)
            row = {"arithmetic": name, "task": run.spec.task, "problem": run.spec.problem}
            row |= {"method": run.spec.method, "solved_epoch": solved, "known": 0 in correct}
            row |= {"ce": run.epochs[min(20, len(run.epochs)) - 1]["ce"]}
            rows.append(row | {"epochs": run.spec.epochs, "model": run.spec.model})
    return rows


def agreement(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Compare the verdict on TSLoss, and the runs, of each precision with those of float32.

    Returns
    -------
    DataFrame
        One row a precision. For pairs of runs: the number in which TSLoss was solved earlier, as
        early and later (``wins ties losses``), the median ratio of epochs with its 95 % interval,
        and the verdict, by `tsp.analysis.stats.paired_ratio` and
        `tsp.analysis.verdicts.judge_signs`; pairs that neither solves are excluded. For runs: the
        number solved at the epoch of float32, ``earlier`` and ``later``, and the median and
        largest ``change`` in epochs of those that moved (an unsolved run counts as solved after
        the last epoch). Problems that the untrained prompt answers are excluded.
    """
    frame = pd.DataFrame(rows)
    frame = frame[~frame.groupby(["task", "problem"]).known.transform("any")]
    epochs = float(frame.epochs.max())
    solved = frame.set_index(["task", "problem", "method", "arithmetic"]).solved_epoch.astype(float)
    wide = solved.unstack("arithmetic")
    table = []
    for name in (name for name in PLANS if name in wide):
        sides = wide[name].unstack("method").dropna(how="all")
        pairs = paired_ratio(sides["ce"], sides["tsloss"], cap=epochs)
        signs = {"wins": pairs.wins, "ties": pairs.ties, "losses": pairs.losses}
        row = {"arithmetic": name, "pairs": pairs.n, **signs, "median_ratio": pairs.median_ratio}
        row |= {"low": pairs.low, "high": pairs.high, "verdict": judge_signs(*signs.values())[0]}
        change = wide[name].fillna(epochs + 2) - wide["float32"].fillna(epochs + 2)
        moved = change[change != 0].abs() if (change != 0).any() else change
        row |= {"runs": len(change), "same": int((change == 0).sum())}
        row |= {"earlier": int((change < 0).sum()), "later": int((change > 0).sum())}
        row |= {"median_change": float(moved.median()), "largest_change": float(moved.max())}
        table.append(row)
    return pd.DataFrame(table)
