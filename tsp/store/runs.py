"""The run store: one folder a run, written whole or not at all, verified when read.

A run's folder is readable without this package: ``run.json``, Parquet tables and safetensors,
never pickle. Many runs may also lie in one Parquet file of the store (`tsp.store.archive`).

==========================  ==================================================================
``run.json``                spec, problems, versions, device, commit, time, checksums
``epochs.parquet``          one row an epoch: losses, TSLoss's terms, gradient norms
``checks.parquet``          one row a check and problem: decoded answer, correctness
``topology.parquet``        one row a check: summaries of the persistence diagrams
``diagrams.parquet``        one row a bar, every ``snapshot_every`` epochs
``prompts.safetensors``     the prompt, (n, d), every ``snapshot_every`` epochs and at the end
==========================  ==================================================================
"""

import errno
import json
import os
import platform
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tsp.atomic import checksum, new_folder, sha256_of
from tsp.errors import Damaged, InputError, one_line
from tsp.paths import ROOT, data_dir, writable_name
from tsp.provenance import commit, versions
from tsp.store import archive as packs
from tsp.store import cache as remembered
from tsp.store.archive import (
    UNREADABLE,
    DamagedPack,
    Parts,
    holds,
    pack_ids,
    read_packed,
)
from tsp.store.locks import claimed, tidy
from tsp.store.schema import (
    PROMPTS,
    TABLES,
    check_columns,
    check_prompts,
    check_record,
    check_whole,
    read_table,
)
from tsp.training.spec import RunSpec

if TYPE_CHECKING:  # a store that is read needs no model, and for its tables no tensor
    import pandas as pd
    import torch

    from tsp.training.members import RunResult
    from tsp.training.trainer import Plan

FORMAT = 1
A_BATCH = 500  # runs: a small table takes far more memory than its rows in a large one
RUN_ID = re.compile(r"[0-9a-f]{16}")


class DamagedRun(Damaged):
    """A run whose files are missing or are not what was written."""


ANSWERS = Path("heldout") / "answers.parquet"
"""Held-out answers, in a store's folder (`tsp.analysis.records.load_answers`)."""


@dataclass(frozen=True)
class Run:
    """A stored run; its tables are read when they are asked for.

    ``parts`` are those of a run that was read from a pack, ``key`` names it as its files were when
    they were verified (`tsp.store.cache.key`).
    """

    id: str
    folder: Path  # or the pack it is in
    record: dict[str, Any]
    parts: Parts | None = field(default=None, repr=False)
    key: str = ""

    @cached_property
    def spec(self) -> RunSpec:
        """What was trained."""
        return RunSpec.from_dict(self.record["spec"])

    @property
    def published(self) -> bool:
        """Whether it is one of the runs that come with the book."""
        return self.folder.parent.resolve() == data_dir("runs").resolve()

    @property
    def precision(self) -> str:
        """Of the training passes: ``float32`` or ``bfloat16``."""
        return self.record["plan"].get("precision", "float32")

    @property
    def epochs(self) -> "pd.DataFrame":
        """One row an epoch: ``epoch step lr ce total``, TSLoss's terms, gradient norms."""
        return self.rows("epochs").to_pandas()

    @property
    def checks(self) -> "pd.DataFrame":
        """One row a check and problem: decoded answer and whether it is correct."""
        return self.rows("checks").to_pandas()

    @property
    def topology(self) -> "pd.DataFrame":
        """One row a check: the summaries of `tsp.topology.diagrams.summarize`."""
        return self.rows("topology").to_pandas()

    @property
    def diagrams(self) -> "pd.DataFrame":
        """One row a bar: ``epoch dimension birth death``; the essential class dies at inf."""
        return self.rows("diagrams").to_pandas()

    @property
    def unanalysed(self) -> bool:
        """Whether it was stored without giotto-tda, and so with the prompt of every check."""
        return "topology.parquet" not in self.record["files"]

    @property
    def prompt_epochs(self) -> list[int]:
        """Epochs whose prompt is stored; none where prompts were left out."""
        if PROMPTS not in self.record["files"]:
            return []
        return sorted(int(name.removeprefix("epoch_")) for name in self._prompts())

    def prompt(self, epoch: int) -> "torch.Tensor":
        """Return the prompt after ``epoch`` epochs, shape (n, d); float16 as float32."""
        if epoch not in self.prompt_epochs:
            kept = f"keeps {self.prompt_epochs}" if self.prompt_epochs else "keeps no prompts"
            raise InputError("epoch", epoch, f"run {self.id} {kept}")
        found = self._prompts()[f"epoch_{epoch:04d}"]
        return found.float() if found.dtype.itemsize == 2 else found

    def apart(self, *, analysed: bool = False) -> Parts:
        """All of it, as a pack takes it; ``analysed``: with topology, computed if it is missing."""
        if found := self._packed():
            return found
        names = [name for name in TABLES if analysed or f"{name}.parquet" in self.record["files"]]
        tables = {name: self.rows(name) for name in names}
        prompts = {epoch: self.prompt(epoch) for epoch in self.prompt_epochs}
        return Parts(self.record, tables, prompts)

    def rows(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One of its `tsp.store.archive.TABLES`, or some of its columns, as Arrow has it."""
        parts = self._packed()
        if parts and name in parts.tables:
            table = parts.tables[name]
            return table.select(columns) if columns else table
        if self.unanalysed and name in ("topology", "diagrams"):
            frame = self._analysed(("topology", "diagrams").index(name))
            return pa.Table.from_pandas(frame, preserve_index=False)
        try:
            return check_whole(name, read_table(self._file(f"{name}.parquet"), columns))
        except UNREADABLE as error:
            raise DamagedRun(f"run {self.id}: {name}.parquet cannot be read ({error})") from error

    def _packed(self) -> Parts | None:
        if self.parts or self.folder.suffix != ".parquet":
            return self.parts
        try:
            return read_packed(self.folder, self.id)
        except DamagedPack as error:
            raise DamagedRun(str(error)) from error

    def _analysed(self, part: int) -> "pd.DataFrame":
        from tsp.topology.diagrams import analyse

        prompts = {epoch: self.prompt(epoch) for epoch in self.prompt_epochs}
        if not prompts:
            raise DamagedRun(f"run {self.id} was stored without topology and without prompts")
        every, last = self.spec.snapshot_every, max(prompts)
        show = [epoch for epoch in prompts if epoch % every == 0 or epoch == last]
        return analyse([prompts], show=[show])[0][part]

    def _prompts(self) -> dict[str, "torch.Tensor"]:
        if parts := self._packed():
            return {f"epoch_{epoch:04d}": it for epoch, it in parts.prompts.items()}
        from safetensors.torch import load_file

        return load_file(self._file(PROMPTS))

    def _file(self, name: str) -> Path:
        if name not in self.record["files"]:
            raise DamagedRun(f"run {self.id} was stored without {name}")
        return self.folder / name


class Store:
    """The runs in a folder: ``$TSP_RUNS``, else ``runs``, unless another is named.

    A folder holds a run as a folder of its own or in a pack, ``*.parquet``. To a checkout's own
    ``runs`` belong the published runs in ``data/runs``, which are only read.

    Parameters
    ----------
    root
        The folder; it is made when the first run is written.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        named = Path(root or os.environ.get("TSP_RUNS") or "runs")
        self.root = writable_name("runs", named)
        if self.root.exists() and not self.root.is_dir():
            raise InputError("runs", str(self.root), "is a file; name a folder")
        self._verified: dict[str, Run] | None = None  # by key
        self._still: tuple[list[Run], dict[str, str]] | None = None

    def files(self) -> list[Path]:
        """Records of runs, packs, held-out answers: one of them changes when the store does."""
        answers = [file for it in self.folders() if (file := it / ANSWERS).is_file()]
        return [*sorted(self.root.glob("[0-9a-f]*/run.json")), *self._pack_files(), *answers]

    def folders(self) -> list[Path]:
        """Where its runs are: its own folder, and that of the published runs if they belong."""
        own = self.root.resolve() == (ROOT / "runs").resolve()
        return [self.root, data_dir("runs")] if own else [self.root]

    def _pack_files(self) -> list[Path]:
        found = [pack for folder in self.folders() for pack in sorted(folder.glob("*.parquet"))]
        return [pack for pack in found if pack.is_file()]  # a pipe would be waited for

    def ids(self) -> list[str]:
        """Ids of the runs, sound or damaged; what is still being written does not show."""
        return list(self._places())

    def _places(self) -> dict[str, Path]:
        """The folder of each run, or the pack that it is in, by id in order."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        found = self._packed() | {it.name: it for it in folders if RUN_ID.fullmatch(it.name)}
        return dict(sorted(found.items()))

    def __contains__(self, run_id: str) -> bool:
        place = self._place(run_id)
        if place is None or place.suffix != ".parquet":
            return place is not None
        try:  # a run in a pack is not set aside when it is damaged: a folder takes its place
            return bool(read_packed(place, run_id))
        except DamagedPack:
            return False

    def _place(self, run_id: str) -> Path | None:
        folder = self.root / run_id
        if not RUN_ID.fullmatch(run_id) or folder.is_dir():
            return folder if RUN_ID.fullmatch(run_id) else None
        return next((pack for pack in self._pack_files() if holds(pack, run_id)), None)

    def _packed(self) -> dict[str, Path]:
        """The pack that each run without a folder of its own is in."""
        return self._packs()[0]

    def damaged_packs(self) -> dict[str, str]:
        """Packs that cannot be read or hold what is no run, and why."""
        return self._packs()[1]

    def _packs(self) -> tuple[dict[str, Path], dict[str, str]]:
        """The first pack that each run is in, and what is wrong with some packs."""
        found: dict[str, Path] = {}
        damaged: dict[str, str] = {}
        for pack in self._pack_files():
            try:
                ids = pack_ids(pack)
            except DamagedPack as error:
                damaged[pack.name] = str(error)
                continue
            found = {it: pack for it in ids if RUN_ID.fullmatch(it)} | found
            for odd in (it for it in ids if not RUN_ID.fullmatch(it)):
                damaged[pack.name] = one_line(f"{pack.name}: {odd!r:.50} is no id of a run")
        return found, damaged

    def read(self, run_id: str) -> Run:
        """Read one run, every file checked against its checksum.

        Raises
        ------
        InputError
            If there is no such run.
        DamagedRun
            If a file is missing, was changed or cannot be read.
        """
        place = self._place(run_id)
        if place is None:
            raise InputError("run", run_id, f"not in {self.root}; `tsp runs list` shows what is")
        return _read(run_id, place)

    def verify(self, run_id: str) -> str | None:
        """Say what is wrong with a run, or None."""
        try:
            self.read(run_id)
        except DamagedRun as error:
            self._forget()
            return str(error)
        return None

    def _own(self, run_id: str) -> Path:
        """Folder of a run, here or to be; never one outside of the store."""
        if not RUN_ID.fullmatch(run_id):
            raise InputError("run", run_id, "an id has sixteen hexadecimal digits")
        return self.root / run_id

    def set_aside(self, run_id: str) -> Path:
        """Rename a damaged run's folder, so that it can be looked at and trained anew.

        One in a pack stays: a folder of the same name comes before it.
        """
        if not self._own(run_id).is_dir():
            return self._packed()[run_id]
        number = 1
        while (aside := self.root / f"damaged-{run_id}-{number}").exists():
            number += 1
        (self.root / run_id).rename(aside)
        return aside

    def still(self) -> "Store":
        """The same store as it is now: `sound` looks once, however often it is asked."""
        found = Store(self.root)
        found._still = self.sound()
        return found

    def sound(self) -> tuple[list[Run], dict[str, str]]:
        """Read all runs: those that verify, and for each of the others what is wrong with it.

        A run that was verified before is not verified again while no file of it has changed in
        size, in its times or in its place on the disk (`tsp.store.cache`). What changes in a file
        without a trace of that, a disk that forgets, `verify` finds: it reads every byte.
        """
        if self._still:
            return self._still
        known = self._known()
        runs, damaged = self._read_all(known)
        self._keep(runs, known)
        return runs, damaged

    def check(self) -> dict[str, str | None]:
        """Read every byte, and say what is wrong with each run and pack, or None."""
        runs, damaged = self._read_all({})
        if damaged:
            self._forget()
        self._keep(runs, self._known())
        return dict.fromkeys((run.id for run in runs), None) | damaged

    def _read_all(self, known: Mapping[str, Run]) -> tuple[list[Run], dict[str, str]]:
        """Read the runs that are not known by their key, and say what is wrong with the others."""
        damaged, places = self.damaged_packs(), self._places()
        found: dict[str, Run] = {}
        packed: dict[Path, dict[str, str]] = defaultdict(dict)
        for run_id, place in places.items():
            try:
                key = remembered.key(run_id, place)
                if key in known:
                    found[run_id] = replace(known[key], folder=place, key=key)
                elif place.suffix == ".parquet":
                    packed[place][run_id] = key
                else:
                    found[run_id] = replace(_read(run_id, place), key=key)
            except DamagedRun as error:
                damaged[run_id] = str(error)
            except OSError as error:
                if os.path.lexists(place):  # else it was removed since the folder was listed
                    damaged[run_id] = f"run {run_id} cannot be read ({error.strerror or error})"
        for pack, keys in packed.items():  # one after the other: memory need not hold all
            for run_id, record in packs.each_of(pack, list(keys)):
                if isinstance(record, DamagedPack):
                    damaged[run_id] = str(record)
                else:
                    found[run_id] = Run(run_id, pack, record, key=keys[run_id])
        return [found[run_id] for run_id in places if run_id in found], damaged

    def _keep(self, runs: Sequence[Run], known: Mapping[str, Run]) -> None:
        """Remember the runs that were verified in place of those that were known."""
        self._verified = {run.key: run for run in runs if run.key != run.id}
        changed = len(self._verified.keys() ^ known.keys())
        if changed and remembered.worth(changed, len(runs)):
            records = [json.dumps(run.record) for run in self._verified.values()]
            keys = pa.array(list(self._verified), pa.string()).dictionary_encode()
            remembered.keep(self.root, "records", pa.table({"key": keys, "record": records}))

    def _forget(self) -> None:
        """Trust no run that was verified: its files may look as they did when they were sound."""
        remembered.forget(self.root)
        self._verified = None

    def _known(self) -> dict[str, Run]:
        """Runs that were verified before, by key."""
        if self._verified is None:
            table = remembered.recall(self.root, "records")
            told = [] if table is None else table.to_pylist()
            self._verified = {
                it["key"]: Run(it["key"][:16], self.root, json.loads(it["record"])) for it in told
            }
        return self._verified

    def frame(self) -> "pd.DataFrame":
        """One row a sound run: the spec's fields, then how it ended."""
        import pandas as pd

        rows = [summary(run.record) for run in self.sound()[0]]
        return pd.DataFrame(rows, columns=list(summary_columns()))

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
        result
            What the trainer gave.
        run_id
            `RunSpec.id` of its content.
        plan, device, note, revision
            How and where it was computed, what to know of the model's weights, and their commit.
        together
            Ids of its bank's runs, in their order: with the same plan they give the same run.
        topology, diagrams
            From `tsp.topology.diagrams`; without them every check's prompt is kept, so that they
            can be computed elsewhere.
        """
        target = self._own(run_id)
        if target.is_dir():
            return target
        keep = result.prompts if topology is None else kept_prompts(result)
        with _unless_there(target), new_folder(target) as folder:
            _write_table(folder / "epochs.parquet", pa.Table.from_pylist(result.epochs))
            _write_table(folder / "checks.parquet", pa.Table.from_pylist(result.checks))
            for name, frame in (("topology", topology), ("diagrams", diagrams)):
                if frame is not None:
                    table = pa.Table.from_pandas(frame, preserve_index=False)
                    _write_table(folder / f"{name}.parquet", table.replace_schema_metadata())
            _save_prompts(folder, keep)
            record = _record(result, run_id) | {"device": device, "model_note": note}
            record |= {"model_revision": revision}
            record |= {"plan": vars(plan) | {"bank": result.bank}, "together": list(together)}
            _write_record(folder, record)
        return target

    def unpack(self, pack: Path) -> tuple[list[str], list[str], dict[str, str]]:
        """Give each run of a pack a folder here; one that is here already stays as it is.

        Returns
        -------
        added, present, damaged
            Ids of the runs that are new and of those that were here; and, by id, what is wrong
            with those that do not verify or that another process is at.

        Raises
        ------
        DamagedPack
            If the file is no pack.
        """
        added, present, damaged = [], [], {}
        for run_id in pack_ids(pack):
            if not RUN_ID.fullmatch(run_id):
                told = one_line(f"{pack.name}: {run_id!r:.50} is no id of a run")
                damaged[one_line(run_id, 50)] = told
            else:
                with claimed(self.root, [run_id], clear=False) as mine:
                    if run_id in self:
                        present.append(run_id)
                        continue
                    if not mine:
                        damaged[run_id] = f"run {run_id}: another process is at it; try again"
                        continue
                    try:
                        self._add(read_packed(pack, run_id))
                        added.append(run_id)
                    except DamagedPack as error:
                        damaged[run_id] = str(error)
        tidy(self.root, [*added, *present])  # what an unpacking that was killed had begun
        return added, present, damaged

    def _add(self, parts: Parts) -> None:
        """Give a run that is taken apart a folder here."""
        with new_folder(self._own(parts.record["id"])) as folder:
            for name, table in parts.tables.items():
                _write_table(folder / f"{name}.parquet", table)
            if parts.prompts:
                _save_prompts(folder, parts.prompts)
            sealed = ("files", "checksum")
            _write_record(folder, {k: v for k, v in parts.record.items() if k not in sealed})


@contextmanager
def _unless_there(target: Path) -> Iterator[None]:
    """Leave a run as it is that another process has stored meanwhile."""
    try:
        yield
    except FileExistsError:
        if not target.is_dir():
            raise


def one_under_the_other(
    runs: Sequence[Run], places: Sequence[int], *, name: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[Sequence[int], pa.Table, Sequence[int]]]:
    """Read one of the tables of the runs in some places, in portions that fit into memory.

    Yields
    ------
    places, table, lengths
        Of some of the runs, their rows run after run, and how many each has.

    Raises
    ------
    DamagedRun
        If one cannot be read.
    """
    alone: list[int] = []
    packed: dict[Path, list[int]] = defaultdict(list)
    for place in places:
        run = runs[place]
        there = f"{name}.parquet" in run.record["files"]
        (packed[run.folder] if there and run.folder.suffix == ".parquet" else alone).append(place)
    for pack, inside in packed.items():
        ids = [runs[place].id for place in inside]
        try:
            yield inside, *packs.one_under_the_other(pack, ids, name=name, columns=columns)
        except DamagedPack as error:
            raise DamagedRun(str(error)) from error
    for start in range(0, len(alone), A_BATCH):
        batch = alone[start : start + A_BATCH]
        tables = [runs[place].rows(name, columns) for place in batch]
        both = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
        yield batch, both, list(map(len, tables))


def _save_prompts(folder: Path, prompts: Mapping[int, "torch.Tensor"]) -> None:
    from safetensors.torch import save_file

    named = {f"epoch_{epoch:04d}": prompt for epoch, prompt in prompts.items()}
    save_file(named, folder / PROMPTS)


def summary_columns() -> tuple[str, ...]:
    """Columns of `Store.frame`."""
    return (
        *("id", "model", "task", "regime", "problem", "method", "lambda_ts", "protocol"),
        *("placement", "n_tokens", "lr", "seed", "init", "epochs", "early_stop"),
        *("solved_epoch", "solved_steps", "solved_at_start", "source", "device", "seconds"),
    )


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """One row of `Store.frame`; ``solved_epoch`` is nan for a run that was never all correct."""
    spec, outcome = record["spec"], record["outcome"]
    nan = float("nan")
    return {name: spec[name] for name in summary_columns() if name in spec} | {
        "id": record["id"],
        "solved_epoch": nan if outcome["solved_epoch"] is None else outcome["solved_epoch"],
        "solved_steps": nan if outcome["solved_steps"] is None else outcome["solved_steps"],
        "solved_at_start": outcome["solved_at_start"],
        "source": record["problems"][0]["source"],
        "device": record["device"],
        "seconds": record["seconds"],
    }


def kept_prompts(result: "RunResult") -> dict[int, "torch.Tensor"]:
    """Prompts a stored run keeps: every ``snapshot_every`` epochs, and at its last check."""
    last = max(result.prompts)
    every = result.spec.snapshot_every
    return {e: prompt for e, prompt in result.prompts.items() if e % every == 0 or e == last}


def _record(result: "RunResult", run_id: str) -> dict[str, Any]:
    problems = zip(result.problems, result.lengths, strict=True)
    return {
        "format": FORMAT,
        "id": run_id,
        "spec": result.spec.to_dict(),
        "problems": [
            {
                "source": problem.source,
                "row": problem.row,
                "sha256": problem.sha256,
                "tokens": lengths,
                "question": problem.question,
                "target": problem.target,
            }
            for problem, lengths in problems
        ],
        "shape": list(next(iter(result.prompts.values())).shape),
        "outcome": _outcome(result),
        "versions": versions(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(result.seconds, 3),
        "omitted": [],
    }


def _outcome(result: "RunResult") -> dict[str, Any]:
    """When the run was first all correct; check 0, before any training, is told apart."""
    correct: dict[int, bool] = {}
    for row in result.checks:
        correct[row["epoch"]] = correct.get(row["epoch"], True) and row["correct"]
    solved = next((epoch for epoch, right in correct.items() if right and epoch > 0), None)
    steps = {row["epoch"]: int(row["step"]) for row in result.epochs}
    return {
        "solved_epoch": solved,
        "solved_steps": None if solved is None else steps[solved],
        "solved_at_start": correct[0],
        "epochs_trained": len(result.epochs),
        "final_correct": correct[max(correct)],
    }


def _write_table(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, compression="zstd")


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    files = sorted(path for path in folder.iterdir())
    record |= {"files": {path.name: sha256_of(path) for path in files}}
    record |= {"checksum": checksum(record)}
    (folder / "run.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _read(run_id: str, place: Path) -> Run:
    """Read a run from its folder or its pack, every file checked against its checksum."""
    if place.suffix == ".parquet":
        try:
            parts = read_packed(place, run_id)
        except DamagedPack as error:
            raise DamagedRun(str(error)) from error
        return Run(run_id, place, parts.record, parts)
    record = _read_record(place)
    for name, digest in record["files"].items():
        try:
            found = sha256_of(_own_file(place / name))
            if found == digest:
                _check_file(place / name, record)
        except OSError as error:
            raise DamagedRun(f"run {run_id}: {name}: {error.strerror or error}") from error
        except UNREADABLE as error:
            raise DamagedRun(f"run {run_id}: {name} cannot be read ({error})") from error
        if found != digest:
            raise DamagedRun(f"run {run_id}: {name} was changed after it was written")
    return Run(run_id, place, record)


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads(_own_file(folder / "run.json").read_text())
        told = record["checksum"]
        sound = told == checksum(record)
        sound = sound and record["id"] == folder.name
        if sound:
            check_record(record)
    except UNREADABLE as error:
        raise DamagedRun(f"run {folder.name}: run.json cannot be read ({error})") from error
    if not sound:
        raise DamagedRun(f"run {folder.name}: run.json was changed after it was written")
    return record


def _own_file(path: Path) -> Path:
    """Refuse a link, which may lead out of the store, and a pipe, which would be waited for."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, "is no file of its own")
    return path


def _check_file(path: Path, record: dict[str, Any]) -> None:
    """Refuse a file that has a fitting checksum and is no part of a run all the same."""
    if path.name == PROMPTS:
        check_prompts(path, record["shape"])
    else:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            check_columns(path.stem, file.schema_arrow)
