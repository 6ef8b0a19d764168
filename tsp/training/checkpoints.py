"""Checkpoints of a bank in training, so that a killed sweep loses at most a few seconds of work.

A checkpoint is a folder: ``state.json``, which names the other files with their hashes, the
optimisers' tensors, and the prompts of the checks, appended as training goes on. A checkpoint that
is damaged or belongs to something else is discarded, and its bank begins again.
"""

import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tsp.atomic import checksum, remove, replace_file, replacing, sha256_of
from tsp.errors import one_line
from tsp.provenance import commit, versions
from tsp.training.members import PromptRun
from tsp.training.stopping import Interrupted, StopSignal, never

if TYPE_CHECKING:
    from tsp.training.trainer import Bank, Plan

log = logging.getLogger(__name__)
SECONDS = 30.0  # between two checkpoints
STATE = "state.json"
FILE = re.compile(r"(prompts|moments)-\d{6,12}\.safetensors")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # Adam's and AdamW's state of a prompt
DAMAGED = (ValueError, LookupError, TypeError, OSError, SafetensorError)  # reading a broken file


@dataclass
class Checkpoint:
    """Where a bank's state is kept while it trains.

    Parameters
    ----------
    folder
        Folder of this bank; created with the first checkpoint.
    key
        Identity of the bank (`key_of`): a checkpoint with another key is discarded.
    every
        Seconds between two checkpoints, each at the end of an epoch; 0: after every epoch.
    stop
        Returns a signal's number once training is to stop, else 0.
    """

    folder: Path
    key: Mapping[str, Any]
    every: float = SECONDS
    stop: StopSignal = never
    _last: float = field(default_factory=time.monotonic, repr=False)
    _files: dict[str, str] = field(default_factory=dict, repr=False)  # of prompts, with hashes
    _kept: int = field(default=0, repr=False)  # epoch from which prompts are not in them

    def resume(self, bank: "Bank") -> tuple[int, float]:
        """Restore a bank from its checkpoint, if there is a valid one.

        Returns
        -------
        epoch, seconds
            How far and how long it was trained; 0 and 0.0 without a valid checkpoint.
        """
        try:
            state, tensors = self._read(len(bank.runs))
        except DAMAGED as error:
            if (self.folder / STATE).exists():
                log.warning("a checkpoint is not used: %s", one_line(str(error)))
            remove(self.folder)
            return 0, 0.0
        for run, record, kept in zip(bank.runs, state["runs"], tensors, strict=True):
            _restore(run, record, kept)
        for place, problem, epoch, agreed in state["waiting"]:
            bank.ask(bank.runs[place], problem, epoch, agreed)
        self._files, self._kept = state["prompts"], state["epoch"]
        return state["epoch"], state["seconds"]

    def reached(self, bank: "Bank", epoch: int, seconds: float) -> None:
        """Write a checkpoint after an epoch if it is due, or if training is to stop.

        Raises
        ------
        Interrupted
            If training is to stop.
        """
        asked = self.stop()
        if asked or time.monotonic() - self._last >= self.every:
            self._write(bank, epoch, seconds)
            self._last = time.monotonic()
        if asked:
            raise Interrupted(asked, f"stopped after epoch {epoch}")

    def remove(self) -> None:
        """Delete the checkpoint once the bank's runs are stored."""
        remove(self.folder)

    def _write(self, bank: "Bank", epoch: int, seconds: float) -> None:
        moments = {
            f"{k}/{name}": tensor.contiguous()
            for k, run in enumerate(bank.runs)
            for name, tensor in _tensors(run).items()
        }
        new = {
            f"{k}/{at}": prompt
            for k, run in enumerate(bank.runs)
            for at, prompt in run.result.prompts.items()
            if at >= self._kept
        }
        before = {path.name for path in self.folder.glob("*") if FILE.fullmatch(path.name)}
        if new:
            self._files |= self._saved(f"prompts-{epoch:06d}.safetensors", new)
        last = self._saved(f"moments-{epoch:06d}.safetensors", moments)
        state: dict[str, Any] = {
            "key": self.key,
            "epoch": epoch,
            "seconds": seconds,
            "runs": [_record(run) for run in bank.runs],
            "waiting": [
                [bank.runs.index(it.run), it.problem, it.epoch, it.agreed] for it in bank.waiting
            ],
            "prompts": self._files,
            "moments": last,
        }
        replace_file(self.folder / STATE, json.dumps(state | {"checksum": checksum(state)}))
        self._kept = epoch
        for name in before - set(self._files) - set(last):
            (self.folder / name).unlink(missing_ok=True)

    def _saved(self, name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
        with replacing(self.folder / name) as work:
            save_file(dict(tensors), work)
        return {name: sha256_of(self.folder / name)}

    def _read(self, runs: int) -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]]:
        """Read the state and each run's tensors; raises one of `DAMAGED` unless all is valid."""
        state = json.loads((self.folder / STATE).read_text())
        if state["checksum"] != checksum(state):
            raise ValueError(f"{STATE} was changed")
        if state["key"] != json.loads(json.dumps(self.key)):
            raise ValueError("it belongs to another plan or another version")
        tensors: list[dict[str, torch.Tensor]] = [{} for _ in range(runs)]
        for name, digest in (state["prompts"] | state["moments"]).items():
            if sha256_of(self.folder / name) != digest:
                raise ValueError(f"{name} was changed")
            for place, tensor in load_file(self.folder / name).items():
                run, part = place.split("/")
                tensors[int(run)][part] = tensor
        return state, tensors


def key_of(ids: list[str], plan: "Plan", device: str) -> dict[str, Any]:
    """Return what identifies a bank: its runs in order, its plan, device and software."""
    identity = {"runs": ids, "plan": asdict(plan), "device": device}
    return identity | {"versions": versions(), "commit": commit()}


def _record(run: PromptRun) -> dict[str, Any]:
    """A run's state besides tensors."""
    result = run.result
    return {
        "steps": run.steps,
        "solved": run.solved,
        "lr": run.optimizer.param_groups[0]["lr"],
        "scheduler": run.scheduler.state_dict() if run.scheduler else None,
        "epochs": result.epochs,
        "checks": result.checks,
        "checked": list(result.prompts),
        "failure": result.failure,
    }


def _tensors(run: PromptRun) -> dict[str, torch.Tensor]:
    kept = run.optimizer.state.get(run.prompt, {})
    return {
        "prompt": run.prompt.detach(),
        "generator": run.generator.get_state(),
        **{name: kept[name] for name in MOMENTS if name in kept},
    }


def _restore(
    run: PromptRun, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    with torch.no_grad():
        run.prompt.copy_(tensors["prompt"])
    run.generator.set_state(tensors["generator"])
    kept = {name: tensors[name].clone() for name in MOMENTS if name in tensors}
    state = run.optimizer.state_dict()
    run.optimizer.load_state_dict(state | {"state": {0: kept} if kept else {}})
    run.optimizer.param_groups[0]["lr"] = record["lr"]
    if run.scheduler:
        run.scheduler.load_state_dict(record["scheduler"])
    run.steps, run.solved = record["steps"], record["solved"]
    run.result.epochs, run.result.checks = record["epochs"], record["checks"]
    run.result.prompts = {epoch: tensors[str(epoch)].clone() for epoch in record["checked"]}
    run.result.failure = record["failure"]
