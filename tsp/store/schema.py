"""What every stored run has: the fields of its record and the columns of its tables."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pyarrow as pa

from tsp.topology import SUMMARY_COLUMNS
from tsp.training.spec import RunSpec

RUN_ID = re.compile(r"[0-9a-f]{16}")
PROMPTS = "prompts.safetensors"
COLUMNS: dict[str, tuple[str, ...]] = {
    "epochs": ("epoch", "step", "ce", "total"),
    "checks": ("epoch", "problem", "correct", "matched_tokens", "target_tokens"),
    "topology": ("epoch", *SUMMARY_COLUMNS),
    "diagrams": ("epoch", "dimension", "birth", "death"),
}
"""Tables of a run, and the columns that each has at least."""
FILES = (*(f"{name}.parquet" for name in COLUMNS), PROMPTS)

RECORD: dict[str, type | tuple[type, ...]] = {
    **{name: str for name in ("id", "device", "checksum")},
    **{name: list for name in ("problems", "shape", "omitted")},
    **{name: dict for name in ("spec", "outcome", "plan", "files")},
    "seconds": (int, float),
}
OUTCOME: dict[str, type | tuple[type, ...]] = {
    **{name: bool for name in ("solved_at_start", "final_correct")},
    **{name: (int, type(None)) for name in ("solved_epoch", "solved_steps")},
    "epochs_trained": int,
}
PROBLEM: dict[str, type | tuple[type, ...]] = {"source": str, "row": int, "sha256": str}
SPEC = frozenset(it.name for it in fields(RunSpec) if not it.metadata.get("later"))


def check_record(record: Mapping[str, Any]) -> None:
    """Raise if a run's record lacks a field that readers rely on.

    Raises
    ------
    ValueError
        Naming the field.
    """
    _check_fields(record, RECORD, "")
    _check_fields(record["outcome"], OUTCOME, "outcome.")
    if not record["problems"]:
        raise ValueError("problems is empty")
    for problem in record["problems"]:
        _check_fields(problem, PROBLEM, "problems.")
    if unknown := set(record["files"]).difference(FILES):
        raise ValueError(f"files names {min(unknown)!r:.50}")
    if missing := SPEC.difference(record["spec"]):
        raise ValueError(f"spec lacks {', '.join(sorted(missing))}")


def _check_fields(values: Any, kinds: Mapping[str, type | tuple[type, ...]], prefix: str) -> None:
    for name, kind in kinds.items():
        if name not in values or not isinstance(values[name], kind):
            raise ValueError(f"{prefix}{name} is missing or of the wrong type")


def check_columns(name: str, table: pa.Table) -> None:
    """Raise if a table of a run lacks a column, or holds values of the wrong type or none at all.

    Numbers may be null only where they are floating point (a loss that diverged).

    Raises
    ------
    ValueError
        Naming the column.
    """
    if len(set(table.column_names)) < table.num_columns:
        raise ValueError("two columns have one name")
    for column in (*COLUMNS[name], *table.column_names):
        if column not in table.column_names or column == "id":
            raise ValueError(f"column {column} is missing, or is not allowed")
        kind = table.schema.field(column).type
        if not _fits(column, kind):
            raise ValueError(f"column {column} holds {kind}")
        if table[column].null_count and not pa.types.is_floating(kind):
            raise ValueError(f"column {column} has gaps")


def _fits(column: str, kind: pa.DataType) -> bool:
    if column == "answer":
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if column in ("correct", "exact"):
        return pa.types.is_boolean(kind)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
