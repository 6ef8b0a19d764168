"""`Store`: all finished runs of a folder, whole or not there, verified when they are read.

A run that was just trained has a folder, which is readable without this package; any number of runs
may be packed into one Parquet file (`tsp.store.archive`), which is read faster.

==========================  ==================================================================
``run.json``                spec, problems, versions, device, commit, time, checksums
``epochs.parquet``          one row per epoch: losses, TSLoss's terms, gradient norms
``checks.parquet``          one row per check and problem that was asked: answer, correctness
``topology.parquet``        one row per check: summaries of the persistence diagrams
``diagrams.parquet``        one row per bar, every ``snapshot_every`` epochs
``prompts.safetensors``     the prompt, (n, d), every ``snapshot_every`` epochs and at the end
==========================  ==================================================================
"""

import os
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from tsp.errors import Damaged, InputError
from tsp.paths import ROOT, data_dir, writable_name
from tsp.store.archive import open_archive, write_archive
from tsp.store.content import RunData
from tsp.store.folder import write_folder
from tsp.store.locks import tidy
from tsp.store.record import SUMMARY, kept_prompts, new_record, summary
from tsp.store.run import Run, plain_table
from tsp.store.schema import RUN_ID

if TYPE_CHECKING:  # reading a store takes no model, and for its tables no tensors
    import pandas as pd

    from tsp.training.members import RunResult
    from tsp.training.trainer import Plan

__all__ = ["ANSWERS", "Run", "Store"]
ANSWERS = Path("heldout") / "answers.parquet"
"""Held-out answers, in a store's folder (`tsp.analysis.records.load_answers`)."""


class Store:
    """The runs in a folder: ``$TSP_RUNS``, else ``runs``, unless another is named.

    Below a checkout, as in a notebook opened in Jupyter, ``runs`` is that of the checkout.

    It holds a run as a folder or in an archive, ``*.parquet``; a folder comes first. To a
    checkout's own ``runs`` belong the published runs in ``data/runs``, which are only read.

    Parameters
    ----------
    root
        The folder; it is made when the first run is written.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = writable_name("runs", Path(root or os.environ.get("TSP_RUNS") or _default()))
        if self.root.exists() and not self.root.is_dir():
            raise InputError("runs", str(self.root), "is a file; name a folder")
        self._snapshot: tuple[list[Run], dict[str, str]] | None = None

    def folders(self) -> list[Path]:
        """Return the store's folder, and that of the published runs if they belong to it."""
        default = self.root.resolve() == (ROOT / "runs").resolve()
        return [self.root, data_dir("runs")] if default else [self.root]

    def files(self) -> list[Path]:
        """Return the files to watch: at least one changes whenever the store does."""
        answers = [path for folder in self.folders() if (path := folder / ANSWERS).is_file()]
        return [*sorted(self.root.glob("[0-9a-f]*/run.json")), *self._archives(), *answers]

    def _archives(self) -> list[Path]:
        return [path for folder in self.folders() for path in sorted(folder.glob("*.parquet"))]

    def _scan(self) -> tuple[dict[str, Path], dict[str, str]]:
        """Return the folder or archive of each run, by id in order, and damaged archives."""
        places: dict[str, Path] = {}
        damaged: dict[str, str] = {}
        for path in reversed(self._archives()):
            try:
                places |= dict.fromkeys(open_archive(path).ids, path)
            except Damaged as error:
                damaged[path.name] = str(error)
        if self.root.is_dir():
            places |= {path.name: path for path in self.root.iterdir()}
        return {i: places[i] for i in sorted(places) if RUN_ID.fullmatch(i)}, damaged

    def ids(self) -> list[str]:
        """Return the ids of all runs, valid or damaged, but not of those being written."""
        return list(self._scan()[0])

    def __contains__(self, run_id: str) -> bool:
        """Whether a run has a folder, or is in an archive and valid."""
        place = self._scan()[0].get(run_id)
        if place and place.suffix == ".parquet":
            return not open_archive(place).problem(run_id)
        return place is not None and place.is_dir()

    def read(self, run_id: str) -> Run:
        """Return one run, its whole content verified.

        Raises
        ------
        InputError
            If there is no such run.
        Damaged
            If a file is missing, was changed or cannot be read.
        """
        run = Run.open(run_id, self._place(run_id))
        _ = run.data
        return run

    def _place(self, run_id: str) -> Path:
        """Return the folder or archive of one run."""
        if place := self._scan()[0].get(run_id):
            return place
        raise InputError("run", run_id, f"not in {self.root}; `tsp runs list` shows what is")

    def verify(self, run_id: str) -> str | None:
        """Return what is wrong with a run, or None."""
        return _problem(run_id, self._place(run_id))

    def verify_all(self) -> dict[str, str | None]:
        """Read every byte; return what is wrong with each run and archive, or None."""
        places, damaged = self._scan()
        return {run_id: _problem(run_id, place) for run_id, place in places.items()} | damaged

    def valid_runs(self) -> tuple[list[Run], dict[str, str]]:
        """Return the runs whose record is what was written, and what is wrong with the others.

        Tables and prompts are verified when they are read; `verify_all` verifies everything.
        """
        if self._snapshot:
            return self._snapshot
        places, damaged = self._scan()
        runs = []
        for run_id, place in places.items():
            try:
                runs.append(Run.open(run_id, place))
            except Damaged as error:
                if os.path.lexists(place):  # else it was removed since the folder was listed
                    damaged[run_id] = str(error)
        return runs, damaged

    def snapshot(self) -> "Store":
        """Return the store as it is now, whose `valid_runs` are read only once."""
        store = Store(self.root)
        store._snapshot = self.valid_runs()
        return store

    def frame(self) -> "pd.DataFrame":
        """Return one row per valid run: the spec's fields, then how it ended."""
        import pandas as pd

        rows = [summary(run.record) for run in self.valid_runs()[0]]
        return pd.DataFrame(rows, columns=list(SUMMARY))

    def write(
        self,
        result: "RunResult",
        *,
        run_id: str,
        plan: "Plan",
        device: str,
        note: str = "",
        revision: str = "",
        together: Sequence[str] = (),
        topology: "pd.DataFrame | None" = None,
        diagrams: "pd.DataFrame | None" = None,
    ) -> Path:
        """Store a finished run; it appears whole or, if anything fails, not at all.

        Parameters
        ----------
        run_id
            `RunSpec.id` of its content.
        plan, device
            How and where it was computed.
        note, revision
            Note on the model's weights, and their commit.
        together
            Ids of its bank's runs, in their order: with the same plan they give the same run.
        topology, diagrams
            From `tsp.topology.diagrams`; without them every check's prompt is kept, so that they
            can be computed elsewhere.
        """
        tables = {
            "epochs": pa.Table.from_pylist(result.epochs),
            "checks": pa.Table.from_pylist(result.checks),
        }
        if topology is not None:
            tables |= {"topology": plain_table(topology), "diagrams": plain_table(diagrams)}
        prompts = result.prompts if topology is None else kept_prompts(result)
        record = new_record(
            result,
            run_id,
            device=device,
            model_note=note,
            model_revision=revision,
            plan=vars(plan) | {"bank": result.bank},
            together=list(together),
        )
        arrays = {epoch: prompt.numpy() for epoch, prompt in prompts.items()}
        folder = self.root / run_id
        write_folder(folder, RunData(record, tables, arrays))
        return folder

    def quarantine(self, run_id: str) -> Path:
        """Rename a damaged run's folder, so that the run can be examined and trained again.

        In an archive it stays: its new folder will come before it.
        """
        folder = self.root / run_id
        if not folder.is_dir():
            return self._place(run_id)
        names = (self.root / f"damaged-{run_id}-{number}" for number in count(1))
        return folder.rename(next(path for path in names if not path.exists()))

    def pack(
        self, file: Path, ids: Sequence[str], *, publish: bool = False, prompts: int = 0
    ) -> list[str]:
        """Write runs into an archive and return their ids, runs without a regularizer first.

        Parameters
        ----------
        file
            The archive; a file that holds other runs, or something else, is an `InputError`.
        ids
            The runs; a damaged one is an error.
        publish, prompts
            To publish makes the runs small (`RunData.published`) and leaves out those that another
            archive in the file's folder holds; ``prompts`` many runs keep their prompts.
        """
        try:
            before = open_archive(file).ids if file.exists() else []
        except Damaged as error:
            remedy = "holds something else than runs; name another"
            raise InputError("file", str(file), remedy) from error
        if publish and file.parent.resolve() != self.root.resolve():
            others = set(Store(file.parent).ids()).difference(before)
            ids = [run_id for run_id in ids if run_id not in others]
        if lost := set(before).difference(ids):
            remedy = f"holds {len(lost)} runs that are not among these; name another file"
            raise InputError("file", str(file), remedy)
        stored = {run.id: run for run in self.valid_runs()[0]}
        ids = sorted(ids, key=lambda i: i not in stored or stored[i].spec.method != "ce")
        # One after the other: memory need not hold all.
        runs = (stored.pop(i) if i in stored else self.read(i) for i in ids)
        if publish:
            content = (r.analysed.published(prompts=k < prompts) for k, r in enumerate(runs))
        else:
            content = (run.data for run in runs)
        write_archive(content, file)
        return ids

    def unpack(self, path: Path) -> tuple[list[str], list[str], dict[str, str]]:
        """Give each run of an archive a folder here; one that is here already stays as it is.

        Returns
        -------
        added, present, damaged
            Ids of new runs and of those that were here; what is wrong with damaged ones, by id.
        """
        archive = open_archive(path)
        added, present, damaged = [], [], {}
        for run_id in archive.ids:
            if run_id in self:
                present.append(run_id)
                continue
            try:
                write_folder(self.root / run_id, archive.read(run_id))
                added.append(run_id)
            except Damaged as error:
                damaged[run_id] = str(error)
        tidy(self.root, [*added, *present])  # what an unpacking that was killed had begun
        return added, present, damaged

    def remove_packed(self, path: Path) -> None:
        """Remove folders of runs that an archive of this store holds and that are valid there."""
        archive = open_archive(path)
        for run_id in archive.ids:
            folder = self.root / run_id
            if folder.is_dir() and not archive.problem(run_id):
                shutil.rmtree(folder.rename(self.root / f".{run_id}-packed"))  # at once, or not


def _default() -> str:
    below = (ROOT / "pyproject.toml").is_file() and Path.cwd().is_relative_to(ROOT)
    return os.path.relpath(ROOT / "runs") if below else "runs"


def _problem(run_id: str, place: Path) -> str | None:
    try:
        _ = Run.open(run_id, place).data
    except Damaged as error:
        return str(error)
    return None
