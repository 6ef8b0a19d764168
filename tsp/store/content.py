"""`RunData`: all content of one run in memory, as it is written or was read, and its hashes."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError

from tsp.atomic import checksum
from tsp.errors import Damaged
from tsp.store.schema import PROMPTS, TABLES
from tsp.training.spec import RunSpec

UNREADABLE: tuple[type[Exception], ...] = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(RecursionError, OSError, pa.ArrowException, SafetensorError),
)
"""Errors of JSON, Parquet and safetensors that are damaged or not those of a run."""
PROMPT_ROWS = pa.list_(
    pa.struct({"epoch": "i8", "shape": pa.list_(pa.int64()), "dtype": "string", "values": "binary"})
)
TEXTS = ("question", "target")


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn the errors of what cannot be read into `Damaged`, with the name of what is read."""
    try:
        yield
    except UNREADABLE as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise Damaged(f"{name} cannot be read ({why})") from error


@dataclass(frozen=True)
class RunData:
    """All that is stored of a run: ``run.json``, tables by name, prompts (n, d) by epoch."""

    record: dict[str, Any]
    tables: Mapping[str, pa.Table]
    prompts: Mapping[int, np.ndarray] = field(default_factory=dict)

    def published(self, *, prompts: bool) -> "RunData":
        """Return the part that may be published, made small.

        Texts of problems that are not shipped here, and the answers to them, are left out, and of
        the folder they came from all but its name. Tables are rounded to float32, prompts to
        float16 or left out.
        """
        record, omitted = dict(self.record), list(self.record["omitted"])
        record["spec"] = record["spec"] | {"data": Path(record["spec"]["data"]).name}
        tables = {name: _single(table) for name, table in self.tables.items()}
        if any(problem["source"] != "shipped" for problem in record["problems"]):
            record["problems"] = [
                {name: value for name, value in problem.items() if name not in TEXTS}
                for problem in record["problems"]
            ]
            kept = [name for name in tables["checks"].column_names if name != "answer"]
            tables["checks"] = tables["checks"].select(kept)
            omitted += ["texts of the problems", "decoded answers"]
        small = {epoch: array.astype(np.float16) for epoch, array in self.prompts.items()}
        if not (prompts and small):
            small = {}
            omitted.append("prompts")
        record["omitted"] = list(dict.fromkeys(omitted))
        return RunData(record, tables, small)

    def sealed(self) -> "RunData":
        """Return the same run with the hashes of its content and of its record in the record."""
        files = {
            f"{name}.parquet": next(table_hashes(table, [len(table)]))
            for name, table in self.tables.items()
        }
        if self.prompts:
            files[PROMPTS] = prompts_hash(self.prompts)
        record = self.record | {"files": files}
        return RunData(record | {"checksum": checksum(record)}, self.tables, self.prompts)

    def check(self) -> None:
        """Raise an error that names the field or column if spec, tables or prompts are invalid."""
        RunSpec.from_dict(self.record["spec"])
        for name, table in self.tables.items():
            table.select(TABLES[name].names).cast(TABLES[name])
        for epoch, prompt in self.prompts.items():
            if list(prompt.shape) != self.record["shape"]:
                raise ValueError(f"the prompt of epoch {epoch} has shape {list(prompt.shape)}")


def table_hashes(table: pa.Table, lengths: Sequence[int]) -> Iterator[str]:
    """Yield the SHA-256 of each run's values in a table of runs with these numbers of rows.

    Columns count in the order of their names; one that is null in all rows of a run is not part of
    the run. The compression of the file does not count.
    """
    columns = {name: table[name].combine_chunks() for name in sorted(table.column_names)}
    nulls = {
        name.encode(): np.cumsum([0, *np.asarray(column.is_null())]).tolist()
        for name, column in columns.items()
        if column.null_count
    }
    values = [(name.encode(), _plain(column)) for name, column in columns.items()]
    for start, end in pairwise(np.cumsum([0, *lengths]).tolist()):
        missing = {name for name, sums in nulls.items() if sums[end] - sums[start] == end - start}
        size = b"\0%d\0" % (end - start)
        parts = [
            part
            for name, column in values
            if name not in missing or start == end
            for part in (name, size, _bytes(column[start:end]))
        ]
        yield hashlib.sha256(b"".join(parts)).hexdigest()


def _bytes(values: list[str | None] | memoryview) -> bytes | memoryview:
    return json.dumps(values).encode() if isinstance(values, list) else values


def _plain(column: pa.Array) -> list[str | None] | memoryview:
    """Return numbers as a view of little-endian 8-byte numbers, texts as a list."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.to_numpy(zero_copy_only=False).tolist()  # faster than to_pylist
    if pa.types.is_floating(column.type):
        return column.to_numpy(zero_copy_only=False).astype("<f8").data
    if column.null_count:  # of runs that lack the column
        column = column.fill_null(pa.scalar(0).cast(column.type))
    return column.to_numpy(zero_copy_only=False).astype("<i8").data


def prompt_rows(prompts: Mapping[int, np.ndarray]) -> list[dict[str, Any]]:
    """Return one row per prompt: ``epoch``, ``shape``, ``dtype`` and little-endian ``values``."""
    return [
        {
            "epoch": epoch,
            "shape": list(prompt.shape),
            "dtype": prompt.dtype.name,
            "values": prompt.astype(prompt.dtype.newbyteorder("<")).tobytes(),
        }
        for epoch, prompt in sorted(prompts.items())
    ]


def prompts_hash(prompts: Mapping[int, np.ndarray]) -> str:
    """Return the SHA-256 of a run's prompts."""
    digest = hashlib.sha256()
    for row in prompt_rows(prompts):
        head = f"{row['epoch']} {row['dtype']} {row['shape']}\0"
        digest.update(head.encode() + row["values"])
    return digest.hexdigest()


def prompts_from(rows: Sequence[Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """Read back the rows that `prompt_rows` returned."""
    prompts = {}
    for row in rows:
        if row["dtype"] not in ("float16", "float32", "float64"):
            raise ValueError(f"prompts of type {row['dtype']}")
        kind = np.dtype(row["dtype"]).newbyteorder("<")
        values = np.frombuffer(row["values"], kind).astype(row["dtype"])
        prompts[row["epoch"]] = values.reshape(row["shape"])
    return prompts


def without_nulls(table: pa.Table) -> pa.Table:
    """Leave out columns that are null in all rows: they belong to other runs."""
    empty = [name for name in table.column_names if table[name].null_count == len(table) > 0]
    return table.drop_columns(empty)


def _single(table: pa.Table) -> pa.Table:
    """Return the table with float32 in place of float64."""
    kinds = [pa.float32() if kind == pa.float64() else kind for kind in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))
