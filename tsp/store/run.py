"""A stored run: its record, and its tables and prompts, which are read when they are used."""

from collections import defaultdict
from collections.abc import Sequence
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
from tsp.store.folder import read_folder, read_folder_table, read_prompts
from tsp.store.schema import PROMPTS
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
        """Precision of the training passes: ``float32`` or ``bfloat16``."""
        return self.record["plan"].get("precision", "float32")

    @property
    def epochs(self) -> "pd.DataFrame":
        """One row an epoch: ``epoch step lr ce total``, TSLoss's terms, gradient norms."""
        return self.table("epochs").to_pandas()

    @property
    def checks(self) -> "pd.DataFrame":
        """One row a check and problem: decoded answer and whether it is correct."""
        return self.table("checks").to_pandas()

    @property
    def topology(self) -> "pd.DataFrame":
        """One row a check: the summaries of `tsp.topology.diagrams.summarize`."""
        return self.table("topology").to_pandas()

    @property
    def diagrams(self) -> "pd.DataFrame":
        """One row a bar: ``epoch dimension birth death``; the essential class dies at inf."""
        return self.table("diagrams").to_pandas()

    @property
    def lacks_topology(self) -> bool:
        """Whether it was stored without giotto-tda, and so with the prompt of every check."""
        return "topology.parquet" not in self.record["files"]

    @property
    def prompt_epochs(self) -> list[int]:
        """Epochs whose prompt is stored; none where prompts were left out."""
        return sorted(self._prompts) if PROMPTS in self.record["files"] else []

    def prompt(self, epoch: int) -> "torch.Tensor":
        """Return the prompt after ``epoch`` epochs, shape (n, d); float16 as float32."""
        import torch

        if epoch not in self.prompt_epochs:
            kept = f"keeps {self.prompt_epochs}" if self.prompt_epochs else "keeps no prompts"
            raise InputError("epoch", epoch, f"run {self.id} {kept}")
        prompt = torch.from_numpy(self._prompts[epoch].copy())
        return prompt.float() if prompt.dtype.itemsize == 2 else prompt

    @cached_property
    def data(self) -> RunData:
        """All of it, checked.

        Raises
        ------
        Damaged
            If a file is missing or not what was written.
        """
        if self.archived:
            return open_archive(self.folder).read(self.id)
        return read_folder(self.folder, self.record)

    def analysed(self) -> RunData:
        """Return all of it with topology, which is computed if it was stored without."""
        names = ("topology", "diagrams")
        tables = {name: self.table(name) for name in names} if self.lacks_topology else {}
        return RunData(self.record, {**self.data.tables, **tables}, self.data.prompts)

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one of its `tsp.store.schema.COLUMNS`' tables, or some of its columns."""
        if self.lacks_topology and name in ("topology", "diagrams"):
            frame = self._analysis[("topology", "diagrams").index(name)]
            table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        elif self.archived:
            table = self.data.tables[name]
        else:
            return read_folder_table(self.folder, self.record, name, columns)
        return table.select(columns) if columns else table

    @property
    def _analysis(self) -> "tuple[pd.DataFrame, pd.DataFrame]":
        from tsp.topology.diagrams import analyse

        prompts = {epoch: self.prompt(epoch) for epoch in self.prompt_epochs}
        if not prompts:
            raise Damaged(f"run {self.id} was stored without topology and without prompts")
        every, last = self.spec.snapshot_every, max(prompts)
        return analyse([prompts], show=[[it for it in prompts if it % every == 0 or it == last]])[0]

    @cached_property
    def _prompts(self) -> dict[int, np.ndarray]:
        if self.archived or "data" in vars(self):
            return dict(self.data.prompts)
        return read_prompts(self.folder, self.record)


def read_tables(runs: Sequence[Run], name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return one table of several runs, one under the other, with the run's ``id`` in front.

    Parameters
    ----------
    runs
        At least one; rows come in their order.
    name
        One of `tsp.store.schema.COLUMNS`.
    columns
        Those to return; None: all that a run has.

    Raises
    ------
    Damaged
        If the table of a run is not what was written.
    """
    parts: list[tuple[list[str], pa.Table, list[int]]] = []
    archived: dict[Path, list[str]] = defaultdict(list)
    for run in runs:
        if run.archived and f"{name}.parquet" in run.record["files"]:
            archived[run.folder].append(run.id)
        else:
            table = run.table(name, columns)
            parts.append(([run.id], table, [len(table)]))
    for path, ids in archived.items():
        parts += open_archive(path).tables(name, ids, columns)
    place = {run.id: number for number, run in enumerate(runs)}
    numbers = np.concatenate(
        [np.repeat([place[it] for it in ids], lengths) for ids, _, lengths in parts]
    )
    tables = [table.replace_schema_metadata() for _, table, _ in parts]
    table = without_nulls(pa.concat_tables(tables, promote_options="permissive"))
    order = np.argsort(numbers, kind="stable")
    if len(order) and (np.diff(numbers) < 0).any():
        table = table.take(order)
    ids = pa.DictionaryArray.from_arrays(numbers[order].astype("i4"), [run.id for run in runs])
    return table.add_column(0, "id", ids)
