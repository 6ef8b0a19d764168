"""Train a bank of soft prompts against one frozen model."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from tsp.problems.loading import Problem
from tsp.training.base_lm import BaseLM
from tsp.training.decoding import Answer, DecodingRequest, agreed, batches, greedy_answers, settled
from tsp.training.forward import ForwardOutput, Row, read
from tsp.training.members import Loss, PromptRun, RunResult, step_together
from tsp.training.prefix_cache import PrefixCache
from tsp.training.prompts import as_input
from tsp.training.spec import RunSpec

if TYPE_CHECKING:
    from tsp.training.checkpoints import Checkpoint

log = logging.getLogger(__name__)
T = TypeVar("T")
WAITING_ROWS = 48  # answers that are generated together, but for
LEAST_BUDGET = 64  # positions below which a pass that runs out of memory is an error
WAITING_ROUNDS = 6  # checks at most: a run that is solved trains on until they are decided


@dataclass(frozen=True)
class Plan:
    """How a bank is computed, as opposed to what: on a CPU the same plan gives the same bytes.

    Parameters
    ----------
    token_budget
        Positions of one forward pass; a larger batch is split into micro-batches. Halved while a
        GPU has too little memory.
    threads
        Threads torch may use on a CPU.
    precision
        Of the training passes: ``"float32"``, which is the model's own, or ``"bfloat16"``, a copy
        of it. Two plans of different precision train alike, not the same.
    context_budget
        Bytes for keys and values of the tokens before the prompts; what does not fit is read with
        every pass. 0 shares nothing.
    """

    token_budget: int = 2048
    threads: int = field(default_factory=torch.get_num_threads)
    precision: str = "float32"
    context_budget: int = 2**32


@dataclass(frozen=True)
class Progress:
    """Where a bank stands, for whoever shows it."""

    epoch: int
    epochs: int
    loss: float  # mean cross-entropy of the runs still training
    solved: int
    runs: int
    rows: Sequence[dict[str, float]] = ()  # of each run its last epoch, empty before the first
    correct: Sequence[dict[int, float]] = ()  # of each run the share right at each check
    bank: int = 0  # its number in the sweep


def train_bank(
    specs: Sequence[RunSpec],
    frozen: BaseLM,
    problems: Sequence[list[Problem]],
    *,
    starts: Sequence[Tensor | None] | None = None,
    plan: Plan | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint: "Checkpoint | None" = None,
) -> list[RunResult]:
    """Train one prompt per spec, all as rows of the same batches (section 4.2).

    Losses are per run and summed, so runs never influence each other: each has its own
    optimiser, schedule, random generator and early stop. Check e sees the prompt after e epochs.

    Parameters
    ----------
    specs
        Runs on one model; everything else may differ.
    frozen
        The model; its weights are not touched.
    problems
        What each run trains on, in the order of ``specs``.
    starts
        First prompt of each run that begins with a trained one, (n, d), in the order of ``specs``.
    plan
        How to compute it.
    on_progress
        Called after every epoch, and once more when the last answers are checked.
    checkpoint
        Where the bank's state is kept on the way; what it holds of this bank is gone on with.

    Returns
    -------
    list[RunResult]
        In the order of ``specs``.

    Raises
    ------
    InputError
        If a problem with its prompt is longer than the model's window.
    Interrupted
        If the checkpoint was asked to stop training.

    Notes
    -----
    A run whose loss or prompt is no longer finite leaves the bank, and its result says why.
    """
    plan = plan or Plan()
    torch.set_num_threads(plan.threads)
    begun = time.perf_counter()
    starts = starts or [None] * len(specs)
    every = zip(specs, problems, starts, strict=True)
    runs = [PromptRun(spec, frozen, own, start) for spec, own, start in every]
    bank = Bank(runs, frozen, plan)
    epoch, before = checkpoint.resume(bank) if checkpoint else (0, 0.0)
    if epoch and on_progress:
        on_progress(bank.progress(epoch))
    while bank.advance(epoch):
        epoch += 1
        if checkpoint:  # before the display, which may be gone
            checkpoint.reached(bank, epoch, before + time.perf_counter() - begun)
        if on_progress:
            on_progress(bank.progress(epoch))
    if on_progress:  # the last checks are answered by now
        on_progress(bank.progress(epoch))
    seconds = (before + time.perf_counter() - begun) / len(runs)
    for run in runs:
        run.result.seconds, run.result.bank = seconds, len(runs)
    return [run.result for run in runs]


@dataclass(frozen=True)
class BatchItem:
    """One problem of one run in a pass: to train on, to check, or both."""

    run: PromptRun
    problem: int
    train: bool
    check: bool


@dataclass(frozen=True)
class PendingCheck:
    """A check that no training pass has settled, with the prompt as it was.

    ``agreed`` counts the tokens of the reference that the answer begins with, None if no pass has
    compared them.
    """

    run: PromptRun
    problem: int
    epoch: int
    row: Row
    agreed: int | None

    @property
    def wish(self) -> DecodingRequest:
        """What is decoded."""
        return DecodingRequest(self.run.longest_answer(self.problem), self.agreed)

    @property
    def content(self) -> tuple[Any, ...]:
        """All that the answer depends on."""
        prompt = blake2b(self.row.prompt.cpu().numpy().tobytes()).digest()
        return (prompt, self.row.encoded, self.wish.limit)


class Bank:
    """Runs that share forward and backward passes, and the contexts of their problems."""

    def __init__(self, runs: list[PromptRun], frozen: BaseLM, plan: Plan) -> None:
        self.runs, self.frozen, self.plan = runs, frozen, plan
        self.reader = frozen.at(torch.bfloat16) if plan.precision == "bfloat16" else frozen
        dtypes = [frozen.dtype, self.reader.dtype]
        self.contexts = PrefixCache(frozen, plan.context_budget, dtypes=dtypes)
        self.token_budget = plan.token_budget
        self.waiting: list[PendingCheck] = []  # generation is cheaper for many rows at once
        for run in runs:  # always in this order, since the budget may not suffice for all
            for coded in run.encoded:
                self.contexts.of(coded.before)

    def active(self, epoch: int) -> list[PromptRun]:
        """Runs that train in this epoch; a finished run leaves the bank."""
        return [run for run in self.runs if run.wants(epoch)]

    def progress(self, epoch: int) -> Progress:
        """Where the bank stands after an epoch."""
        trained = [run.result for run in self.active(epoch) if run.result.epochs]
        last = [result.epochs[-1]["ce"] for result in trained] or [math.nan]
        solved = sum(run.solved for run in self.runs)
        longest = max(run.spec.epochs for run in self.runs)
        loss = sum(last) / len(last)
        rows = [run.result.epochs[-1] if run.result.epochs else {} for run in self.runs]
        correct = [run.correct() for run in self.runs]
        return Progress(epoch, longest, loss, solved, len(self.runs), rows, correct)

    def advance(self, epoch: int) -> bool:
        """Check the runs that are due after ``epoch`` epochs; train those that go on one more.

        The first training pass of an epoch sees the prompts that the check must see, so one pass
        serves both. Says whether any run went on.
        """
        due = [run for run in self.runs if run.is_due(epoch)]
        active = self.active(epoch + 1)
        steps = {id(run): run.batches() for run in active}
        for run in due:
            run.open_check(epoch)
        losses = self._losses([(run, steps[id(run)][0]) for run in active], due, epoch)
        rounds = {question.epoch for question in self.waiting}
        if len(self.waiting) >= WAITING_ROWS or len(rounds) >= WAITING_ROUNDS:
            self.answer()
        going = [run for run in active if run.wants(epoch + 1)]  # not those solved just now
        logs: dict[int, list[dict[str, float]]] = defaultdict(list)
        before = {id(run): run.prompt.detach().clone() for run in going}
        for step in range(max((len(steps[id(run)]) for run in going), default=0)):
            work = [run for run in going if not run.result.failure and step < len(steps[id(run)])]
            if step:
                losses = self._losses([(run, steps[id(run)][step]) for run in work], [], epoch)
            for run, row in zip(work, step_together(work, losses), strict=True):
                logs[id(run)].append(row)
        for run in going:
            run.close_epoch(epoch + 1, logs[id(run)], before[id(run)])
        if not going:
            self.answer()
        return bool(going)

    def answer(self) -> None:
        """Decode the answers that wait, those of several epochs together, and close the checks."""
        alike: dict[tuple[Any, ...], list[PendingCheck]] = defaultdict(list)
        for question in self.waiting:  # runs of one seed begin with the same prompt
            alike[question.content].append(question)
        first = [questions[0] for questions in alike.values()]
        rows, wishes = [question.row for question in first], [question.wish for question in first]
        answers = self._halving(
            lambda budget: greedy_answers(self.frozen, rows, wishes=wishes, token_budget=budget)
        )
        for questions, answer in zip(alike.values(), answers, strict=True):
            for question in questions:
                question.run.record(question.epoch, question.problem, answer)
        self.waiting = []
        for run in self.runs:
            run.close_checks()

    def _losses(
        self, training: list[tuple[PromptRun, list[int]]], due: list[PromptRun], epoch: int
    ) -> dict[int, Loss]:
        """Loss of each run over its batch; the runs that are due are checked on the way."""
        entries = _entries(training, due)
        tokens = {
            id(run): sum(len(run.encoded[k].target) for k in chosen) for run, chosen in training
        }
        losses, answers = self._halving(lambda budget: self._passes(entries, tokens, budget))
        for entry, (answer, begins) in zip(entries, answers, strict=True):
            if answer:
                entry.run.record(epoch, entry.problem, answer)
            elif entry.check:
                self.ask(entry.run, entry.problem, epoch, begins)
        return losses

    def _passes(
        self, entries: list[BatchItem], tokens: dict[int, int], token_budget: int
    ) -> tuple[dict[int, Loss], list[tuple[Answer | None, int | None]]]:
        """Read what is trained on: the loss of each run, and what is known of each check.

        Of an entry that is checked, that is the answer if the pass settles it, and the number of
        reference tokens that it begins with.
        """
        rows = [self._row(entry) for entry in entries]
        trained = [i for i, entry in enumerate(entries) if entry.train]
        runs = {id(entries[i].run): entries[i].run for i in trained}
        losses = {key: Loss(0.0, torch.zeros_like(run.prompt)) for key, run in runs.items()}
        answers: list[tuple[Answer | None, int | None]] = [(None, None)] * len(entries)
        for group in batches([rows[i] for i in trained], token_budget):
            chosen = [trained[k] for k in group]
            members = [entries[i] for i in chosen]
            wishes = {
                r: DecodingRequest(entry.run.longest_answer(entry.problem))
                for r, entry in enumerate(members)
                if entry.check
            }
            reading = read(self.reader, [rows[i] for i in chosen], choose=list(wishes))
            _add_losses(losses, members, reading, tokens)
            known = settled(self.reader, reading, wishes, exact=self.reader is self.frozen)
            for r in wishes:
                answers[chosen[r]] = (known.get(r), agreed(reading, r))
        return losses, answers

    def _halving(self, work: Callable[[int], T]) -> T:
        """Call ``work`` with the token budget, which is halved while a GPU runs out of memory."""
        while True:
            try:
                return work(self.token_budget)
            except torch.OutOfMemoryError:
                if self.token_budget < LEAST_BUDGET:
                    raise
            self.token_budget //= 2  # here the tensors of the pass that failed are gone
            torch.cuda.empty_cache()
            log.warning("out of memory; the token budget is now %d", self.token_budget)

    def ask(self, run: PromptRun, problem: int, epoch: int, begins: int | None) -> None:
        """Let the answer to a problem wait, with the prompt that the check of an epoch keeps."""
        prompt = as_input(run.result.prompts[epoch].to(self.frozen.device), run.spec)
        coded = run.encoded[problem]
        row = Row(prompt, coded, self.contexts.of(coded.before))
        self.waiting.append(PendingCheck(run, problem, epoch, row, begins))

    def _row(self, entry: BatchItem) -> Row:
        coded = entry.run.encoded[entry.problem]
        return Row(entry.run.received(), coded, self.contexts.of(coded.before))


def _entries(training: list[tuple[PromptRun, list[int]]], due: list[PromptRun]) -> list[BatchItem]:
    """Every problem that is trained on or checked, each once."""
    checked = {id(run) for run in due}
    trained = {id(run): chosen for run, chosen in training}
    entries = [
        BatchItem(run, k, True, id(run) in checked) for run, chosen in training for k in chosen
    ]
    return entries + [
        BatchItem(run, k, False, True)
        for run in due
        for k in range(len(run.problems))
        if k not in trained.get(id(run), ())
    ]


def _add_losses(
    losses: dict[int, Loss],
    entries: list[BatchItem],
    reading: ForwardOutput,
    tokens: dict[int, int],
) -> None:
    """Add a pass's part to the mean losses of its runs, and to their gradients."""
    counts = [tokens[id(entry.run)] for entry in entries]
    parts = reading.losses / torch.tensor(counts, device=reading.losses.device)
    runs = list({id(entry.run): entry.run for entry in entries}.values())
    gradients = torch.autograd.grad(parts.sum(), [run.prompt for run in runs])
    for run, gradient in zip(runs, gradients, strict=True):
        losses[id(run)].gradient += gradient
    for entry, part in zip(entries, parts.tolist(), strict=True):
        losses[id(entry.run)].value += part
