"""The run store: one folder a run, written whole or not at all, verified when read.

A run's folder is readable without this package: ``run.json``, Parquet tables and safetensors,
never pickle.

==========================  ==================================================================
``run.json``                spec, problems, versions, device, commit, time, checksums
``epochs.parquet``          one row an epoch: losses, TSLoss's terms, gradient norms
``checks.parquet``          one row a check and problem: decoded answer, correctness
``topology.parquet``        one row a check: summaries of the persistence diagrams
``diagrams.parquet``        one row a bar, every ``snapshot_every`` epochs
``prompts.safetensors``     the prompt, (n, d), every ``snapshot_every`` epochs and at the end
==========================  ==================================================================
"""

import hashlib
import json
import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from tsp.atomic import new_folder, sha256_of
from tsp.errors import InputError
from tsp.members import RunResult
from tsp.provenance import commit, versions
from tsp.spec import RunSpec
from tsp.trainer import Plan

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
RUN_ID = re.compile(r"[0-9a-f]{16}")


class DamagedRun(RuntimeError):
    """A run whose files are missing or are not what was written."""


@dataclass(frozen=True)
class Run:
    """A stored run; its tables are read when they are asked for."""

    id: str
    folder: Path
    record: dict[str, Any]

    @property
    def spec(self) -> RunSpec:
        """What was trained."""
        return RunSpec.from_dict(self.record["spec"])

    @property
    def precision(self) -> str:
        """Of the training passes: ``float32`` or ``bfloat16``."""
        return self.record["plan"].get("precision", "float32")

    @property
    def epochs(self) -> "pd.DataFrame":
        """One row an epoch: ``epoch step lr ce total``, TSLoss's terms, gradient norms."""
        return self._table("epochs")

    @property
    def checks(self) -> "pd.DataFrame":
        """One row a check and problem: decoded answer and whether it is correct."""
        return self._table("checks")

    @property
    def topology(self) -> "pd.DataFrame":
        """One row a check: the summaries of `tsp.topology.summarize`."""
        return self._analysed(0) if self.unanalysed else self._table("topology")

    @property
    def diagrams(self) -> "pd.DataFrame":
        """One row a bar: ``epoch dimension birth death``; the essential class dies at inf."""
        return self._analysed(1) if self.unanalysed else self._table("diagrams")

    @property
    def unanalysed(self) -> bool:
        """Whether it was stored without giotto-tda, and so with the prompt of every check."""
        return "topology.parquet" not in self.record["files"]

    @property
    def prompt_epochs(self) -> list[int]:
        """Epochs whose prompt is stored."""
        return sorted(int(name.removeprefix("epoch_")) for name in self._prompts())

    def prompt(self, epoch: int) -> torch.Tensor:
        """Return the prompt after ``epoch`` epochs, shape (n, d)."""
        prompts = self._prompts()
        name = f"epoch_{epoch:04d}"
        if name not in prompts:
            raise InputError("epoch", epoch, f"run {self.id} keeps {self.prompt_epochs}")
        return prompts[name]

    def _analysed(self, part: int) -> "pd.DataFrame":
        from tsp.topology import analyse

        prompts = {epoch: self.prompt(epoch) for epoch in self.prompt_epochs}
        every, last = self.spec.snapshot_every, max(prompts)
        show = [epoch for epoch in prompts if epoch % every == 0 or epoch == last]
        return analyse([prompts], show=[show])[0][part]

    def _prompts(self) -> dict[str, torch.Tensor]:
        return load_file(self._file("prompts.safetensors"))

    def _table(self, name: str) -> "pd.DataFrame":
        return pq.read_table(self._file(f"{name}.parquet")).to_pandas()

    def _file(self, name: str) -> Path:
        if name not in self.record["files"]:
            raise DamagedRun(f"run {self.id} was stored without {name}")
        return self.folder / name


class Store:
    """The runs in a folder: ``$TSP_RUNS``, else ``runs``, unless another is named.

    Parameters
    ----------
    root
        The folder; it is made when the first run is written.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or os.environ.get("TSP_RUNS") or "runs")
        if self.root.exists() and not self.root.is_dir():
            raise InputError("runs", str(self.root), "is a file; name a folder")

    def ids(self) -> list[str]:
        """Ids of the runs, sound or damaged; what is still being written does not show."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return sorted(it.name for it in folders if RUN_ID.fullmatch(it.name))

    def __contains__(self, run_id: str) -> bool:
        return bool(RUN_ID.fullmatch(run_id)) and (self.root / run_id).is_dir()

    def read(self, run_id: str) -> Run:
        """Read one run, every file checked against its checksum.

        Raises
        ------
        InputError
            If there is no such run.
        DamagedRun
            If a file is missing, was changed or cannot be read.
        """
        if run_id not in self:
            raise InputError("run", run_id, f"not in {self.root}; `tsp runs list` shows what is")
        folder = self.root / run_id
        record = _read_record(folder)
        for name, digest in record["files"].items():
            try:
                found = sha256_of(folder / name)
            except OSError as error:
                raise DamagedRun(f"run {run_id}: {name}: {error.strerror}") from error
            if found != digest:
                raise DamagedRun(f"run {run_id}: {name} was changed after it was written")
        return Run(run_id, folder, record)

    def verify(self, run_id: str) -> str | None:
        """Say what is wrong with a run, or None."""
        try:
            self.read(run_id)
        except DamagedRun as error:
            return str(error)
        return None

    def set_aside(self, run_id: str) -> Path:
        """Rename a damaged run's folder, so that it can be looked at and trained anew."""
        number = 1
        while (aside := self.root / f"damaged-{run_id}-{number}").exists():
            number += 1
        (self.root / run_id).rename(aside)
        return aside

    def sound(self) -> tuple[list[Run], dict[str, str]]:
        """Read all runs: those that verify, and for each of the others what is wrong with it."""
        runs, damaged = [], {}
        for run_id in self.ids():
            try:
                runs.append(self.read(run_id))
            except DamagedRun as error:
                damaged[run_id] = str(error)
        return runs, damaged

    def frame(self) -> "pd.DataFrame":
        """One row a sound run: the spec's fields, then how it ended."""
        import pandas as pd

        rows = [summary(run.record) for run in self.sound()[0]]
        return pd.DataFrame(rows, columns=list(summary_columns()))

    def write(
        self,
        result: RunResult,
        *,
        run_id: str,
        plan: Plan,
        device: str,
        note: str = "",
        revision: str = "",
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
        topology, diagrams
            From `tsp.topology`; without them every check's prompt is kept, so that they can be
            computed elsewhere.
        """
        target = self.root / run_id
        if run_id in self:
            return target
        keep = result.prompts if topology is None else kept_prompts(result)
        with suppress(FileExistsError), new_folder(target) as folder:  # another process was first
            _write_table(folder / "epochs.parquet", pa.Table.from_pylist(result.epochs))
            _write_table(folder / "checks.parquet", pa.Table.from_pylist(result.checks))
            for name, frame in (("topology", topology), ("diagrams", diagrams)):
                if frame is not None:
                    table = pa.Table.from_pandas(frame, preserve_index=False)
                    _write_table(folder / f"{name}.parquet", table.replace_schema_metadata())
            save_file(
                {f"epoch_{epoch:04d}": prompt for epoch, prompt in keep.items()},
                folder / "prompts.safetensors",
            )
            record = _record(result, run_id) | {"device": device, "model_note": note}
            record |= {"model_revision": revision}
            record |= {"plan": vars(plan) | {"bank": result.bank}}
            _write_record(folder, record)
        return target


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


def kept_prompts(result: RunResult) -> dict[int, torch.Tensor]:
    """Prompts a stored run keeps: every ``snapshot_every`` epochs, and at its last check."""
    last = max(result.prompts)
    every = result.spec.snapshot_every
    return {e: prompt for e, prompt in result.prompts.items() if e % every == 0 or e == last}


def _record(result: RunResult, run_id: str) -> dict[str, Any]:
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
        "outcome": _outcome(result),
        "versions": versions(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(result.seconds, 3),
        "omitted": [],
    }


def _outcome(result: RunResult) -> dict[str, Any]:
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
    record |= {"checksum": _checksum(record)}
    (folder / "run.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / "run.json").read_text())
        told = record["checksum"]
        sound = told == _checksum({k: v for k, v in record.items() if k != "checksum"})
        sound = sound and record["id"] == folder.name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedRun(f"run {folder.name}: run.json cannot be read ({error})") from error
    if not sound:
        raise DamagedRun(f"run {folder.name}: run.json was changed after it was written")
    return record


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
