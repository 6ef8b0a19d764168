"""The record of a run: what was trained, how, where, and how it ended."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tsp.provenance import commit, versions

if TYPE_CHECKING:
    import torch

    from tsp.training.members import RunResult

FORMAT = 1
SUMMARY = (
    *("id", "model", "task", "regime", "problem", "method", "lambda_ts", "protocol"),
    *("placement", "n_tokens", "lr", "seed", "init", "epochs", "early_stop"),
    *("solved_epoch", "solved_steps", "solved_at_start", "source", "device", "seconds"),
)
"""Columns of `tsp.store.runs.Store.frame`."""


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `SUMMARY`; ``solved_epoch`` is nan for a run that was never all correct."""
    spec, outcome = record["spec"], record["outcome"]
    nan = float("nan")
    return {name: spec[name] for name in SUMMARY if name in spec} | {
        "id": record["id"],
        "solved_epoch": nan if outcome["solved_epoch"] is None else outcome["solved_epoch"],
        "solved_steps": nan if outcome["solved_steps"] is None else outcome["solved_steps"],
        "solved_at_start": outcome["solved_at_start"],
        "source": record["problems"][0]["source"],
        "device": record["device"],
        "seconds": record["seconds"],
    }


def kept_prompts(result: "RunResult") -> "dict[int, torch.Tensor]":
    """Return the prompts that are stored: every ``snapshot_every`` epochs, and the last check's."""
    last = max(result.prompts)
    every = result.spec.snapshot_every
    return {e: prompt for e, prompt in result.prompts.items() if e % every == 0 or e == last}


def record_of(result: "RunResult", run_id: str, **made: Any) -> dict[str, Any]:
    """Return the record of a finished run; ``made`` are further fields."""
    problems = zip(result.problems, result.lengths, strict=True)
    return {
        "format": FORMAT,
        "id": run_id,
        "spec": result.spec.to_dict(),
        "problems": [
            {
                "source": problem.source,
                "row": problem.row,
                "sha256": problem.sha256,
                "tokens": lengths,
                "question": problem.question,
                "target": problem.target,
            }
            for problem, lengths in problems
        ],
        "shape": list(next(iter(result.prompts.values())).shape),
        "outcome": _outcome(result),
        "versions": versions(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(result.seconds, 3),
        "omitted": [],
    } | made


def first_correct(checks: Sequence[Mapping[str, Any]]) -> tuple[int | None, dict[int, bool]]:
    """Return the first epoch after training began at which all answers are right, and all checks'.

    Returns
    -------
    epoch, correct
        None if there is no such epoch; whether all answers are right, by checked epoch.
    """
    correct: dict[int, bool] = {}
    for row in checks:
        correct[row["epoch"]] = correct.get(row["epoch"], True) and row["correct"]
    return next((epoch for epoch, right in correct.items() if right and epoch > 0), None), correct


def _outcome(result: "RunResult") -> dict[str, Any]:
    """Return when the run was first all correct; check 0, before any training, is kept apart."""
    solved, correct = first_correct(result.checks)
    steps = {row["epoch"]: int(row["step"]) for row in result.epochs}
    return {
        "solved_epoch": solved,
        "solved_steps": None if solved is None else steps[solved],
        "solved_at_start": correct[0],
        "epochs_trained": len(result.epochs),
        "final_correct": correct[max(correct)],
    }
