"""A stored run in memory: its record, its four tables and its prompts, with their hashes."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError

from tsp.atomic import checksum
from tsp.store.schema import PROMPTS, check_columns, check_record
from tsp.training.spec import RunSpec

UNREADABLE: tuple[type[Exception], ...] = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(RecursionError, OSError, pa.ArrowException, SafetensorError),
)
"""Errors of JSON, Parquet and safetensors that are damaged or not those of a run."""


@dataclass(frozen=True)
class RunData:
    """All that is stored of a run.

    Attributes
    ----------
    record
        Its ``run.json``.
    tables
        Those of `tsp.store.schema.COLUMNS` that it has, by name.
    prompts
        By epoch, (n, d), float16, float32 or float64.
    """

    record: dict[str, Any]
    tables: Mapping[str, pa.Table]
    prompts: Mapping[int, np.ndarray] = field(default_factory=dict)

    def published(self, *, prompts: bool) -> "RunData":
        """Return the part that may be published, made small.

        Texts of problems that are not shipped here, and the answers to them, are left out. Tables
        are rounded to float32, prompts to float16 or left out.
        """
        record, tables = dict(self.record), dict(self.tables)
        omitted = list(record["omitted"])
        if any(problem["source"] != "shipped" for problem in record["problems"]):
            record["problems"] = [
                {name: it for name, it in problem.items() if name not in ("question", "target")}
                for problem in record["problems"]
            ]
            names = [name for name in tables["checks"].column_names if name != "answer"]
            tables["checks"] = tables["checks"].select(names)
            omitted += ["texts of the problems", "decoded answers"]
        kept = {epoch: it.astype(np.float16) for epoch, it in self.prompts.items() if prompts}
        if not kept:
            omitted.append("prompts")
        record["omitted"] = list(dict.fromkeys(omitted))
        return RunData(record, {name: _single(it) for name, it in tables.items()}, kept)

    def sealed(self) -> "RunData":
        """Return the same run; its record holds the hashes of the content and of itself."""
        files = {f"{name}.parquet": table_hash(table) for name, table in self.tables.items()}
        if self.prompts:
            files[PROMPTS] = _prompts_hash(self.prompts)
        record = {**self.record, "files": files}
        return RunData(record | {"checksum": checksum(record)}, self.tables, self.prompts)

    def check(self) -> None:
        """Raise if the content is not that of a run, whatever its hashes are.

        Raises
        ------
        ValueError
            Naming the field, the column or the epoch.
        """
        check_record(self.record)
        RunSpec.from_dict(self.record["spec"])
        json.dumps(self.record, ensure_ascii=False).encode()  # half a character cannot be written
        for name, table in self.tables.items():
            check_columns(name, table)
        for epoch, prompt in self.prompts.items():
            if epoch < 0 or list(prompt.shape) != self.record["shape"]:
                raise ValueError(f"the prompt of epoch {epoch} has shape {list(prompt.shape)}")


def table_hash(table: pa.Table) -> str:
    """SHA-256 of a table's values, whatever the file's compression: columns in order of names."""
    return next(table_hashes(table, [table.num_rows]))


def table_hashes(table: pa.Table, lengths: Sequence[int]) -> Iterator[str]:
    """Return `table_hash` of each run, of tables that stand one under the other.

    A column that is null in all rows of a run is not the run's and does not count.

    Parameters
    ----------
    table
        The rows of all runs.
    lengths
        How many rows each run has.
    """
    ends = np.cumsum([0, *lengths])
    columns = {name: table[name].combine_chunks() for name in sorted(table.column_names)}
    nulls = {
        name: np.cumsum([0, *np.asarray(column.is_null())])
        for name, column in columns.items()
        if column.null_count
    }
    values = {name: _plain(column) for name, column in columns.items()}
    for start, end in pairwise(ends):
        found = hashlib.sha256()
        for name, column in values.items():
            if name in nulls and nulls[name][end] - nulls[name][start] == end - start > 0:
                continue
            found.update(f"{name}\0{end - start}\0".encode())
            part = column[start:end]
            is_text = isinstance(part, pa.Array)
            found.update(json.dumps(part.to_pylist()).encode() if is_text else part)
        yield found.hexdigest()


def _plain(column: pa.Array) -> Any:
    """Return numbers as little-endian 8-byte numbers, texts as they are."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    if pa.types.is_floating(column.type):
        return column.to_numpy(zero_copy_only=False).astype("<f8")
    if column.null_count:  # of runs that lack the column
        column = column.fill_null(pa.scalar(0).cast(column.type))
    return column.to_numpy(zero_copy_only=False).astype("<i8")


def _prompts_hash(prompts: Mapping[int, np.ndarray]) -> str:
    found = hashlib.sha256()
    for row in prompt_rows(prompts):
        found.update(f"{row['epoch']} {row['dtype']} {row['shape']}\0".encode() + row["values"])
    return found.hexdigest()


def prompt_rows(prompts: Mapping[int, np.ndarray]) -> list[dict[str, Any]]:
    """Return one row a prompt: ``epoch``, ``shape``, ``dtype`` and little-endian ``values``."""
    return [
        {
            "epoch": epoch,
            "shape": list(prompt.shape),
            "dtype": prompt.dtype.name,
            "values": prompt.astype(prompt.dtype.newbyteorder("<")).tobytes(),
        }
        for epoch, prompt in sorted(prompts.items())
    ]


def prompts_of(rows: Sequence[Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """Read back what `prompt_rows` gave."""
    return {row["epoch"]: _array(row["values"], row["dtype"], row["shape"]) for row in rows}


def _array(values: bytes, dtype: str, shape: Sequence[int]) -> np.ndarray:
    if dtype not in ("float16", "float32", "float64"):
        raise ValueError(f"prompts of type {dtype}")
    kind = np.dtype(dtype).newbyteorder("<")
    return np.frombuffer(values, kind).astype(dtype).reshape(shape)


def without_nulls(table: pa.Table) -> pa.Table:
    """Leave out columns that are null in all rows: they belong to other runs."""
    empty = [it for it in table.column_names if table[it].null_count == len(table) > 0]
    return table.drop_columns(empty)


def _single(table: pa.Table) -> pa.Table:
    """Return the table with float32 in place of float64."""
    kinds = [pa.float32() if kind == pa.float64() else kind for kind in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))
