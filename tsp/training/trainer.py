"""Train a bank of soft prompts against one frozen model."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tsp.problems.loading import Problem
from tsp.training.decoding import Wish, agreed, batches, greedy_answers, settled
from tsp.training.forward import Reading, Row, read
from tsp.training.members import Member, RunResult
from tsp.training.models import Frozen
from tsp.training.penalties import penalties
from tsp.training.prefix_cache import Contexts
from tsp.training.prompts import as_input
from tsp.training.spec import RunSpec

if TYPE_CHECKING:
    from tsp.training.checkpoints import Checkpoint

WAITING_ROWS = 48  # answers that are generated together, but for
WAITING_ROUNDS = 6  # checks at most: a run that is solved trains on until they are decided


@dataclass(frozen=True)
class Plan:
    """How a bank is computed, as opposed to what: on a CPU the same plan gives the same bytes.

    Parameters
    ----------
    token_budget
        Positions of one forward pass; a larger batch is split into micro-batches.
    threads
        Threads torch may use on a CPU.
    precision
        Of the training passes: ``"float32"``, which is the model's own, or ``"bfloat16"``, a copy
        of it. Two plans of different precision train alike, not the same.
    context_budget
        Bytes for keys and values of the tokens before the prompts; what does not fit is read with
        every pass, or kept on the host where the model is on another device. 0 shares nothing.
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
    frozen: Frozen,
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
    Stopped
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
    runs = [Member(spec, frozen, own, start) for spec, own, start in every]
    bank = Bank(runs, frozen, plan)
    epoch, before = checkpoint.resume(bank) if checkpoint else (0, 0.0)
    if epoch and on_progress:
        on_progress(bank.progress(epoch))
    while bank.advance(epoch):
        epoch += 1
        if checkpoint:  # first, for nobody may be there to be told
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
class Entry:
    """One problem of one run in a pass: to train on, to check, or both."""

    run: Member
    problem: int
    train: bool
    check: bool

    @property
    def wish(self) -> Wish:
        """How far its answer may go."""
        return self.run.wish(self.problem)


@dataclass(frozen=True)
class Question:
    """A check that no training pass has settled: the prompt as it was, and whose answer it is."""

    run: Member
    problem: int
    epoch: int
    row: Row
    agreed: int | None  # what a training pass says of `Wish.agreed`

    @property
    def wish(self) -> Wish:
        """How far its answer may go."""
        return replace(self.run.wish(self.problem), agreed=self.agreed)

    @property
    def asked(self) -> tuple[Any, ...]:
        """All that the answer depends on."""
        told = blake2b(self.row.prompt.cpu().numpy().tobytes()).digest()
        return (told, self.row.encoded, self.wish.limit)


@dataclass
class Loss:
    """Mean cross-entropy of a run over the target tokens of a batch, and its gradient."""

    value: float
    gradient: Tensor  # (n, d)


class Bank:
    """Runs that share forward and backward passes, and the contexts of their problems."""

    def __init__(self, runs: list[Member], frozen: Frozen, plan: Plan) -> None:
        self.runs, self.frozen, self.plan = runs, frozen, plan
        self.reader = frozen.at(torch.bfloat16) if plan.precision == "bfloat16" else frozen
        dtypes = [frozen.dtype, self.reader.dtype]
        self.contexts = Contexts(frozen, plan.context_budget, dtypes=dtypes)
        self.waiting: list[Question] = []  # generation is cheaper for many rows at once
        for run in runs:  # in this order, on whichever epoch a bank goes on: the budget may not do
            for coded in run.encoded:
                self.contexts.of(coded.before)

    def active(self, epoch: int) -> list[Member]:
        """Runs that train in this epoch; a finished run leaves the bank."""
        return [run for run in self.runs if run.wants(epoch)]

    def progress(self, epoch: int) -> Progress:
        """Where the bank stands after an epoch."""
        trained = [run.result.epochs for run in self.active(epoch) if run.result.epochs]
        last = [rows[-1]["ce"] for rows in trained] or [math.nan]
        solved = sum(run.solved for run in self.runs)
        longest = max(run.spec.epochs for run in self.runs)
        rows = [run.result.epochs[-1] if run.result.epochs else {} for run in self.runs]
        correct = [run.correct() for run in self.runs]
        loss = sum(last) / len(last)
        return Progress(epoch, longest, loss, solved, len(self.runs), rows, correct)

    def advance(self, epoch: int) -> bool:
        """Check the runs that are due after ``epoch`` epochs; train those that go on one more.

        The first training pass of an epoch sees the prompts that the check must see, so one pass
        serves both. Says whether any run went on.
        """
        due = [run for run in self.runs if _is_due(run, epoch)]
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
            moved = (run.prompt.detach() - before[id(run)]).norm().item()
            row = _epoch_row(epoch + 1, run.steps, logs[id(run)])
            run.result.epochs.append(row | {"moved": moved})
        if not going:
            self.answer()
        return bool(going)

    def answer(self) -> None:
        """Decode the answers that wait, those of several epochs together, and close the checks."""
        alike: dict[tuple[Any, ...], list[Question]] = defaultdict(list)
        for question in self.waiting:  # runs of one seed begin with the same prompt
            alike[question.asked].append(question)
        first = [questions[0] for questions in alike.values()]
        answers = greedy_answers(
            self.frozen,
            [question.row for question in first],
            wishes=[question.wish for question in first],
            token_budget=self.plan.token_budget,
            context_budget=self.plan.context_budget,
        )
        for questions, answer in zip(alike.values(), answers, strict=True):
            for question in questions:
                question.run.record(question.epoch, question.problem, answer)
        self.waiting = []
        for run in self.runs:
            run.close_checks()

    def _losses(
        self, training: list[tuple[Member, list[int]]], due: list[Member], epoch: int
    ) -> dict[int, Loss]:
        """Loss of each run over its batch; the runs that are due are checked on the way."""
        entries = _entries(training, due)
        tokens = {id(run): sum(len(run.encoded[k].target) for k in own) for run, own in training}
        losses = {id(run): Loss(0.0, torch.zeros_like(run.prompt)) for run, _ in training}
        rows = [self._row(entry) for entry in entries]
        trained = [i for i, entry in enumerate(entries) if entry.train]
        open_: dict[int, int | None] = {
            i: None for i, entry in enumerate(entries) if not entry.train
        }
        budgets = (self.plan.token_budget, self.plan.context_budget)
        for group in batches([rows[i] for i in trained], *budgets):
            chosen = [trained[k] for k in group]
            members = [entries[i] for i in chosen]
            check = [r for r, entry in enumerate(members) if entry.check]
            reading = read(self.reader, [rows[i] for i in chosen], choose=check)
            _add_losses(losses, members, reading, tokens)
            wishes = {r: members[r].wish for r in check}
            known = settled(self.reader, reading, wishes, exact=self.reader is self.frozen)
            for r, answer in known.items():
                members[r].run.record(epoch, members[r].problem, answer)
            open_ |= {chosen[r]: agreed(reading, r) for r in check if r not in known}
        for i, begins in sorted(open_.items()):
            self.ask(entries[i].run, entries[i].problem, epoch, begins)
        return losses

    def ask(self, run: Member, problem: int, epoch: int, begins: int | None) -> None:
        """Let the answer to a problem wait, with the prompt that the check of an epoch keeps."""
        prompt = as_input(run.result.prompts[epoch].to(self.frozen.device), run.spec)
        coded = run.encoded[problem]
        row = Row(prompt, coded, self.contexts.of(coded.before))
        self.waiting.append(Question(run, problem, epoch, row, begins))

    def _row(self, entry: Entry) -> Row:
        coded = entry.run.encoded[entry.problem]
        return Row(entry.run.received(), coded, self.contexts.of(coded.before))


def step_together(work: list[Member], losses: dict[int, Loss]) -> list[dict[str, float]]:
    """One optimiser step of every run in ``work``: minimise L_ce + lambda_ts L_ts."""
    if not work:
        return []
    added = penalties([run.spec for run in work], [run.prompt for run in work])
    norms = torch.stack([losses[id(run)].gradient.norm() for run in work]).tolist()
    rows = []
    for run, (row, gradient), norm in zip(work, added, norms, strict=True):
        weight, own = run.spec.lambda_ts, losses[id(run)]
        row |= {"ce": own.value, "grad_ce": norm}
        row |= {"total": own.value + weight * row["reg"] if weight else own.value}
        if run.spec.weighting == "gradient":
            weight *= norm
        row |= {"lr": run.step(own.gradient + weight * gradient if weight else own.gradient)}
        run.watch(row)
        rows.append(row)
    return rows


def _entries(training: list[tuple[Member, list[int]]], due: list[Member]) -> list[Entry]:
    """Every problem that is trained on or checked, each once."""
    checked = {id(run) for run in due}
    trained = {id(run): chosen for run, chosen in training}
    entries = [Entry(run, k, True, id(run) in checked) for run, chosen in training for k in chosen]
    return entries + [
        Entry(run, k, False, True)
        for run in due
        for k in range(len(run.problems))
        if k not in trained.get(id(run), ())
    ]


def _add_losses(
    losses: dict[int, Loss], entries: list[Entry], reading: Reading, tokens: dict[int, int]
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


def _is_due(run: Member, epoch: int) -> bool:
    regular = epoch % run.spec.check_every == 0 or epoch == run.spec.epochs
    return epoch == 0 or (regular and run.wants(epoch))


def _epoch_row(epoch: int, steps: int, rows: list[dict[str, float]]) -> dict[str, float]:
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {"epoch": epoch, "step": steps} | means | {"lr": rows[-1]["lr"]}
