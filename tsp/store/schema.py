"""The tables that every stored run has, with the columns that each has at least."""

import re

import pyarrow as pa

from tsp.topology import SUMMARY_COLUMNS

RUN_ID = re.compile(r"[0-9a-f]{16}")
PROMPTS = "prompts.safetensors"


def _schema(*, counts: tuple[str, ...], numbers: tuple[str, ...] = (), flag: str = "") -> pa.Schema:
    """Return a schema; numbers may be null, where a loss diverged."""
    kinds = dict.fromkeys(counts, pa.int64()) | ({flag: pa.bool_()} if flag else {})
    required = [pa.field(name, kind, nullable=False) for name, kind in kinds.items()]
    return pa.schema([*required, *(pa.field(name, pa.float64()) for name in numbers)])


TABLES = {
    "epochs": _schema(counts=("epoch", "step"), numbers=("ce", "total")),
    "checks": _schema(
        counts=("epoch", "problem", "matched_tokens", "target_tokens"), flag="correct"
    ),
    "topology": _schema(counts=("epoch",), numbers=SUMMARY_COLUMNS),
    "diagrams": _schema(counts=("epoch", "dimension"), numbers=("birth", "death")),
}
