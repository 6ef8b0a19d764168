"""The record of one run (``run.json``): what was trained, how, where, and how it ended."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tsp.atomic import checksum
from tsp.provenance import commit, versions
from tsp.training.spec import RunSpec

if TYPE_CHECKING:
    import torch

    from tsp.training.members import RunResult

CHANGED = "it was changed after it was written"
SUMMARY = (
    *("id", "model", "task", "regime", "problem", "method", "lambda_ts", "protocol"),
    *("placement", "n_tokens", "lr", "seed", "init", "epochs", "early_stop"),
    *("solved_epoch", "solved_steps", "solved_at_start", "source", "device", "seconds"),
)
"""Columns of `tsp.store.runs.Store.frame`."""
REQUIRED = {  # what readers rely on
    "the record": {"device", "seconds", "shape", "omitted", "plan", "files"},
    "spec": {item.name for item in fields(RunSpec) if not item.metadata.get("later")},
    "outcome": {
        "epochs_trained",
        "solved_epoch",
        "solved_steps",
        "solved_at_start",
        "final_correct",
    },
    "its problem": {"source", "row", "sha256"},
}


def parse_record(text: str, run_id: str) -> dict[str, Any]:
    """Read a run's record; raise an error if it was changed or lacks a field."""
    record: dict[str, Any] = json.loads(text)
    if record["checksum"] != checksum(record) or record["id"] != run_id:
        raise ValueError(CHANGED)
    parts = (record, record["spec"], record["outcome"], record["problems"][0])
    for (name, required), part in zip(REQUIRED.items(), parts, strict=True):
        if missing := required.difference(part):
            raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
    return record


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `SUMMARY`; ``solved_epoch`` is nan if answers were never all correct."""
    row = record["outcome"] | record["spec"] | {"source": record["problems"][0]["source"]}
    row |= {name: record[name] for name in ("id", "device", "seconds")}
    nan = float("nan")
    row |= {name: nan for name in ("solved_epoch", "solved_steps") if row[name] is None}
    return {name: row[name] for name in SUMMARY}


def kept_prompts(result: "RunResult") -> "dict[int, torch.Tensor]":
    """Return the prompts that are stored: every ``snapshot_every`` epochs, and the last check's."""
    records_at, last = result.spec.records_at, max(result.prompts)
    return {at: prompt for at, prompt in result.prompts.items() if records_at(at, last=last)}


def new_record(result: "RunResult", run_id: str, **made: Any) -> dict[str, Any]:
    """Return the record of a finished run; ``made`` are further fields."""
    contents = ("source", "row", "sha256", "question", "target")
    return {
        "format": 1,
        "id": run_id,
        "spec": result.spec.to_dict(),
        "problems": [
            {name: getattr(problem, name) for name in contents} | {"tokens": tokens}
            for problem, tokens in zip(result.problems, result.lengths, strict=True)
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


def _outcome(result: "RunResult") -> dict[str, Any]:
    """Return when all answers were first right; check 0, before any training, is kept apart."""
    solved, shares = result.solved_epoch, result.correct()
    steps = {row["epoch"]: int(row["step"]) for row in result.epochs}
    return {
        "solved_epoch": solved,
        "solved_steps": None if solved is None else steps[solved],
        "solved_at_start": shares[0] == 1,
        "epochs_trained": len(result.epochs),
        "final_correct": shares[max(shares)] == 1,
    }
