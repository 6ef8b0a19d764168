"""The state of a bank that trains, so that a killed sweep repeats no more than a moment of it.

A checkpoint is a folder: ``state.json``, which names its files with their hashes, the optimisers'
tensors at its epoch, and the prompts of the checks, as many as were new at each checkpoint. It is
sound or it is not used.
"""

import json
import logging
import re
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from tsp.atomic import remove, replace_file, replacing, sha256_of
from tsp.errors import one_line
from tsp.provenance import commit, versions
from tsp.store.archive import UNREADABLE, checksum
from tsp.store.schema import is_whole
from tsp.training.members import Member
from tsp.training.stopping import Stop, Stopped, never

if TYPE_CHECKING:
    from tsp.training.trainer import Bank, Plan

log = logging.getLogger(__name__)
SECONDS = 30.0  # between two checkpoints
STATE = "state.json"
FILE = re.compile(r"(prompts|moments)-\d{6,12}\.safetensors")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what Adam and AdamW keep of a prompt


@dataclass
class Checkpoint:
    """Where a bank's state is kept while it trains.

    Parameters
    ----------
    folder
        Of this bank alone; it is made when there is something to keep.
    key
        What the bank is (`key_of`): a state of another one is not used.
    every
        Seconds between two, each at the end of an epoch; 0: after every one.
    stop
        Says whether training shall stop.
    """

    folder: Path
    key: Mapping[str, Any]
    every: float = SECONDS
    stop: Stop = never
    _last: float = field(default_factory=time.monotonic, repr=False)
    _files: dict[str, str] = field(default_factory=dict, repr=False)  # of prompts, with hashes
    _kept: int = field(default=0, repr=False)  # epoch from which prompts are not in them

    def resume(self, bank: "Bank") -> tuple[int, float]:
        """Put a bank into the state that was kept, if there is one.

        Returns
        -------
        epoch, seconds
            How far it was trained, and for how long; 0 and 0.0 without a state that is sound.
        """
        found = None if self.folder.is_symlink() else self._sound(bank)  # which may lead anywhere
        if found is None:
            remove(self.folder)
            return 0, 0.0
        state, tensors = found
        for run, told, own in zip(bank.runs, state["runs"], tensors, strict=True):
            _restore(run, told, own)
        for place, problem, epoch, agreed in state["waiting"]:
            bank.ask(bank.runs[place], problem, epoch, agreed)
        self._files, self._kept = state["prompts"], state["epoch"]
        return state["epoch"], state["seconds"]

    def reached(self, bank: "Bank", epoch: int, seconds: float) -> None:
        """Keep the state after an epoch if it is time to, or if training shall stop.

        Raises
        ------
        Stopped
            If it shall.
        """
        asked = self.stop()
        if asked or time.monotonic() - self._last >= self.every:
            self._write(bank, epoch, seconds)
            self._last = time.monotonic()
        if asked:
            raise Stopped(asked, f"stopped after epoch {epoch}")

    def remove(self) -> None:
        """Forget it: the bank's runs are stored."""
        remove(self.folder)

    def _write(self, bank: "Bank", epoch: int, seconds: float) -> None:
        moments: dict[str, torch.Tensor] = {}
        for k, run in enumerate(bank.runs):
            moments |= {f"{k}/{name}": it.contiguous() for name, it in _tensors(run).items()}
        new = {
            f"{k}/{at}": prompt
            for k, run in enumerate(bank.runs)
            for at, prompt in run.result.prompts.items()
            if at >= self._kept
        }
        before = {it.name for it in self.folder.glob("*") if FILE.fullmatch(it.name)}
        if new:
            self._files |= self._saved(f"prompts-{epoch:06d}.safetensors", new)
        last = self._saved(f"moments-{epoch:06d}.safetensors", moments)
        told: dict[str, Any] = {
            "key": self.key,
            "epoch": epoch,
            "seconds": seconds,
            "runs": [_told(run) for run in bank.runs],
            "waiting": [
                [bank.runs.index(it.run), it.problem, it.epoch, it.agreed] for it in bank.waiting
            ],
            "prompts": self._files,
            "moments": last,
        }
        replace_file(self.folder / STATE, json.dumps(told | {"checksum": checksum(told)}))
        self._kept = epoch
        for name in before - set(self._files) - set(last):
            (self.folder / name).unlink(missing_ok=True)

    def _saved(self, name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
        with replacing(self.folder / name) as work:
            save_file(dict(tensors), work)
        return {name: sha256_of(self.folder / name)}

    def _sound(self, bank: "Bank") -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]] | None:
        """What is kept, if all of it is there, unchanged and fits this bank; a part a run."""
        try:
            state = json.loads(_file(self.folder / STATE).read_text())
            if state["checksum"] != checksum(state):
                raise ValueError("it was changed")
            if state["key"] != json.loads(json.dumps(self.key)):
                raise ValueError("it belongs to another plan or another version")
            tensors: list[dict[str, torch.Tensor]] = [{} for _ in bank.runs]
            for name, digest in (state["prompts"] | state["moments"]).items():
                if not FILE.fullmatch(name):
                    raise ValueError(f"{name!r} is no file of a checkpoint")
                if sha256_of(_file(self.folder / name)) != digest:
                    raise ValueError(f"{name} was changed")
                for place, tensor in load_file(self.folder / name).items():
                    run, of = place.split("/")
                    tensors[int(run)][of] = tensor
            _check(bank, state, tensors)
        except FileNotFoundError as error:
            if Path(error.filename).name != STATE:
                log.warning("a checkpoint is not used: %s is missing", error.filename)
            return None
        except UNREADABLE as error:
            log.warning("a checkpoint is not used: %s", one_line(str(error)))
            return None
        return state, tensors


def _file(path: Path) -> Path:
    """Refuse a link, which may lead anywhere, and a pipe, which would be waited for."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path.name} is no file of its own")
    return path


def _check(
    bank: "Bank", state: Mapping[str, Any], tensors: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Refuse a state with fitting hashes that a bank cannot be put into."""
    for run, told, own in zip(bank.runs, state["runs"], tensors, strict=True):
        _check_run(run, told, own)
    _need(is_whole(state["epoch"]) and isinstance(state["seconds"], float), "epoch and seconds")
    for place, problem, epoch, agreed in state["waiting"]:
        _need(all(map(is_whole, (place, problem, epoch))), "waiting")
        _need(epoch in state["runs"][place]["checked"], "waiting")
        _need(problem < len(bank.runs[place].encoded), "waiting")
        _need(agreed is None or is_whole(agreed), "waiting")


def _check_run(run: Member, told: Mapping[str, Any], own: Mapping[str, torch.Tensor]) -> None:
    fresh = _told(run)
    kinds = {name: type(value) for name, value in fresh.items() if name != "failure"}
    _need({name: type(told[name]) for name in kinds} == kinds, "runs")
    _need(told["failure"] is None or isinstance(told["failure"], str), "failure")
    _need(all(map(is_whole, (told["steps"], *told["checked"]))), "checked")
    _check_steps(run, told, own, fresh["scheduler"])
    for row in (*told["epochs"], *told["checks"]):
        _need(isinstance(row, dict) and is_whole(row["epoch"]), "epochs")
    for problem, ids in told["answered"]:
        _need(all(map(is_whole, (problem, *ids))) and problem < len(run.encoded), "answered")
    shapes = {name: (it.shape, it.dtype) for name, it in _tensors(run).items()}
    shapes |= dict.fromkeys(map(str, told["checked"]), shapes["prompt"])
    shapes |= {name: shapes["prompt"] for name in MOMENTS[:2] if name in own}
    shapes |= {"step": (torch.Size(), torch.float32)} if "step" in own else {}
    _need({name: (it.shape, it.dtype) for name, it in own.items()} == shapes, "tensors")
    try:
        torch.Generator().set_state(own["generator"])
    except RuntimeError as error:  # bytes that no generator writes
        raise ValueError(one_line(str(error))) from error


def _check_steps(
    run: Member, told: Mapping[str, Any], own: Mapping[str, torch.Tensor], schedule: Any
) -> None:
    """Refuse numbers that no training leads to, with which a step might fail."""
    steps, rate = told["steps"], told["lr"]
    _need(steps <= run.spec.epochs * run.steps_per_epoch, "steps")
    _need("step" not in own or bool((own["step"] == steps).all()), "steps")
    _need(0 <= rate <= run.spec.lr, "learning rates")
    after = {"last_epoch": steps, "_step_count": steps + 1, "_last_lr": [rate]}
    _need(told["scheduler"] == (schedule and schedule | after), "learning rates")


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"its {what} do not fit the bank")


def key_of(ids: list[str], plan: "Plan", device: str) -> dict[str, Any]:
    """What a bank's state belongs to: its runs in their order, how and by what it is computed."""
    told = {"runs": ids, "plan": asdict(plan), "device": device}
    return told | {"versions": versions(), "commit": commit()}


def _told(run: Member) -> dict[str, Any]:
    """What a run's state has besides tensors."""
    result = run.result
    return {
        "steps": run.steps,
        "solved": run.solved,
        "lr": run.optimizer.param_groups[0]["lr"],
        "scheduler": run.scheduler.state_dict() if run.scheduler else None,
        "answered": [[k, list(ids)] for k, ids in run.answered.items()],
        "epochs": result.epochs,
        "checks": result.checks,
        "checked": list(result.prompts),
        "failure": result.failure,
    }


def _tensors(run: Member) -> dict[str, torch.Tensor]:
    kept = run.optimizer.state.get(run.prompt, {})
    return {
        "prompt": run.prompt.detach(),
        "generator": run.generator.get_state(),
        **{name: kept[name] for name in MOMENTS if name in kept},
    }


def _restore(run: Member, told: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        run.prompt.copy_(tensors["prompt"])
    run.generator.set_state(tensors["generator"])
    kept = {name: tensors[name].clone() for name in MOMENTS if name in tensors}
    state = run.optimizer.state_dict()
    run.optimizer.load_state_dict(state | {"state": {0: kept} if kept else {}})
    run.optimizer.param_groups[0]["lr"] = told["lr"]
    if run.scheduler:
        run.scheduler.load_state_dict(told["scheduler"])
    run.steps, run.solved = told["steps"], told["solved"]
    run.answered = {k: tuple(ids) for k, ids in told["answered"]}
    run.result.epochs, run.result.checks = told["epochs"], told["checks"]
    run.result.prompts = {epoch: tensors[str(epoch)].clone() for epoch in told["checked"]}
    run.result.failure = told["failure"]
