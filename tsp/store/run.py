"""`Run`: one run of a store, whose tables and prompts are read when they are used."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tsp.errors import Damaged, InputError
from tsp.paths import data_dir
from tsp.store.archive import open_archive
from tsp.store.content import RunData, without_nulls
from tsp.store.folder import read_prompts, read_record, read_table
from tsp.store.schema import PROMPTS, TABLES
from tsp.training.spec import RunSpec

if TYPE_CHECKING:  # reading a store takes no model, and for its tables no tensors
    import pandas as pd
    import torch


@dataclass(frozen=True)
class Run:
    """A stored run. Its record is read, its tables and prompts are read when they are used.

    Attributes
    ----------
    id
        Sixteen hexadecimal digits.
    folder
        Its folder, or the archive that holds it.
    record
        Its ``run.json``.
    """

    id: str
    folder: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, run_id: str, place: Path) -> "Run":
        """Read the record of a run in a folder or an archive; raise `Damaged` if it was changed."""
        if place.suffix == ".parquet":
            return cls(run_id, place, open_archive(place).record(run_id))
        return cls(run_id, place, read_record(place))

    @cached_property
    def spec(self) -> RunSpec:
        """What was trained."""
        return RunSpec.from_dict(self.record["spec"])

    @property
    def archived(self) -> bool:
        """Whether it is in an archive."""
        return self.folder.suffix == ".parquet"

    @property
    def published(self) -> bool:
        """Whether it is one of the runs that come with the book."""
        public = data_dir("runs")
        return public.is_dir() and self.folder.parent.samefile(public)

    @property
    def precision(self) -> str:
        """Precision of the training passes, ``float32`` or ``bfloat16``."""
        return self.record["plan"].get("precision", "float32")

    @property
    def epochs(self) -> "pd.DataFrame":
        """One row per epoch with ``epoch step lr ce total``, TSLoss's terms and gradient norms."""
        return self.table("epochs").to_pandas()

    @property
    def checks(self) -> "pd.DataFrame":
        """One row per check and problem with the decoded answer and whether it is correct."""
        return self.table("checks").to_pandas()

    @property
    def topology(self) -> "pd.DataFrame":
        """One row per check with the summaries of `tsp.topology.diagrams.summarize`."""
        return self.table("topology").to_pandas()

    @property
    def diagrams(self) -> "pd.DataFrame":
        """One row per bar with ``epoch dimension birth death``; the essential class dies at inf."""
        return self.table("diagrams").to_pandas()

    @property
    def prompt_epochs(self) -> list[int]:
        """Epochs whose prompt is stored; none where prompts were left out."""
        return sorted(self.prompts)

    def prompt(self, epoch: int) -> "torch.Tensor":
        """Return the prompt after ``epoch`` epochs, shape (n, d); float16 as float32."""
        import torch

        if epoch not in self.prompts:
            kept = f"keeps {self.prompt_epochs}" if self.prompt_epochs else "keeps no prompts"
            raise InputError("epoch", epoch, f"run {self.id} {kept}")
        prompt = torch.from_numpy(self.prompts[epoch].copy())
        return prompt.float() if prompt.dtype.itemsize == 2 else prompt

    @cached_property
    def data(self) -> RunData:
        """The whole run, verified; raises `Damaged` if a file is missing or was changed."""
        if self.archived:
            return open_archive(self.folder).read(self.id)
        names = [name for name in TABLES if f"{name}.parquet" in self.record["files"]]
        return RunData(self.record, {name: self.table(name) for name in names}, self.prompts)

    @cached_property
    def analysed(self) -> RunData:
        """The whole run with topology, which is computed if it was stored without giotto-tda."""
        if "topology" in self.data.tables:
            return self.data
        from tsp.topology.diagrams import analyse

        prompts = {epoch: self.prompt(epoch) for epoch in self.prompt_epochs}
        if not prompts:
            raise Damaged(f"run {self.id} was stored without topology and without prompts")
        shown = [epoch for epoch in prompts if self.spec.records_at(epoch, last=max(prompts))]
        topology, diagrams = map(plain_table, analyse([prompts], show=[shown])[0])
        tables = {**self.data.tables, "topology": topology, "diagrams": diagrams}
        return RunData(self.record, tables, self.data.prompts)

    def table(self, name: str) -> pa.Table:
        """Return one of the tables of `tsp.store.schema.TABLES`."""
        if f"{name}.parquet" not in self.record["files"]:
            return self.analysed.tables[name]
        if self.archived:
            return self.data.tables[name]
        return read_table(self.folder, self.record, name)

    @cached_property
    def prompts(self) -> Mapping[int, np.ndarray]:
        """The stored prompts, (n, d) by epoch, in the type they are stored in."""
        if "data" in vars(self):  # all of it has been read
            return self.data.prompts
        if PROMPTS in self.record["files"] and self.archived:
            return open_archive(self.folder).prompts(self.id)
        return read_prompts(self.folder, self.record)


def plain_table(frame: "pd.DataFrame") -> pa.Table:
    """Return a data frame as a table without index and metadata."""
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()


def read_tables(runs: Sequence[Run], name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return one table of several runs, or some of its columns, with the run's ``id`` in front.

    Rows come in the order of the runs, at least one; columns that only some runs have are null in
    the others. Raises `Damaged` if the table of a run is not what was written.
    """
    place = {run.id: number for number, run in enumerate(runs)}
    archived: dict[Path, list[str]] = defaultdict(list)
    parts: list[tuple[list[str], pa.Table, list[int]]] = []
    for run in runs:
        if run.archived and f"{name}.parquet" in run.record["files"]:
            archived[run.folder].append(run.id)
        else:
            table = run.table(name)
            table = table.select(columns) if columns else table
            parts.append(([run.id], table.replace_schema_metadata(), [len(table)]))
    for path, ids in archived.items():
        parts += open_archive(path).tables(name, ids, columns)
    numbers = np.concatenate(
        [np.repeat([place[run_id] for run_id in ids], lengths) for ids, _, lengths in parts]
    )
    tables = [table for _, table, _ in parts]
    table = without_nulls(pa.concat_tables(tables, promote_options="permissive"))
    if (np.diff(numbers) < 0).any():
        order = np.argsort(numbers, kind="stable")
        table, numbers = table.take(order), numbers[order]
    ids = pa.DictionaryArray.from_arrays(numbers.astype("i4"), list(place))
    return table.add_column(0, "id", ids)
