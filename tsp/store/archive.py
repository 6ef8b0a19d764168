"""Many runs in one Parquet file: to publish them, or to bring them from another host.

One row a run, readable without this package:

===========================================  ==================================================
``id``                                       the run's id
``record``                                   its ``run.json``; ``files`` are hashes of content
``epochs``, ``checks``, ``topology``,        its tables, each a list of structs; null where the
``diagrams``                                 run has none
``prompts``                                  epoch, shape, type and little-endian numbers of each
===========================================  ==================================================
"""

import hashlib
import json
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from tsp.atomic import checksum, replacing
from tsp.errors import Damaged, InputError
from tsp.paths import writable_name
from tsp.store.schema import PROMPTS, TABLES, check_columns, check_record, check_whole, read_table

if TYPE_CHECKING:
    import torch

PROMPT = pa.struct(
    [
        ("epoch", pa.int64()),
        ("shape", pa.list_(pa.int64())),
        ("dtype", pa.string()),
        ("values", pa.binary()),
    ]
)


UNREADABLE: tuple[type[Exception], ...] = (  # what JSON and tables of a wrong form lead to
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(RecursionError, OSError, pa.ArrowException, SafetensorError),
)


Content = tuple[dict[str, Any], dict[str, pa.Table], dict[int, np.ndarray]]
"""A run's record, tables and prompts."""


class DamagedPack(Damaged):
    """A file that is no pack of runs, or one whose content is not what was written."""


@dataclass(frozen=True)
class Parts:
    """A run taken apart.

    Attributes
    ----------
    record
        Its ``run.json``.
    tables
        Those of `TABLES` that it has.
    prompts
        By epoch, (n, d).
    """

    record: dict[str, Any]
    tables: Mapping[str, pa.Table]
    prompts: Mapping[int, "torch.Tensor"] = field(default_factory=dict)

    def published(self, *, prompts: bool) -> "Parts":
        """What may be published, and small.

        Texts of problems that are not shipped are left out, answers to them too; numbers of the
        tables are rounded to float32, prompts to float16 or left out.
        """
        record, tables = dict(self.record), dict(self.tables)
        own = all(problem["source"] == "shipped" for problem in record["problems"])
        omitted = list(record["omitted"])
        if not own:
            texts = ("question", "target")
            record["problems"] = [
                {name: value for name, value in problem.items() if name not in texts}
                for problem in record["problems"]
            ]
            told = [it for it in tables["checks"].column_names if it != "answer"]
            tables["checks"] = tables["checks"].select(told)
            omitted += ["texts of the problems", "decoded answers"]
        kept = {epoch: it.half() for epoch, it in self.prompts.items() if prompts}
        if not kept:
            omitted.append("prompts")
        record["omitted"] = list(dict.fromkeys(omitted))
        return Parts(record, {name: _single(it) for name, it in tables.items()}, kept)


def write_pack(runs: Iterable[Parts], path: Path) -> int:
    """Write runs into a Parquet file that appears whole or not at all; say how many.

    Raises
    ------
    InputError
        If there is no run to write.
    """
    listed = list(runs)
    if not listed:
        raise InputError("runs", 0, "there is nothing to pack")
    prompts = [{epoch: it.numpy() for epoch, it in parts.prompts.items()} for parts in listed]
    records = [_sealed(it.record, it.tables, own) for it, own in zip(listed, prompts, strict=True)]
    columns: dict[str, pa.Array] = {
        "id": pa.array([record["id"] for record in records]),
        "record": pa.array([json.dumps(record, ensure_ascii=False) for record in records]),
    }
    columns |= {name: _nested([it.tables.get(name) for it in listed]) for name in TABLES}
    columns["prompts"] = pa.array(list(map(_rows, prompts)), pa.list_(PROMPT))
    with replacing(writable_name("file", path)) as work:
        pq.write_table(pa.table(columns), work, compression="zstd", compression_level=9)
    return len(listed)


def pack_ids(path: Path) -> list[str]:
    """Ids of the runs in a pack.

    Raises
    ------
    DamagedPack
        If the file is no pack.
    """
    return list(_rows_of(path))


def holds(path: Path, run_id: str) -> bool:
    """Say whether a run is in a file that may be a pack."""
    try:
        return run_id in _rows_of(path)
    except DamagedPack:
        return False


def read_packed(path: Path, run_id: str) -> Parts:
    """Take one run out of a pack, its content checked against the hashes of its record.

    Raises
    ------
    DamagedPack
        If the file is no pack or the run is not what was written.
    """
    rows = _rows_of(path)
    if run_id not in rows:
        raise DamagedPack(f"{path.name} holds no run {run_id}")
    return _opened(path, _state(path), run_id)


def _state(path: Path) -> tuple[int, int]:
    """Tell a file from what it was before."""
    try:
        told = path.stat()
    except OSError as error:
        raise DamagedPack(f"{path.name} cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(told.st_mode):  # a pipe would be waited for
        raise DamagedPack(f"{path.name} is no file")
    return told.st_mtime_ns, told.st_size


def _rows_of(path: Path) -> dict[str, int]:
    return _rows_in(path, _state(path))


@lru_cache(maxsize=32)
def _rows_in(path: Path, state: tuple[int, int]) -> dict[str, int]:
    try:
        with pq.ParquetFile(path) as file:  # ids alone: what else it holds may be large
            names = set(file.schema_arrow.names)
        ids = read_table(path, columns=["id"])["id"].to_pylist()
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DamagedPack(f"{path.name} cannot be read ({error})") from error
    if names != {"id", "record", *TABLES, "prompts"}:
        raise DamagedPack(f"{path.name} is no pack of runs")
    if not all(isinstance(run_id, str) for run_id in ids):
        raise DamagedPack(f"{path.name} has ids that are no texts")
    return {run_id: row for row, run_id in enumerate(ids)}


def each_of(path: Path, ids: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | DamagedPack]]:
    """Records of runs of a pack, all content checked; of a run that does not pass, the error.

    Nothing is kept: packs of thousands of runs do not fit into memory together.
    """
    try:
        rows, table = _rows_of(path), _table(path)
    except DamagedPack as error:
        yield from dict.fromkeys(ids, error).items()
        return
    for run_id in ids:
        try:
            yield run_id, _content(path, run_id, table=table, rows=rows)[0]
        except DamagedPack as error:
            yield run_id, error


def one_under_the_other(
    path: Path, ids: Sequence[str], *, name: str, columns: Sequence[str] | None = None
) -> tuple[pa.Table, list[int]]:
    """One of the tables of runs of a pack that were checked, and how many rows each run has.

    Raises
    ------
    DamagedPack
        If it cannot be read.
    """
    rows = _rows_of(path)
    try:
        places = pa.array([rows[it] for it in ids], pa.int64())
        cells = read_table(path, [name])[name].combine_chunks().take(places)
        table = without_nulls(pa.Table.from_struct_array(cells.flatten()))
        lengths = cells.value_lengths().fill_null(0).to_pylist()
        check_columns(name, table.schema)
        check_whole(name, table)
        return table.select(columns) if columns else table, lengths
    except UNREADABLE as error:
        raise DamagedPack(f"{path.name} cannot be read ({error})") from error


def _table(path: Path) -> pa.Table:
    try:
        table = read_table(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DamagedPack(f"{path.name} cannot be read ({error})") from error
    if not all(pa.types.is_list(table[name].type) for name in (*TABLES, "prompts")):
        raise DamagedPack(f"{path.name} is no pack of runs")
    return table


@lru_cache(maxsize=32)
def _loaded(path: Path, state: tuple[int, int]) -> pa.Table:
    return _table(path)


@lru_cache(maxsize=4096)
def _opened(path: Path, state: tuple[int, int], run_id: str) -> Parts:
    told = {"table": _loaded(path, state), "rows": _rows_in(path, state)}
    record, tables, prompts = _content(path, run_id, **told)
    import torch  # which takes a second that tables need not wait for

    return Parts(record, tables, {epoch: torch.from_numpy(it) for epoch, it in prompts.items()})


def _content(path: Path, run_id: str, *, table: pa.Table, rows: Mapping[str, int]) -> Content:
    """Read a run's row and check it."""
    try:
        row = rows[run_id]
        record = json.loads(table["record"][row].as_py())
        tables = {
            name: without_nulls(pa.Table.from_struct_array(table[name][row].values))
            for name in TABLES
            if table[name][row].is_valid
        }
        prompts = {
            it["epoch"]: _array(it["values"], it["dtype"], it["shape"])
            for it in table["prompts"][row].as_py() or ()
        }
        sound = record == _sealed(record, tables, prompts)
        if sound:
            _check(record, tables, prompts)
    except UNREADABLE as error:
        raise DamagedPack(f"{path.name}: run {run_id} cannot be read ({error})") from error
    if not sound or record["id"] != run_id:
        raise DamagedPack(f"{path.name}: run {run_id} was changed after it was written")
    return record, tables, prompts


def _check(
    record: Mapping[str, Any], tables: Mapping[str, pa.Table], prompts: Mapping[int, np.ndarray]
) -> None:
    """Refuse what has fitting hashes and is no run all the same."""
    check_record(record)
    for name, table in tables.items():
        check_columns(name, table.schema)
        check_whole(name, table)
    for epoch, prompt in prompts.items():
        if epoch < 0 or list(prompt.shape) != record["shape"]:
            raise ValueError(f"the prompt of epoch {epoch} is of shape {list(prompt.shape)}")


def _sealed(
    record: Mapping[str, Any], tables: Mapping[str, pa.Table], prompts: Mapping[int, np.ndarray]
) -> dict[str, Any]:
    """A record that holds the hashes of the content and its own."""
    files = {f"{name}.parquet": _digest(table) for name, table in tables.items()}
    if prompts:
        files[PROMPTS] = _prompts_digest(prompts)
    sealed = {**record, "files": files}
    return sealed | {"checksum": checksum(sealed)}


def _digest(table: pa.Table) -> str:
    """Hash of a table's content: column by column in the order of names, however it is stored."""
    found = hashlib.sha256()
    for name in sorted(table.column_names):
        column = table[name]
        found.update(f"{name}\0{len(column)}\0".encode())
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            found.update(json.dumps(column.to_pylist()).encode())
        else:
            kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
            found.update(np.ascontiguousarray(column.to_numpy()).astype(kind).tobytes())
    return found.hexdigest()


def _prompts_digest(prompts: Mapping[int, np.ndarray]) -> str:
    found = hashlib.sha256()
    for row in _rows(prompts):
        found.update(f"{row['epoch']} {row['dtype']} {row['shape']}\0".encode() + row["values"])
    return found.hexdigest()


def _rows(prompts: Mapping[int, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "shape": list(it.shape),
            "dtype": it.dtype.name,
            "values": it.astype(it.dtype.newbyteorder("<")).tobytes(),
        }
        for epoch, it in sorted(prompts.items())
    ]


def _array(values: bytes, dtype: str, shape: Sequence[int]) -> np.ndarray:
    if dtype not in ("float16", "float32", "float64"):
        raise ValueError(f"prompts of {dtype}")
    kind = np.dtype(dtype).newbyteorder("<")
    return np.frombuffer(values, kind).astype(dtype).reshape(shape)


def _nested(tables: Sequence[pa.Table | None]) -> pa.Array:
    """Tables one under the other as a list of structs each; columns that one lacks are null."""
    there = [table for table in tables if table is not None]
    if not there:
        return pa.nulls(len(tables), pa.list_(pa.struct([("epoch", pa.int64())])))
    rows = pa.concat_tables(there, promote_options="permissive").combine_chunks()
    ends = np.cumsum([0, *(0 if it is None else len(it) for it in tables)])
    chunks = rows.to_struct_array()
    values = chunks.combine_chunks() if isinstance(chunks, pa.ChunkedArray) else chunks
    mask = pa.array([it is None for it in tables])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, mask=mask)


def without_nulls(table: pa.Table) -> pa.Table:
    """Leave out columns that are there for other runs alone."""
    gone = [it for it in table.column_names if table[it].null_count == len(table) > 0]
    return table.drop_columns(gone)


def _single(table: pa.Table) -> pa.Table:
    """The same with float32 in place of float64."""
    names = table.schema
    kinds = [pa.float32() if it.type == pa.float64() else it.type for it in names]
    return table.cast(pa.schema(list(zip(names.names, kinds, strict=True))))
