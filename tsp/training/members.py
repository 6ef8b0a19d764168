"""The runs of a bank: each has its own prompt, optimiser, schedule, generator and record."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from tsp.errors import InputError
from tsp.problems.loading import Problem, is_correct, score
from tsp.problems.scoring import DECIDED
from tsp.training.base_lm import BaseLM, Encoded
from tsp.training.decoding import EXTRA_TOKENS, Answer, DecodingRequest
from tsp.training.prompts import initial_prompt
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
    failure: str = ""  # why training stopped: a value that is not finite

    def correct(self) -> dict[int, float]:
        """Return the share of correct answers, by epoch, at the checks that asked every problem."""
        checks: dict[int, list[bool]] = {}
        for row in self.checks:
            checks.setdefault(row["epoch"], []).append(row["correct"])
        size = len(self.problems)
        return {epoch: sum(right) / size for epoch, right in checks.items() if len(right) == size}

    @property
    def solved_epoch(self) -> int | None:
        """The first check after the start at which every answer is right, or None."""
        return min((at for at, share in self.correct().items() if at and share == 1), default=None)


class PromptRun:
    """State of one run: its prompt, optimiser, schedule and generator."""

    def __init__(
        self, spec: RunSpec, frozen: BaseLM, problems: list[Problem], start: Tensor | None = None
    ) -> None:
        self.spec, self.frozen, self.problems = spec, frozen, problems
        self.encoded = encode_all(spec, frozen, problems)
        self.generator = torch.Generator().manual_seed(spec.seed)
        questions = [problem.question for problem in problems]
        first = initial_prompt(spec, frozen, self.generator, questions=questions, start=start)
        self.prompt = first.requires_grad_()
        self.optimizer, self.scheduler = _optimiser(spec, self.prompt, self.steps_per_epoch)
        lengths = [{part: len(ids) for part, ids in vars(item).items()} for item in self.encoded]
        self.result = RunResult(spec, problems, lengths)
        self.solved = False
        self.steps = 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one pass over the problems."""
        return math.ceil(len(self.problems) / self.spec.settings.batch_size)

    def trains_in(self, epoch: int) -> bool:
        """Return whether the run trains in an epoch."""
        ended = self.result.failure or (self.solved and self.spec.early_stop)
        return epoch <= self.spec.epochs and not ended

    def is_due(self, epoch: int) -> bool:
        """Return whether the run is checked after an epoch."""
        regular = epoch % self.spec.check_every == 0 or epoch == self.spec.epochs
        return epoch == 0 or (regular and self.trains_in(epoch))

    def asks_all(self, epoch: int) -> bool:
        """Return whether a check asks every problem; others end at the first wrong answer."""
        alone = len(self.problems) == 1
        return alone or self.spec.records_at(epoch, last=self.spec.epochs)

    def is_wrong(self, epoch: int) -> bool:
        """Return whether an answer of a check is known to be wrong."""
        return any(row["epoch"] == epoch and not row["correct"] for row in self.result.checks)

    def likely_wrong(self, epoch: int) -> list[int]:
        """Return the problems in order: wrong at the last check of all first, then short answers.

        Answers after that check do not count, since some of them may still wait.
        """
        checks = [row for row in self.result.checks if row["epoch"] < epoch]
        last = max(row["epoch"] for row in checks if self.asks_all(row["epoch"]))
        right = {row["problem"] for row in checks if row["epoch"] == last and row["correct"]}
        return sorted(range(len(self.problems)), key=lambda k: (k in right, self.longest_answer(k)))

    def batches(self) -> list[list[int]]:
        """Draw an epoch's order of the problems; return the numbers of those of each step."""
        order = torch.randperm(len(self.problems), generator=self.generator).tolist()
        size = self.spec.settings.batch_size
        return [order[i : i + size] for i in range(0, len(order), size)]

    def longest_answer(self, k: int) -> int:
        """Return how many tokens a check decodes for problem ``k`` at most."""
        return self.spec.max_new_tokens or len(self.encoded[k].target) + EXTRA_TOKENS

    def request(self, k: int, agreed: int | None = None) -> DecodingRequest:
        """Return when the answer to problem ``k`` ends; it begins with ``agreed`` tokens."""
        decided = DECIDED.get(self.problems[k].metric)
        return DecodingRequest(self.longest_answer(k), agreed, decided)

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

    def watch(self, row: dict[str, float], *, finite: bool) -> None:
        """Stop the run if its loss is not finite, or its prompt is not."""
        names = ("ce", "reg", "grad_ce", "grad_reg")
        wrong = [name for name in names if not math.isfinite(row[name])]
        if not finite:
            wrong.append("the prompt")
        if wrong:
            self.result.failure = (
                f"{self.spec.label}: not finite after {self.steps} steps: {', '.join(wrong)}; "
                f"lower lr ({self.spec.lr:g}) or lambda_ts ({self.spec.lambda_ts:g})"
            )

    def close_epoch(self, epoch: int, rows: list[dict[str, float]], moved: float) -> None:
        """Record an epoch: means over its steps, and how far the prompt has moved in it."""
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        means |= {"lr": rows[-1]["lr"], "moved": moved}
        self.result.epochs.append({"epoch": epoch, "step": self.steps} | means)

    def record(self, epoch: int, k: int, answer: Answer) -> None:
        """Record the answer to problem ``k`` at a check."""
        problem = self.problems[k]
        self.result.checks.append(
            {
                "epoch": epoch,
                "problem": k,
                "answer": answer.text,
                "score": float(score(problem, answer.text)),
                "correct": bool(is_correct(problem, answer.text)),
                "exact": answer.exact,
                "matched_tokens": answer.matched,
                "target_tokens": len(self.encoded[k].target),
            }
        )
        self.solved = self.solved or (epoch > 0 and self.result.correct().get(epoch) == 1)

    def close_checks(self) -> None:
        """Sort the checks; drop what an early stop would have left untrained."""
        result = self.result
        result.checks.sort(key=lambda row: (row["epoch"], row["problem"]))
        if self.solved and self.spec.early_stop:
            last = result.solved_epoch
            assert last  # `solved` says so
            result.epochs = [row for row in result.epochs if row["epoch"] <= last]
            result.checks = [row for row in result.checks if row["epoch"] <= last]
            result.prompts = {epoch: P for epoch, P in result.prompts.items() if epoch <= last}
            result.failure = ""


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
        answer = spec.max_new_tokens or len(coded.target) + EXTRA_TOKENS
        length = coded.length(spec.n_tokens) + max(0, answer - len(coded.target))
        if length > frozen.window:
            size = f"row {problem.row} of its source takes {length} tokens with prompt and answer"
            remedy = f"{size}, {frozen.name} reads {frozen.window}; choose a shorter one"
            raise InputError("problem", spec.problem + k, remedy)
        encoded.append(coded)
    return encoded


def _optimiser(spec: RunSpec, prompt: Tensor, steps_per_epoch: int) -> tuple[Any, Any]:
    """Return the protocol's optimiser and schedule, which is as long as the protocol's epochs."""
    protocol = spec.settings
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[protocol.optimizer]
    options = {"betas": protocol.betas, "eps": protocol.eps, "weight_decay": protocol.weight_decay}
    optimizer = kind([prompt], lr=spec.lr, **options)
    total = protocol.epochs * steps_per_epoch
    warm_up = math.ceil(spec.warmup_fraction * total)
    if spec.schedule == "constant":
        return optimizer, get_constant_schedule_with_warmup(optimizer, warm_up) if warm_up else None
    return optimizer, get_linear_schedule_with_warmup(optimizer, warm_up, total)
