"""Runs in one Parquet file: to publish them, to bring them elsewhere, to read them fast.

One row per run, readable without this package:

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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tsp.atomic import replacing
from tsp.errors import Damaged, InputError
from tsp.paths import writable_name
from tsp.store import content
from tsp.store.content import RunData, reading
from tsp.store.record import CHANGED, parse_record
from tsp.store.schema import PROMPTS, RUN_ID, TABLES

Item = TypeVar("Item")
Result = TypeVar("Result")
GROUP = 50  # runs of a row group, which is read to read one of them
GROUPS = 10  # row groups read at once when all runs are; the next are read meanwhile
NAMES = ("id", "record", *TABLES, "prompts")


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
        # Only now are the columns of all methods known.
        schemas = [pq.read_schema(part) for part in parts]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        with pq.ParquetWriter(work, schema, compression="zstd", compression_level=9) as file:
            for part in parts:
                rows = [schema.empty_table(), pq.ParquetFile(part).read()]
                file.write_table(pa.concat_tables(rows, promote_options="permissive"))
    return count


def ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield a function's result for each item, that of the next being computed meanwhile."""
    with ThreadPoolExecutor(1) as worker:
        results: deque[Future[Result]] = deque()
        for item in items:
            results.append(worker.submit(function, item))
            if len(results) > 1:
                yield results.popleft().result()
        if results:
            yield results.pop().result()


def _rows(runs: Sequence[RunData]) -> pa.Table:
    records = [json.dumps(run.record, ensure_ascii=False) for run in runs]
    tables = [_nested([run.tables.get(name) for run in runs]) for name in TABLES]
    prompts = pa.array([content.prompt_rows(run.prompts) for run in runs], content.PROMPT_ROWS)
    ids = pa.array([run.record["id"] for run in runs])
    return pa.table([ids, pa.array(records), *tables, prompts], names=NAMES)


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
    """Open a file of runs; a file that has not changed is opened once."""
    with reading(path.name):
        state = path.stat()
        return _opened(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=32)
def _opened(path: Path, modified: int, size: int) -> "Archive":
    return Archive(path)


class Archive:
    """A file of runs. Records, tables and prompts are read, and verified, when they are used."""

    def __init__(self, path: Path) -> None:
        self.name, self._path, self._file = path.name, path, pq.ParquetFile(path)
        if set(self._file.schema_arrow.names) != set(NAMES):
            raise ValueError("its columns are not those of an archive of runs")
        self._texts: dict[str, str] = {}  # the record of each run
        self._row_groups: dict[str, int] = {}  # the row group of each run
        for row_group in range(self._file.num_row_groups):
            rows = self._file.read_row_group(row_group, columns=["id", "record"]).to_pydict()
            self._texts |= zip(rows["id"], rows["record"], strict=True)
            self._row_groups |= dict.fromkeys(rows["id"], row_group)
        self.ids = list(self._row_groups)
        if not all(RUN_ID.fullmatch(run_id) for run_id in self.ids):
            raise ValueError("it names a run that has no valid id")
        self._last: dict[bool, tuple[int, pa.Table]] = {}  # row groups last read: prompts, whole
        self._records: dict[str, dict[str, Any]] = {}
        self._problems: dict[str, str] = {}

    def _reading(self, run_id: str) -> Any:
        return reading(f"{self.name}: run {run_id}")

    def record(self, run_id: str) -> dict[str, Any]:
        """Return the record of a run, its checksum verified."""
        if run_id not in self._records:
            with self._reading(run_id):
                self._records[run_id] = parse_record(self._texts[run_id], run_id)
        return self._records[run_id]

    def read(self, run_id: str) -> RunData:
        """Return a run, all of its content verified; raise `Damaged` if it was changed."""
        record = self.record(run_id)
        with self._reading(run_id):
            row = self._row(run_id)
            tables = {
                name: content.without_nulls(pa.Table.from_struct_array(row[name].flatten()))
                for name in TABLES
                if row[name].null_count == 0
            }
            prompts = content.prompts_from(row["prompts"].to_pylist()[0] or ())
            data = RunData(record, tables, prompts)
            if data.sealed().record != record:  # sealed has the hashes of what was read
                raise ValueError(CHANGED)
            data.check()
        return data

    def prompts(self, run_id: str) -> Mapping[int, np.ndarray]:
        """Return the prompts of a run, (n, d) by epoch; raise `Damaged` if they were changed."""
        record = self.record(run_id)
        with self._reading(run_id):
            rows = self._row(run_id, whole=False)["prompts"].to_pylist()[0]
            data = RunData(record, {}, content.prompts_from(rows or ()))
            if content.prompts_hash(data.prompts) != record["files"][PROMPTS]:
                raise ValueError(CHANGED)
            data.check()
        return data.prompts

    def _row(self, run_id: str, *, whole: bool = True) -> pa.RecordBatch:
        """Return the row of a run, or only its prompts."""
        number = self._row_groups[run_id]
        if whole not in self._last or self._last[whole][0] != number:
            columns = None if whole else ["id", "prompts"]
            self._last[whole] = (number, self._file.read_row_group(number, columns=columns))
        (row,) = self._last[whole][1].filter(pc.field("id") == run_id).to_batches()
        return row

    def problem(self, run_id: str) -> str:
        """Return what is wrong with a run, or an empty text; its content is verified once."""
        if run_id not in self._problems:
            try:
                self.read(run_id)
                self._problems[run_id] = ""
            except Damaged as error:
                self._problems[run_id] = str(error)
        return self._problems[run_id]

    def tables(
        self, name: str, ids: Sequence[str], columns: Sequence[str] | None = None
    ) -> Iterator[tuple[list[str], pa.Table, list[int]]]:
        """Yield some of the runs, their rows of one table, and how many rows each has.

        The runs must have the table, whose content is verified.
        """
        row_groups = sorted({self._row_groups[run_id] for run_id in ids})
        wanted = pc.field("id").isin(pa.array(ids))
        parts = [row_groups[start : start + GROUPS] for start in range(0, len(row_groups), GROUPS)]
        # A file of its own, since it is read by another thread.
        file = pq.ParquetFile(self._path, metadata=self._file.metadata)
        read = partial(file.read_row_groups, columns=["id", name])
        with reading(self.name):
            for rows in ahead(read, parts):
                rows = rows if len(ids) == len(self.ids) else rows.filter(wanted)
                lists = rows[name].combine_chunks()
                lengths = lists.value_lengths().fill_null(0).to_pylist()
                table = pa.Table.from_struct_array(lists.flatten())
                present = rows["id"].to_pylist()
                hashes = content.table_hashes(table, lengths)
                for run_id, digest in zip(present, hashes, strict=True):
                    with self._reading(run_id):
                        if digest != self.record(run_id)["files"][f"{name}.parquet"]:
                            raise ValueError(CHANGED)
                table = content.without_nulls(table)
                yield present, table.select(columns) if columns else table, lengths
