"""Many runs in one Parquet file: to publish them, to bring them elsewhere, to read them fast.

One row a run, readable without this package:

===========================================  ==================================================
``id``                                       the run's id
``record``                                   its ``run.json``; ``files`` are hashes of content
``epochs``, ``checks``, ``topology``,        its tables, each a list of structs; null where the
``diagrams``                                 run has none
``prompts``                                  epoch, shape, type and little-endian numbers of each
===========================================  ==================================================
"""

import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tsp.atomic import checksum, replacing
from tsp.errors import Damaged, InputError
from tsp.paths import writable_name
from tsp.store.content import (
    UNREADABLE,
    RunData,
    prompt_rows,
    prompts_of,
    table_hashes,
    without_nulls,
)
from tsp.store.schema import COLUMNS, RUN_ID, check_record

GROUP = 50  # runs of a row group, which is read to read one of them
BATCH = 500  # runs whose tables are in memory at once when all are read
NAMES = ("id", "record", *COLUMNS, "prompts")
PROMPT = pa.struct(
    [
        ("epoch", pa.int64()),
        ("shape", pa.list_(pa.int64())),
        ("dtype", pa.string()),
        ("values", pa.binary()),
    ]
)


def write_archive(runs: Iterable[RunData], path: Path) -> int:
    """Write runs into a Parquet file that appears whole or not at all; return how many.

    Raises
    ------
    InputError
        If there are no runs.
    """
    runs, count = iter(runs), 0
    parts: list[Path] = []
    with (
        replacing(writable_name("file", path)) as work,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder,
    ):
        while group := [run.sealed() for run in islice(runs, GROUP)]:
            count += len(group)
            parts.append(Path(folder) / f"{len(parts)}.parquet")
            pq.write_table(_rows(group), parts[-1], compression="zstd")
        if not count:
            raise InputError("runs", 0, "there is nothing to pack")
        # Only now it is known which columns there are: those of all methods.
        schemas = [pq.read_schema(part) for part in parts]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        told: dict[str, Any] = {"compression": "zstd", "compression_level": 9}
        with pq.ParquetWriter(work, schema, **told) as file:
            for part in parts:
                rows = [schema.empty_table(), pq.ParquetFile(part).read()]
                file.write_table(pa.concat_tables(rows, promote_options="permissive"))
    return count


def _rows(runs: Sequence[RunData]) -> pa.Table:
    columns = {
        "id": pa.array([run.record["id"] for run in runs]),
        "record": pa.array([json.dumps(run.record, ensure_ascii=False) for run in runs]),
    }
    columns |= {name: _nested([run.tables.get(name) for run in runs]) for name in COLUMNS}
    columns["prompts"] = pa.array([prompt_rows(it.prompts) for it in runs], pa.list_(PROMPT))
    return pa.table(columns)


def _nested(tables: Sequence[pa.Table | None]) -> pa.Array:
    """Return tables as a list of structs each; columns that one lacks are null there."""
    present = [table for table in tables if table is not None]
    if not present:
        return pa.nulls(len(tables), pa.list_(pa.struct([("epoch", pa.int64())])))
    rows = pa.concat_tables(present, promote_options="permissive").combine_chunks()
    ends = np.cumsum([0, *(0 if table is None else len(table) for table in tables)])
    values = pa.concat_arrays(rows.to_struct_array().chunks)
    mask = pa.array([table is None for table in tables])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, mask=mask)


def open_archive(path: Path) -> "Archive":
    """Open a file of runs; while it stays as it is, it is opened once.

    Raises
    ------
    Damaged
        If it cannot be read or holds something else.
    """
    try:
        state = path.stat()
        return _opened(path, state.st_mtime_ns, state.st_size)
    except UNREADABLE as error:
        raise Damaged(f"{path.name} cannot be read ({error})") from error


@lru_cache(maxsize=32)
def _opened(path: Path, modified: int, size: int) -> "Archive":
    return Archive(path)


class Archive:
    """A file of runs. Records are read at once, tables and prompts when they are needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with pq.ParquetFile(path) as file:
            if set(file.schema_arrow.names) != set(NAMES):
                raise ValueError("its columns are not those of an archive of runs")
            self._footer = file.metadata  # of large files it takes long to parse
            count = self._footer.num_row_groups
            sizes = [self._footer.row_group(k).num_rows for k in range(count)]
            self.ids: list[str] = file.read(["id"])["id"].to_pylist()
        if not all(RUN_ID.fullmatch(run_id) for run_id in self.ids):
            raise ValueError("it names a run that has no valid id")
        self._starts = np.cumsum([0, *sizes])
        self._places = {run_id: row for row, run_id in enumerate(self.ids)}
        self._group: tuple[int, pa.Table] | None = None
        self._checked: dict[str, str] = {}

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path, metadata=self._footer)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._places

    @cached_property
    def records(self) -> dict[str, "dict[str, Any] | Damaged"]:
        """Record of each run, its own hash checked; of a damaged one the error."""
        with self._open() as file:
            texts = file.read(["record"])["record"].to_pylist()
        return {it: self._record(it, text) for it, text in zip(self.ids, texts, strict=True)}

    def _record(self, run_id: str, text: str) -> "dict[str, Any] | Damaged":
        try:
            record = json.loads(text)
            if record["checksum"] != checksum(record) or record["id"] != run_id:
                return self._changed(run_id)
            check_record(record)
        except UNREADABLE as error:
            return Damaged(f"{self.path.name}: run {run_id} cannot be read ({error})")
        return record

    def _changed(self, run_id: str) -> Damaged:
        return Damaged(f"{self.path.name}: run {run_id} was changed after it was written")

    def record(self, run_id: str) -> dict[str, Any]:
        """Return the record of a run.

        Raises
        ------
        Damaged
            If it is not what was written.
        """
        record = self.records[run_id]
        if isinstance(record, Damaged):
            raise record
        return record

    def read(self, run_id: str) -> RunData:
        """Return a run, its whole content checked.

        Raises
        ------
        Damaged
            If it is not what was written.
        """
        record, row = self.record(run_id), self._places[run_id]
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        try:
            if self._group is None or self._group[0] != number:
                with self._open() as file:
                    self._group = (number, file.read_row_group(number))
            (cells,) = self._group[1].slice(row - self._starts[number], 1).to_batches()
            tables = {
                name: without_nulls(pa.Table.from_struct_array(cells[name].flatten()))
                for name in COLUMNS
                if cells[name].null_count == 0
            }
            data = RunData(record, tables, prompts_of(cells["prompts"].to_pylist()[0] or ()))
            if data.sealed().record != record:
                raise self._changed(run_id)
            data.check()
        except UNREADABLE as error:
            raise Damaged(f"{self.path.name}: run {run_id} cannot be read ({error})") from error
        return data

    def problem(self, run_id: str) -> str:
        """Say what is wrong with a run, or nothing; its content is checked once."""
        if run_id not in self._checked:
            try:
                self.read(run_id)
                self._checked[run_id] = ""
            except Damaged as error:
                self._checked[run_id] = str(error)
        return self._checked[run_id]

    def tables(
        self, name: str, wanted: Collection[str], columns: Sequence[str] | None = None
    ) -> Iterator[tuple[list[str], pa.Table, list[int]]]:
        """Read one table of several runs that have it, their content checked.

        Yields
        ------
        ids, table, lengths
            Of some of the runs: their rows, run after run, and how many each has.

        Raises
        ------
        Damaged
            If a run is not what was written.
        """
        wanted = set(wanted)
        try:
            with self._open() as file:
                for batch in file.iter_batches(BATCH, columns=["id", name]):
                    chosen = batch.filter(
                        pa.array([it in wanted for it in batch["id"].to_pylist()])
                    )
                    if chosen.num_rows:
                        yield self._batch(name, chosen, columns)
        except UNREADABLE as error:
            raise Damaged(f"{self.path.name} cannot be read ({error})") from error

    def _batch(
        self, name: str, batch: pa.RecordBatch, columns: Sequence[str] | None
    ) -> tuple[list[str], pa.Table, list[int]]:
        ids = batch["id"].to_pylist()
        lengths = batch[name].value_lengths().fill_null(0).to_pylist()
        table = pa.Table.from_struct_array(batch[name].flatten())
        for run_id, found in zip(ids, table_hashes(table, lengths), strict=True):
            if found != self.record(run_id)["files"][f"{name}.parquet"]:
                raise self._changed(run_id)
        table = without_nulls(table)
        return ids, table.select(columns) if columns else table, lengths
