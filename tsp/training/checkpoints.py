"""Checkpoints of a bank in training, so that a killed sweep loses at most a few seconds of work.

A checkpoint is a folder: ``state.json``, which names the other files with their hashes, the
optimisers' tensors, and the prompts of the checks, appended as training goes on. A checkpoint that
is damaged or belongs to something else is discarded, and its bank starts over.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from tsp.atomic import checksum, remove, replace_file, replacing, sha256_of
from tsp.errors import one_line
from tsp.provenance import commit, versions
from tsp.training.checks import PendingAnswer
from tsp.training.members import PromptRun
from tsp.training.stopping import CHECKPOINT_SECONDS, Interrupted, StopSignal, never

if TYPE_CHECKING:
    from tsp.training.trainer import Bank, Plan

log = logging.getLogger(__name__)
STATE = "state.json"
Tensors = Mapping[str, torch.Tensor]


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
    every: float = CHECKPOINT_SECONDS
    stop: StopSignal = never
    _last: float = field(default_factory=time.monotonic, repr=False)
    _prompts: dict[str, str] = field(default_factory=dict, repr=False)  # files and their hashes
    _epoch: int = field(default=0, repr=False)  # first one whose prompts are not in them

    def resume(self, bank: "Bank") -> tuple[int, float]:
        """Restore a bank from its checkpoint, if there is a valid one.

        Returns
        -------
        epoch, seconds
            How far and how long it was trained; 0 and 0.0 without a valid checkpoint.
        """
        try:
            state, tensors = self._read()
        except (ValueError, LookupError, TypeError, OSError) as error:
            if (self.folder / STATE).exists():
                log.warning("a checkpoint is not used: %s", one_line(str(error)))
            remove(self.folder)
            return 0, 0.0
        for k, (run, record) in enumerate(zip(bank.runs, state["runs"], strict=True)):
            _restore(run, record, tensors, f"{k}/")
        bank.waiting = [PendingAnswer(bank.runs[k], *rest) for k, *rest in state["waiting"]]
        self._prompts, self._epoch = state["prompts"], state["epoch"]
        return state["epoch"], state["seconds"]

    def reached(self, bank: "Bank", epoch: int, seconds: float) -> None:
        """Write a checkpoint after an epoch if it is due, or if training is to stop.

        Raises
        ------
        Interrupted
            If training is to stop.
        """
        signal = self.stop()
        if signal or time.monotonic() - self._last >= self.every:
            self._write(bank, epoch, seconds)
            self._last = time.monotonic()
        if signal:
            raise Interrupted(signal, f"stopped after epoch {epoch}")

    def remove(self) -> None:
        """Delete the checkpoint once the bank's runs are stored."""
        remove(self.folder)

    def _write(self, bank: "Bank", epoch: int, seconds: float) -> None:
        runs = list(enumerate(bank.runs))
        moments = {f"{k}/{name}": part for k, run in runs for name, part in _tensors(run).items()}
        checked = [(k, at, prompt) for k, run in runs for at, prompt in run.result.prompts.items()]
        prompts = {f"{k}/{at}": prompt for k, at, prompt in checked if at >= self._epoch}
        if prompts:
            self._prompts |= self._save(f"prompts-{epoch:06d}.safetensors", prompts)
        state: dict[str, Any] = {
            "key": self.key,
            "epoch": epoch,
            "seconds": seconds,
            "runs": [_record(run) for run in bank.runs],
            "waiting": [
                (bank.runs.index(run), problem, epoch, agreed)
                for run, problem, epoch, agreed in bank.waiting
            ],
            "prompts": self._prompts,
            "moments": self._save(f"moments-{epoch:06d}.safetensors", moments),
        }
        replace_file(self.folder / STATE, json.dumps(state | {"checksum": checksum(state)}))
        self._epoch = epoch
        for path in self.folder.glob("*-*.safetensors"):
            if path.name not in state["prompts"] | state["moments"]:
                path.unlink()

    def _save(self, file: str, tensors: Tensors) -> dict[str, str]:
        with replacing(self.folder / file) as work:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, work)
        return {file: sha256_of(self.folder / file)}

    def _read(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Read the state and all tensors; raise unless they are whole and this bank's."""
        state = json.loads((self.folder / STATE).read_text())
        if state["checksum"] != checksum(state):
            raise ValueError(f"{STATE} was changed")
        if state["key"] != json.loads(json.dumps(self.key)):
            raise ValueError("it belongs to another plan or another version")
        tensors: dict[str, torch.Tensor] = {}
        for name, digest in (state["prompts"] | state["moments"]).items():
            if sha256_of(self.folder / name) != digest:
                raise ValueError(f"{name} was changed")
            tensors |= load_file(self.folder / name)
        return state, tensors


def key_of(ids: list[str], plan: "Plan", device: str) -> dict[str, Any]:
    """Return what identifies a bank: its runs in order, its plan, device and software."""
    identity = {"runs": ids, "plan": asdict(plan), "device": device}
    return identity | {"versions": versions(), "commit": commit()}


def _tensors(run: PromptRun) -> dict[str, torch.Tensor]:
    state = {"prompt": run.prompt.detach(), "generator": run.generator.get_state()}
    return state | run.optimizer.state.get(run.prompt, {})  # Adam's moments and step


def _record(run: PromptRun) -> dict[str, Any]:
    """Return a run's state besides `_tensors`."""
    return {
        "run": {name: getattr(run, name) for name in ("steps", "solved")},
        "result": {name: getattr(run.result, name) for name in ("epochs", "checks", "failure")},
        "checked": list(run.result.prompts),
        "moments": list(run.optimizer.state.get(run.prompt, {})),
        "lr": run.optimizer.param_groups[0]["lr"],
        "scheduler": run.scheduler.state_dict() if run.scheduler else None,
    }


def _restore(run: PromptRun, record: Mapping[str, Any], tensors: Tensors, prefix: str) -> None:
    vars(run).update(record["run"])
    vars(run.result).update(record["result"])
    run.result.prompts = {at: tensors[f"{prefix}{at}"].clone() for at in record["checked"]}
    with torch.no_grad():
        run.prompt.copy_(tensors[f"{prefix}prompt"])
    run.generator.set_state(tensors[f"{prefix}generator"])
    moments = {name: tensors[prefix + name].clone() for name in record["moments"]}
    state = run.optimizer.state_dict()
    run.optimizer.load_state_dict(state | {"state": {0: moments} if moments else {}})
    run.optimizer.param_groups[0]["lr"] = record["lr"]
    if run.scheduler:
        run.scheduler.load_state_dict(record["scheduler"])
