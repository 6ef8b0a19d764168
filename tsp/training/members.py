"""The runs of a bank: each has its own prompt, optimiser, schedule, generator and record."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from tsp.errors import InputError
from tsp.problems.loading import Problem, is_correct, score
from tsp.training.base_lm import BaseLM, Encoded
from tsp.training.decoding import EXTRA_TOKENS, Answer
from tsp.training.penalties import penalties
from tsp.training.prompts import as_input, initial_prompt
from tsp.training.spec import RunSpec


@dataclass
class RunResult:
    """What a run leaves behind: the material of the run store."""

    spec: RunSpec
    problems: list[Problem]
    lengths: list[dict[str, int]]  # tokens of each problem
    epochs: list[dict[str, float]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    prompts: dict[int, Tensor] = field(default_factory=dict)  # at every check, (n, d) on the CPU
    seconds: float = 0.0  # the bank's time over the number of its runs
    bank: int = 1
    failure: str = ""  # why the run could not go on: a value that is not finite

    def cut(self, last: int) -> None:
        """Drop what came after an epoch."""
        self.epochs = [row for row in self.epochs if row["epoch"] <= last]
        self.checks = [row for row in self.checks if row["epoch"] <= last]
        self.prompts = {epoch: prompt for epoch, prompt in self.prompts.items() if epoch <= last}
        self.failure = ""


@dataclass
class Loss:
    """Mean cross-entropy of a run over the target tokens of a batch, and its gradient."""

    value: float
    gradient: Tensor  # (n, d)


class PromptRun:
    """State of one run: its prompt, optimiser, schedule and generator."""

    def __init__(
        self,
        spec: RunSpec,
        frozen: BaseLM,
        problems: list[Problem],
        start: Tensor | None = None,
    ) -> None:
        self.spec, self.frozen, self.problems = spec, frozen, problems
        self.encoded = encode_all(spec, frozen, problems)
        self.generator = torch.Generator().manual_seed(spec.seed)
        questions = [problem.question for problem in problems]
        first = initial_prompt(spec, frozen, self.generator, questions=questions, start=start)
        self.prompt = first.requires_grad_()
        self.optimizer, self.scheduler = _optimiser(spec, self.prompt, self.steps_per_epoch)
        self.result = RunResult(spec, problems, [_lengths(item) for item in self.encoded])
        self.solved = False
        self.steps = 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one pass over the problems."""
        return math.ceil(len(self.problems) / self.spec.settings.batch_size)

    def wants(self, epoch: int) -> bool:
        """Say whether the run trains in this epoch."""
        done = self.result.failure or (self.solved and self.spec.early_stop)
        return epoch <= self.spec.epochs and not done

    def batches(self) -> list[list[int]]:
        """Problem numbers of each step of an epoch, reshuffled by the run's own generator."""
        order = torch.randperm(len(self.problems), generator=self.generator).tolist()
        size = self.spec.settings.batch_size
        return [order[i : i + size] for i in range(0, len(order), size)]

    def received(self) -> Tensor:
        """The prompt as the model receives it."""
        return as_input(self.prompt, self.spec)

    def step(self, gradient: Tensor) -> float:
        """Move the prompt against a gradient; return the learning rate that was used."""
        self.prompt.grad = gradient
        if self.spec.clip_norm:
            torch.nn.utils.clip_grad_norm_([self.prompt], self.spec.clip_norm)
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        if self.scheduler:
            self.scheduler.step()
        self.steps += 1
        return rate

    def watch(self, row: dict[str, float]) -> None:
        """Give the run up where its loss or its prompt is no longer finite."""
        names = [
            name for name in ("ce", "reg", "grad_ce", "grad_reg") if not math.isfinite(row[name])
        ]
        if not torch.isfinite(self.prompt).all():
            names.append("the prompt")
        if names:
            remedy = f"lower lr ({self.spec.lr:g}) or lambda_ts ({self.spec.lambda_ts:g})"
            what = ", ".join(names)
            self.result.failure = (
                f"{self.spec.label}: not finite after {self.steps} steps: {what}; "
            )
            self.result.failure += remedy

    def longest_answer(self, k: int) -> int:
        """Return the tokens that a check decodes of the answer to problem ``k`` at most."""
        return self.spec.max_new_tokens or len(self.encoded[k].target) + EXTRA_TOKENS

    def close_epoch(self, epoch: int, rows: list[dict[str, float]], before: Tensor) -> None:
        """Record an epoch: means over its steps, and how far the prompt moved from ``before``."""
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        means |= {"lr": rows[-1]["lr"], "moved": (self.prompt.detach() - before).norm().item()}
        self.result.epochs.append({"epoch": epoch, "step": self.steps} | means)

    def is_due(self, epoch: int) -> bool:
        """Return whether the run is checked after an epoch."""
        regular = epoch % self.spec.check_every == 0 or epoch == self.spec.epochs
        return epoch == 0 or (regular and self.wants(epoch))

    def open_check(self, epoch: int) -> None:
        """Keep the prompt that is checked."""
        self.result.prompts[epoch] = self.prompt.detach().cpu().clone()

    def record(self, epoch: int, k: int, answer: Answer) -> None:
        """Note what a check found; one that is all correct ends a run that stops early."""
        self.result.checks.append(_check_row(epoch, k, answer, self))
        self.solved = self.solved or self._solved(epoch)

    def close_checks(self) -> None:
        """Put the checks in order; what a run trained after it was solved is dropped."""
        self.result.checks.sort(key=lambda row: (row["epoch"], row["problem"]))
        if self.solved and self.spec.early_stop:
            first = min(epoch for epoch in self.result.prompts if self._solved(epoch))
            self.result.cut(first)

    def correct(self) -> dict[int, float]:
        """Share of right answers at each check that has them all, by epoch."""
        checks: dict[int, list[bool]] = {}
        for row in self.result.checks:
            checks.setdefault(row["epoch"], []).append(row["correct"])
        size = len(self.problems)
        return {epoch: sum(right) / size for epoch, right in checks.items() if len(right) == size}

    def _solved(self, epoch: int) -> bool:
        """Whether every problem was answered correctly at a check after some training."""
        now = [row["correct"] for row in self.result.checks if row["epoch"] == epoch]
        return epoch > 0 and len(now) == len(self.problems) and all(now)


def step_together(work: list[PromptRun], losses: dict[int, Loss]) -> list[dict[str, float]]:
    """One optimiser step of every run in ``work``: minimise L_ce + lambda_ts L_ts."""
    if not work:
        return []
    added = penalties([run.spec for run in work], [run.prompt for run in work])
    norms = torch.stack([losses[id(run)].gradient.norm() for run in work]).tolist()
    rows = []
    for run, (row, gradient), norm in zip(work, added, norms, strict=True):
        weight, loss = run.spec.lambda_ts, losses[id(run)]
        row |= {"ce": loss.value, "grad_ce": norm}
        row |= {"total": loss.value + weight * row["reg"] if weight else loss.value}
        if run.spec.weighting == "gradient":
            weight *= norm
        row |= {"lr": run.step(loss.gradient + weight * gradient if weight else loss.gradient)}
        run.watch(row)
        rows.append(row)
    return rows


def encode_all(spec: RunSpec, frozen: BaseLM, problems: Sequence[Problem]) -> list[Encoded]:
    """Tokenise a run's problems.

    Raises
    ------
    InputError
        If one with its prompt and answer is longer than the model's window.
    """
    end, encoded = spec.settings.end_token, []
    for k, problem in enumerate(problems):
        coded = frozen.encode(problem.question, problem.target, placement=spec.placement, end=end)
        length = coded.length(spec.n_tokens) + (spec.max_new_tokens or EXTRA_TOKENS)
        if length > frozen.window:
            size = f"row {problem.row} of its source takes {length} tokens with prompt and answer"
            remedy = f"{size}, {frozen.name} reads {frozen.window}; choose a shorter one"
            raise InputError("problem", spec.problem + k, remedy)
        encoded.append(coded)
    return encoded


def _lengths(encoded: Encoded) -> dict[str, int]:
    return {name: len(ids) for name, ids in asdict(encoded).items()}


def _optimiser(spec: RunSpec, prompt: Tensor, steps_per_epoch: int) -> tuple[Any, Any]:
    """The protocol's optimiser and its schedule, which is as long as the protocol's epochs."""
    protocol = spec.settings
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[protocol.optimizer]
    options = {"betas": protocol.betas, "eps": protocol.eps, "weight_decay": protocol.weight_decay}
    optimizer = kind([prompt], lr=spec.lr, **options)
    total = protocol.epochs * steps_per_epoch
    warm_up = math.ceil(spec.warmup_fraction * total)
    if spec.schedule == "constant":
        return optimizer, get_constant_schedule_with_warmup(optimizer, warm_up) if warm_up else None
    return optimizer, get_linear_schedule_with_warmup(optimizer, warm_up, total)


def _check_row(epoch: int, k: int, answer: Answer, run: PromptRun) -> dict[str, Any]:
    problem = run.problems[k]
    return {
        "epoch": epoch,
        "problem": k,
        "answer": answer.text,
        "score": float(score(problem, answer.text)),
        "correct": bool(is_correct(problem, answer.text)),
        "exact": answer.exact,
        "matched_tokens": answer.matched,
        "target_tokens": len(run.encoded[k].target),
    }
