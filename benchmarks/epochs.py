"""An epoch of a run with its checks, in a bank and with PEFT, from stored states of training."""

import statistics
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmarks import states
from benchmarks.measuring import Done, Work, compared
from benchmarks.training import RUNS, THEIRS, Row, Side, peer, same_work
from tsp.training.checks import PendingAnswer
from tsp.training.spec import RunSpec
from tsp.training.trainer import Bank

if TYPE_CHECKING:
    from benchmarks.peft_training import Answers

PEER = "PEFT, Trainer and generate"
PEER_EPOCHS = {"single": 4, "multi": 1}  # of one training: its start counts less
NOISE = 1e-3  # of a prompt's size: the runs of a bank have prompts of their own


def from_states(
    side: Side,
    repeats: int,
    *,
    regime: str,
    chosen: Sequence[str],
    runs: int = RUNS,
    alike: bool = False,
) -> list[Row]:
    """Time the parts of an epoch: passes, which cost the same in each state, and the checks.

    ``chosen`` names the states (`benchmarks.states.STATES`).

    An epoch and run costs a pass over the problems and a ``check_every``-th of a check, which are
    timed apart. One in ``check_every`` of our passes also settles the beginnings of the answers.
    The checks are those of ``snapshot_every`` epochs: of several problems all but the last end at
    the first wrong answer. PEFT's loop asks for all answers at every check and decodes each to its
    end; ``peer_rule_times`` are with our rules in it. If it is asked for, the first state is also
    timed ``alike``: with our passes in float32, as PEFT's are, and then also with our prompts where
    PEFT's are, before everything else.
    """
    from benchmarks.peft_training import Answers

    problems, specs, alone = same_work(side, runs, regime=regime)
    bank = side.bank(specs, problems)
    train = peer(alone.but(epochs=PEER_EPOCHS[regime]), side, problems, check=False)
    # To warm up on ten problems would take as long as a repeat.
    passes = compared(
        f"pass_{regime}", partial(_passes, bank), train, repeats, PEER, warm=regime == "single"
    )
    rows = []
    for state in chosen:
        ours = _checks(bank, states.load(regime, "after_question", state))
        prompt = states.load(regime, "prefix", state)
        answers = Answers.of(alone, side.frozen, problems, prompt)
        answers.right([0], stop=True)  # warm, as ours are
        right: list[bool] = []
        ask = partial(_ask, answers, right)
        others: dict[str, Work] = {"whole": partial(answers.right, stop=True)}
        if regime == "multi":
            others["short"] = partial(_ask_few, answers, right)
        name = f"check_{regime}_{state}"
        checks = compared(name, ours, ask, repeats, PEER, warm=False, others=others)
        row = _epoch(f"epoch_{regime}_{state}_vs_peft", alone, passes, checks)
        asked = checks["whole_times"]
        if regime == "multi":
            asked = _mixed(alone, asked, checks["short_times"])
        row |= _sums("peer_rule", alone, passes["peer_times"], asked)
        rows.append(row | side.columns(alone))
        if alike and state == "early":
            plain = Side(side.frozen, "float32")
            if side.precision != "float32":
                slow = partial(_passes, plain.bank(specs, problems))
                other = compared("pass_float32", slow, train, repeats, PEER)
                row = _epoch("epoch_single_early_vs_peft_float32", alone, other, checks)
                rows.append(row | plain.columns(alone))
            first = plain.bank([spec.but(placement="prefix") for spec in specs], problems)
            other = compared("pass_alike", partial(_passes, first), train, repeats, PEER)
            ours = _checks(first, prompt)
            checks = compared("check_alike", ours, ask, repeats, PEER, warm=False)
            row = _epoch("epoch_single_early_vs_peft_alike", alone, other, checks)
            rows.append(row | plain.columns(alone))
    return [row | {"unit": "s per epoch and run", "runs": runs} | THEIRS for row in rows]


def _passes(bank: Bank) -> Done:
    """Train from one check to the next, whose answers are not decoded but dropped."""
    every = bank.runs[0].spec.check_every
    for epoch in range(1, every + 1):
        bank.advance(epoch)
    bank.waiting.clear()
    for run in bank.runs:
        run.result.checks.clear()
    return Done(len(bank.runs) * every)


def _ask(answers: "Answers", right: list[bool]) -> None:
    """Ask PEFT's model for all answers, and keep which are right."""
    right[:] = answers.right()


def _ask_few(answers: "Answers", right: list[bool]) -> None:
    """Ask for answers until one is wrong; those that are known to be wrong come first."""
    answers.all_right(sorted(range(len(right)), key=right.__getitem__))


def _checks(bank: Bank, prompt: torch.Tensor) -> Work:
    """Return the work of the answers that the checks of ``snapshot_every`` epochs wait for.

    Each run sees the stored prompt with a little noise of its own, another at each check, since
    answers to equal prompts are decoded once. What a pass settles is settled beforehand with the
    first of these prompts, as is a check of all problems before.
    """
    spec, noise = bank.runs[0].spec, torch.Generator().manual_seed(0)
    due = range(0, spec.snapshot_every + 1, spec.check_every)
    for run in bank.runs:
        for epoch in due:
            moved = NOISE * prompt.std() * torch.randn(prompt.shape, generator=noise)
            run.result.prompts[epoch] = prompt + moved
        run.prompt.data.copy_(run.result.prompts[0])
        run.result.checks.clear()
    bank.losses({run: run.batches()[0] for run in bank.runs}, bank.runs, 0)
    settled = {run: list(run.result.checks) for run in bank.runs}
    unsettled = list(bank.waiting)
    bank.answer()
    waiting: list[PendingAnswer] = []
    for epoch in due[1:]:
        for run in bank.runs:
            run.result.checks += [check | {"epoch": epoch} for check in settled[run]]
        asked = (one._replace(epoch=epoch) for one in unsettled)
        waiting += (one for one in asked if one.run.asks_all(epoch) or not one.run.is_wrong(epoch))
    known = [list(run.result.checks) for run in bank.runs]

    def work() -> Done:
        bank.waiting = list(waiting)
        for run, checks in zip(bank.runs, known, strict=True):
            run.result.checks[:] = checks
        bank.answer()
        return Done(len(bank.runs) * (len(due) - 1))

    return work


def _epoch(name: str, spec: RunSpec, passes: Row, checks: Row) -> Row:
    """Add a part of a check to each time of a pass; medians of the sums are the row's."""
    row: Row = {"name": name, "repeats": passes["repeats"], "peer_name": PEER}
    for side in ("ours", "peer"):
        row |= _sums(side, spec, passes[f"{side}_times"], checks[f"{side}_times"])
        row |= {f"{side}_pass": passes[side], f"{side}_check": checks[side]}
    return row | {"ratio": row["peer"] / row["ours"]}


def _sums(side: str, spec: RunSpec, passes: list[float], checks: list[float]) -> Row:
    times = [one + other / spec.check_every for one, other in zip(passes, checks, strict=True)]
    return {f"{side}_times": times, side: statistics.median(times)}


def _mixed(spec: RunSpec, whole: list[float], short: list[float]) -> list[float]:
    """Return times of a check if all but one in ``snapshot_every`` epochs are short."""
    share = spec.check_every / spec.snapshot_every
    return [share * one + (1 - share) * other for one, other in zip(whole, short, strict=True)]
