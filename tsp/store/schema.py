"""What a stored run must hold: its record, its tables, its prompts.

A checksum says that files are what somebody wrote, not that they are a run: anybody can compute
one. What is checked here can be relied on by all that reads runs.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import safe_open

from tsp.topology import SUMMARY_COLUMNS
from tsp.training.spec import RunSpec

PROMPTS = "prompts.safetensors"
PROMPT_NAME = re.compile(r"epoch_\d{4,18}")
COLUMNS: dict[str, tuple[str, ...]] = {  # what each table has at least
    "epochs": ("epoch", "step", "ce", "total"),
    "checks": ("epoch", "problem", "correct", "matched_tokens", "target_tokens"),
    "topology": ("epoch", *SUMMARY_COLUMNS),
    "diagrams": ("epoch", "dimension", "birth", "death"),
}
TABLES = tuple(COLUMNS)
IN_FRONT = ("id", "key")  # what tells runs apart where their tables stand one under the other
FILES = {*(f"{name}.parquet" for name in TABLES), PROMPTS}
RECORD: dict[str, type] = {
    **{name: str for name in ("id", "device")},
    **{name: list for name in ("problems", "shape", "omitted")},
    **{name: dict for name in ("spec", "outcome", "plan", "files")},
    "seconds": float,
}
OUTCOME: dict[str, type] = {
    **{name: bool for name in ("solved_at_start", "final_correct")},
    "epochs_trained": int,
}
KINDS = {
    str: "a text",
    list: "a list",
    dict: "an object",
    float: "a number",
    int: "a whole number, not below 0",
}
LARGEST = 2**63  # what Parquet's whole numbers stay below
ROOM = 2**30  # bytes that any table may take, however small its file
TOO_LARGE = "it grows beyond what a file of its size may"
PORTION = 1024  # rows that are read at once
RATIO = 100  # above that, so many times the size of its file: no honest table shrinks further


def check_record(record: Mapping[str, Any]) -> None:
    """Refuse a run's record that lacks what is read of it.

    Raises
    ------
    ValueError
        Naming the field; for a spec that is none it is an `InputError`.
    """
    _need(record, RECORD, "")
    _need(record["outcome"], OUTCOME, "outcome.")
    for name in ("solved_epoch", "solved_steps"):
        if record["outcome"].get(name, "") is not None:
            _need(record["outcome"], {name: int}, "outcome.")
    _need(record["plan"], {"precision": str} if "precision" in record["plan"] else {}, "plan.")
    if not record["problems"]:
        raise ValueError("no problems")
    for problem in record["problems"]:
        _need(problem, {"source": str, "row": int, "sha256": str}, "problems.")
    for name, digest in record["files"].items():
        if name not in FILES or not isinstance(digest, str):
            raise ValueError(f"files: {name!r} is no file of a run")
    if not all(isinstance(it, str) for it in record["omitted"]):
        raise ValueError("omitted must list texts")
    json.dumps(record, ensure_ascii=False).encode()  # half a character, which JSON can spell, fails
    RunSpec.from_dict(record["spec"])
    known = {it.name for it in fields(RunSpec) if not it.metadata.get("later")}
    if lost := sorted(known.difference(record["spec"])):
        raise ValueError(f"spec lacks {', '.join(lost)}")  # tables read it as it is written


def _need(values: Any, kinds: Mapping[str, type], place: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{place} must be an object")
    for name, kind in kinds.items():
        value = values.get(name)
        if kind is float and type(value) is int:
            value = float(value) if abs(value) < LARGEST else None
        odd = (kind is int and not is_whole(value)) or (kind is float and not _finite(value))
        if not isinstance(value, kind) or odd:
            raise ValueError(f"{place}{name} must be {KINDS.get(kind, 'true or false')}")


def is_whole(value: Any) -> bool:
    """Tell whether a value is a number of epochs, steps, problems or the like: none is negative."""
    return type(value) is int and 0 <= value < LARGEST


def _finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def check_columns(name: str, schema: pa.Schema) -> None:
    """Refuse a table of a run that lacks a column, or that has one of another kind than its name.

    So tables of any runs can stand one under the other.

    Raises
    ------
    ValueError
        Naming the column.
    """
    found = dict(zip(schema.names, schema.types, strict=True))
    if len(found) < len(schema.names):
        raise ValueError("two columns have one name")
    for column in (*COLUMNS[name], *found):
        if column not in found:
            raise ValueError(f"no column {column}")
        if column in IN_FRONT:
            raise ValueError(f"column {column} is no run's own")
        if not _KINDS_OF.get(column, _is_number)(found[column]):
            raise ValueError(f"column {column} holds {found[column]}")


def check_whole(name: str, table: pa.Table) -> pa.Table:
    """Refuse a table of a run that lacks values where they are relied on.

    Raises
    ------
    ValueError
        Naming the column.
    """
    for column in {*COLUMNS[name], "answer"}.intersection(table.column_names):
        # A number that is none, of a run that went astray, is stored as null.
        if table[column].null_count and not pa.types.is_floating(table[column].type):
            raise ValueError(f"column {column} has gaps")
    return table


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


_KINDS_OF = {"answer": _is_text} | dict.fromkeys(("correct", "exact"), pa.types.is_boolean)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some columns, that may come from anybody: no pandas, no bomb.

    A few bytes of Parquet can stand for any number of rows. How many numbers are read is told
    before; what has texts is read in portions, and no longer than what they take stays in
    proportion to the file.

    Raises
    ------
    ValueError, OSError, pyarrow.ArrowException
        If it cannot be read, or takes more than `ROOM` and `RATIO` times its size.
    """
    room = ROOM + RATIO * path.stat().st_size
    parts: list[pa.Table] = []
    with pq.ParquetFile(path, pre_buffer=False) as file:
        schema, footer = file.schema_arrow, file.metadata
        wanted = schema if columns is None else pa.schema([schema.field(it) for it in columns])
        plain = all(_is_number(it) or pa.types.is_boolean(it) for it in wanted.types)
        if plain and 8 * _told_values(footer) <= room:
            # With threads or in portions a small file, as most are, takes twice as long.
            return file.read(columns, use_threads=False).replace_schema_metadata()
        leaves = [file.schema.column(k) for k in range(len(file.schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        empty = wanted.empty_table()
    # Texts stay folded until it is known how long they are: one may stand for all rows.
    with pq.ParquetFile(path, read_dictionary=texts, metadata=footer) as file:
        for part in file.iter_batches(batch_size=PORTION, columns=columns):
            if sum(map(_unfolded, part.columns)) > room:
                raise ValueError(TOO_LARGE)
            part.validate(full=True)  # texts that are none, which pandas would fail at later
            parts.append(pa.Table.from_batches([part]).cast(empty.schema))
            room -= parts[-1].nbytes
            if room < 0:
                raise ValueError(TOO_LARGE)
    return pa.concat_tables([empty, *parts]).replace_schema_metadata()


def _told_values(footer: pq.FileMetaData) -> int:
    """How many values a footer tells of. No more are read, though the file may hold more."""
    groups = [footer.row_group(k) for k in range(footer.num_row_groups)]
    columns = [group.column(k) for group in groups for k in range(group.num_columns)]
    return sum(abs(column.num_values) for column in columns)  # a forged one may be below 0


def _unfolded(column: pa.Array) -> int:
    """Bytes of a column's texts when each row has its own."""
    if pa.types.is_dictionary(column.type):
        lengths = pc.call_function("binary_length", [column.dictionary])
        return int(pc.call_function("sum", [lengths.take(column.indices)]).as_py() or 0)
    if pa.types.is_list(column.type) or pa.types.is_struct(column.type):
        inner = column.flatten()
        return sum(map(_unfolded, inner if isinstance(inner, list) else [inner]))
    return 0


def check_prompts(path: Path, shape: list[int]) -> None:
    """Refuse prompts of other names, shapes or types than a run stores.

    Raises
    ------
    ValueError, OSError, safetensors.SafetensorError
        Naming the prompt.
    """
    with safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118
            told = file.get_slice(name)
            if not PROMPT_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no epoch's prompt")
            if told.get_shape() != shape or told.get_dtype() not in ("F16", "F32", "F64"):
                raise ValueError(f"{name} is not of shape {shape}")
