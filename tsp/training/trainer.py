"""Train a bank of soft prompts against one frozen model."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from tsp.problems.loading import Problem
from tsp.training.base_lm import BaseLM
from tsp.training.checks import PendingAnswer, decoding_rounds, enough
from tsp.training.decoding import Answer, agreed, batches, greedy_answers, settled
from tsp.training.forward import TokenRow, forward_rows
from tsp.training.members import PromptRun, RunResult
from tsp.training.penalties import penalties
from tsp.training.prefix_cache import PrefixCache
from tsp.training.prompts import as_input
from tsp.training.spec import RunSpec

if TYPE_CHECKING:
    from tsp.training.checkpoints import Checkpoint

log = logging.getLogger(__name__)
T = TypeVar("T")
LEAST_BUDGET = 64  # positions below which a pass that runs out of memory is an error


@dataclass(frozen=True)
class Plan:
    """How a bank is computed; on a CPU the same plan gives the same bytes.

    Parameters
    ----------
    token_budget
        Positions of one forward pass; a larger batch is split into micro-batches. Halved while a
        GPU has too little memory.
    threads
        Threads torch may use on a CPU.
    precision
        Precision of the training passes: ``"float32"``, or ``"bfloat16"`` on a copy of the model.
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
    """Where a bank stands after an epoch."""

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
        First prompt of each run with ``init="trained"``, (n, d), else None; in the order of
        ``specs``.
    plan
        How to compute it.
    on_progress
        Called after every epoch, and once more after the last checks.
    checkpoint
        Where the bank's state is saved; training resumes from it if it belongs to this bank.

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
    together = zip(specs, problems, starts or [None] * len(specs), strict=True)
    runs = [PromptRun(spec, frozen, chosen, start) for spec, chosen, start in together]
    bank = Bank(runs, frozen, plan)
    report = on_progress or (lambda progress: None)
    epoch = 0
    if checkpoint:
        epoch, before = checkpoint.resume(bank)
        begun -= before
    if epoch:
        report(bank.progress(epoch))
    while bank.advance(epoch):
        epoch += 1
        if checkpoint:  # before the display, which may be gone
            checkpoint.reached(bank, epoch, time.perf_counter() - begun)
        report(bank.progress(epoch))
    report(bank.progress(epoch))  # with the last answers
    seconds = (time.perf_counter() - begun) / len(runs)
    for run in runs:
        run.result.seconds, run.result.bank = seconds, len(runs)
    return [run.result for run in runs]


@dataclass
class Loss:
    """Mean cross-entropy of a run over the target tokens of a batch, and its gradient."""

    value: float
    gradient: Tensor  # (n, d)


class Bank:
    """Runs that share forward and backward passes, and the contexts of their problems."""

    def __init__(self, runs: list[PromptRun], frozen: BaseLM, plan: Plan) -> None:
        self.runs, self.frozen, self.plan = runs, frozen, plan
        self.reader = frozen.at(torch.bfloat16) if plan.precision == "bfloat16" else frozen
        dtypes = [frozen.dtype, self.reader.dtype]
        self.contexts = PrefixCache(frozen, plan.context_budget, dtypes=dtypes)
        self.token_budget = plan.token_budget
        self.waiting: list[PendingAnswer] = []
        for run in runs:  # always in this order, since the budget may not suffice for all
            for coded in run.encoded:
                self.contexts.of(coded.before)

    def progress(self, epoch: int) -> Progress:
        """Return where the bank stands after an epoch."""
        results = [run.result for run in self.runs]
        rows = [result.epochs[-1] if result.epochs else {} for result in results]
        training = [run.result.epochs for run in self.runs if run.trains_in(epoch)]
        last = [epochs[-1]["ce"] for epochs in training if epochs] or [math.nan]
        return Progress(
            epoch,
            epochs=max(run.spec.epochs for run in self.runs),
            loss=sum(last) / len(last),
            solved=sum(run.solved for run in self.runs),
            runs=len(self.runs),
            rows=rows,
            correct=[result.correct() for result in results],
        )

    def advance(self, epoch: int) -> bool:
        """Check the runs that are due after ``epoch`` epochs; train those that go on one more.

        The first training pass of an epoch sees the prompts that the check must see, so one pass
        serves both. Returns whether any run trained.
        """
        due = [run for run in self.runs if run.is_due(epoch)]
        steps = {run: run.batches() for run in self.runs if run.trains_in(epoch + 1)}
        for run, prompt in zip(due, on_cpu([run.prompt.detach() for run in due]), strict=True):
            run.result.prompts[epoch] = prompt
        losses = self.losses({run: batches[0] for run, batches in steps.items()}, due, epoch)
        if enough(self.waiting):
            self.answer()
        steps = {run: batches for run, batches in steps.items() if run.trains_in(epoch + 1)}
        rows: dict[PromptRun, list[dict[str, float]]] = defaultdict(list)
        before = {run: run.prompt.detach().clone() for run in steps}
        for k in range(max(map(len, steps.values()), default=0)):
            work = {
                run: batches[k]
                for run, batches in steps.items()
                if k < len(batches) and not run.result.failure
            }
            if k:
                losses = self.losses(work, [], epoch)
            for run, row in zip(work, step_together(list(work), losses), strict=True):
                rows[run].append(row)
        changes = [run.prompt.detach() - before[run] for run in steps]
        for run, moved in zip(steps, norms(changes), strict=True):
            run.close_epoch(epoch + 1, rows[run], moved)
        if not steps:
            self.answer()
        return bool(steps)

    def answer(self) -> None:
        """Decode the answers that wait, those of several epochs together, and close the checks."""
        for answers in decoding_rounds(self.waiting):
            self._decode(answers)
        self.waiting = []
        for run in self.runs:
            run.close_checks()

    def _decode(self, pending: list[PendingAnswer]) -> None:
        """Decode and record answers; those to one prompt and problem once."""
        prompts: dict[bytes, Tensor] = {}
        alike: dict[object, list[PendingAnswer]] = {}
        rows, requests = [], []
        for one in pending:  # runs of one seed begin with the same prompt
            run, k = one.run, one.problem
            prompt = as_input(run.result.prompts[one.epoch], run.spec)
            content = prompt.numpy().tobytes()
            prompt = prompts.setdefault(content, prompt.to(self.frozen.device))
            request = run.request(k, one.agreed)
            key = content, run.encoded[k], request.limit, request.decided
            if key not in alike:
                rows.append(self._row(run, k, prompt))
                requests.append(request)
            alike.setdefault(key, []).append(one)
        answers = self._halving(
            lambda budget: greedy_answers(self.frozen, rows, requests=requests, token_budget=budget)
        )
        for same, answer in zip(alike.values(), answers, strict=True):
            for one in same:
                one.run.record(one.epoch, one.problem, answer)

    def _row(self, run: PromptRun, problem: int, prompt: Tensor) -> TokenRow:
        coded = run.encoded[problem]
        return TokenRow(prompt, coded, self.contexts.of(coded.before))

    def losses(
        self, work: dict[PromptRun, list[int]], due: list[PromptRun], epoch: int
    ) -> dict[PromptRun, Loss]:
        """Return each run's loss over its problems; check the runs that are due on the way."""
        losses, checked = self._halving(lambda budget: self._passes(work, due, budget))
        for (run, k), (answer, _) in checked.items():
            if answer:
                run.record(epoch, k, answer)
        for run in due:
            if run.asks_all(epoch) or not run.is_wrong(epoch):
                for k in range(len(run.problems)):
                    answer, matched = checked.get((run, k), (None, None))
                    if not answer:
                        self.waiting.append(PendingAnswer(run, k, epoch, matched))
        return losses

    def _passes(
        self, work: dict[PromptRun, list[int]], due: list[PromptRun], token_budget: int
    ) -> tuple[dict[PromptRun, Loss], dict[tuple[PromptRun, int], tuple[Answer | None, int]]]:
        """Read what is trained on, in micro-batches.

        Returns the loss of each run; and of each problem of a run that is due the answer, if the
        pass settles it, and the number of reference tokens that the answer begins with.
        """
        items = [(run, k) for run, problems in work.items() for k in problems]
        rows = [self._row(run, k, as_input(run.prompt, run.spec)) for run, k in items]
        tokens = {run: sum(len(run.encoded[k].target) for k in work[run]) for run in work}
        losses = {run: Loss(0.0, torch.zeros_like(run.prompt)) for run in work}
        checked: dict[tuple[PromptRun, int], tuple[Answer | None, int]] = {}
        for group in batches(rows, token_budget):
            requests = {
                r: run.request(k)
                for r, (run, k) in enumerate(items[i] for i in group)
                if run in due
            }
            output = forward_rows(self.reader, [rows[i] for i in group], choose=list(requests))
            members = [items[i][0] for i in group]
            counts = torch.tensor([tokens[run] for run in members], device=output.losses.device)
            parts = output.losses / counts
            runs = list(dict.fromkeys(members))
            gradients = torch.autograd.grad(parts.sum(), [run.prompt for run in runs])
            torch._foreach_add_([losses[run].gradient for run in runs], gradients)
            for run, part in zip(members, parts.tolist(), strict=True):
                losses[run].value += part
            known = settled(self.reader, output, requests, exact=self.reader is self.frozen)
            checked |= {items[group[r]]: (known.get(r), agreed(output, r)) for r in requests}
        return losses, checked

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


def step_together(
    runs: Sequence[PromptRun], losses: dict[PromptRun, Loss]
) -> list[dict[str, float]]:
    """Take one optimiser step of every run: minimise L_ce + lambda_ts L_ts."""
    if not runs:
        return []
    added = penalties([run.spec for run in runs], [run.prompt for run in runs])
    sizes = norms([losses[run].gradient for run in runs])
    rows = []
    for run, (row, gradient), norm in zip(runs, added, sizes, strict=True):
        weight, loss = run.spec.lambda_ts, losses[run]
        row |= {"ce": loss.value, "grad_ce": norm}
        row |= {"total": loss.value + weight * row["reg"] if weight else loss.value}
        if run.spec.weighting == "gradient":
            weight *= norm
        row |= {"lr": run.step(loss.gradient + weight * gradient if weight else loss.gradient)}
        rows.append(row)
    largest = norms([run.prompt.detach() for run in runs], order=math.inf)
    for run, row, value in zip(runs, rows, largest, strict=True):
        run.watch(row, finite=math.isfinite(value))
    return rows


def on_cpu(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of tensors in the CPU's memory; a GPU is asked, and waited for, once."""
    if not tensors:
        return []
    together = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = together.split([tensor.numel() for tensor in tensors])
    return [part.view_as(one).clone() for part, one in zip(parts, tensors, strict=True)]


def norms(tensors: Sequence[Tensor], order: float = 2) -> list[float]:
    """Return the vector norm of each tensor; a GPU is asked, and waited for, once."""
    return torch.stack(torch._foreach_norm(list(tensors), order)).tolist() if tensors else []
