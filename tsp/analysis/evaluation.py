"""Answers of trained prompts to held-out problems, and the loss of the reference answers."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tsp.analysis.records import (
    ANSWER_COLUMNS,
    ANSWER_KEY,
    NO_PROMPT,
    load_heldout,
    load_runs,
    read_heldout,
)
from tsp.analysis.units import at_defaults, one_of_each
from tsp.atomic import replacing
from tsp.errors import InputError
from tsp.problems.loading import Problem, is_correct, load_problems, score
from tsp.problems.scoring import DECIDED
from tsp.store.runs import ANSWERS, Run, Store
from tsp.training.decoding import EXTRA_TOKENS, DecodingRequest, batches, greedy_answers
from tsp.training.forward import TokenRow, forward_rows
from tsp.training.members import encode_all
from tsp.training.models import BaseLM, load
from tsp.training.precision import choose
from tsp.training.prefix_cache import PrefixCache
from tsp.training.prompts import as_input
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

AT_ONCE = 5  # problems that are asked before the answers are kept

Prompts = Mapping[str, tuple[RunSpec, torch.Tensor] | None]


def evaluate(
    frozen: BaseLM,
    prompts: Prompts,
    problems: Sequence[Problem],
    *,
    limit: int = 0,
    decode: bool = True,
    skip: Collection[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Measure the reference's cross-entropy of every prompt and problem, and decode greedily.

    Prompts are given by name, such as a run's id: the spec that says where the prompt goes, and the
    prompt, (n, d); None is the model without a prompt. ``limit`` is the longest answer in tokens
    (0: `longest_answer`); ``skip`` leaves out pairs of a name and a problem's hash.

    Returns
    -------
    DataFrame
        `tsp.analysis.records.ANSWER_COLUMNS`, one row per prompt and problem. ``ce`` is the mean
        over the ``target_tokens`` of the reference, each predicted from those before it, in nats
        per token. Without decoding ``longest`` is 0, ``score`` and ``correct`` are missing.
    """
    plan = Plan()
    limit = (limit or longest_answer(frozen, problems)) if decode else 0
    pairs = [
        (name, problem)
        for problem in problems  # those that share a context side by side
        for name in prompts
        if (name, problem.sha256) not in skip
    ]
    contexts = PrefixCache(frozen, plan.context_budget, dtypes=[frozen.dtype])
    rows = [_row(frozen, prompts[name], problem, contexts) for name, problem in pairs]
    table = pd.DataFrame([vars(problem) for _, problem in pairs], columns=ANSWER_COLUMNS)
    table = table.assign(
        id=[name for name, _ in pairs],
        model=frozen.name,
        longest=limit,
        precision=_precision(frozen),
        ce=_losses(frozen, rows, plan),
        target_tokens=[len(row.encoded.target) for row in rows],
    )
    if decode:
        requests = [
            DecodingRequest(limit, agreed=0, decided=DECIDED.get(problem.metric))
            for _, problem in pairs
        ]
        answers = greedy_answers(frozen, rows, requests=requests, token_budget=plan.token_budget)
        said = [(problem, it.text) for (_, problem), it in zip(pairs, answers, strict=True)]
        table["score"] = [score(*answer) for answer in said]
        table["correct"] = [is_correct(*answer) for answer in said]
    return table.astype({"score": float, "correct": "boolean"})


def _row(
    frozen: BaseLM,
    prompt: tuple[RunSpec, torch.Tensor] | None,
    problem: Problem,
    contexts: PrefixCache,
) -> TokenRow:
    """Return what the model reads: the prompt, or no vectors, about the encoded problem."""
    spec, vectors = prompt or (RunSpec(), torch.zeros(0, frozen.dim))
    (encoded,) = encode_all(spec, frozen, [problem])
    received = as_input(vectors.float(), spec).to(frozen.device)
    return TokenRow(received, encoded, contexts.of(encoded.before))


@torch.no_grad()
def _losses(frozen: BaseLM, rows: Sequence[TokenRow], plan: Plan) -> np.ndarray:
    """Mean cross-entropy over each row's target tokens."""
    sums = np.empty(len(rows))
    for group in batches(rows, plan.token_budget):
        sums[group] = forward_rows(frozen, [rows[i] for i in group]).losses.tolist()
    return sums / [len(row.encoded.target) for row in rows]


def _precision(frozen: BaseLM) -> str:
    return str(frozen.dtype).removeprefix("torch.")


def longest_answer(frozen: BaseLM, problems: Sequence[Problem]) -> int:
    """Return the tokens that any answer may have: `EXTRA_TOKENS` more than the longest reference.

    The length of a problem's own reference would give something of the answer away.
    """
    encoded = encode_all(RunSpec(), frozen, problems)
    return max(len(one.target) for one in encoded) + EXTRA_TOKENS


def runs_to_evaluate(
    store: Store, *, task: str, model: str, protocol: str = "tuned", regime: str = "single"
) -> list[Run]:
    """Select comparable runs: without a regulariser, and with each at weight 1.

    They have stored prompts, are at the protocol's defaults, and cover only those problems (or
    sets of ten) and seeds that were trained with the most methods.
    """
    runs = load_runs(store)
    runs = runs[runs.task.eq(task) & runs.model.eq(model) & runs.protocol.eq(protocol)]
    runs = runs[runs.regime.eq(regime) & runs.lambda_ts.isin([0.0, 1.0])]
    runs = at_defaults(runs, protocol=protocol)
    runs = one_of_each(runs.assign(arm=runs.method), None)
    kept = {run.id: run for run in map(store.read, runs.id) if run.prompt_epochs}
    runs = runs[runs.id.isin(kept)]
    methods = runs.groupby(["content", "seed"]).method.transform("nunique")
    return [kept[run_id] for run_id in runs.id[methods == methods.max()]]


def remember(store: Store, answers: pd.DataFrame) -> Path:
    """Merge answers into the store's ``heldout/answers.parquet``; return its path.

    An answer replaces an earlier one with the same `ANSWER_KEY`.
    """
    path = store.root / ANSWERS
    both = answers
    if path.is_file():
        both = pd.concat([read_heldout(path), answers], ignore_index=True)
    both = both.drop_duplicates(ANSWER_KEY, keep="last")
    with replacing(path) as work:
        both.sort_values(["model", "task", "id", "row"]).to_parquet(work, index=False)
    return path


def ask(
    store: Store,
    *,
    task: str,
    model: str,
    data: str | Path,
    rows: range,
    protocol: str = "tuned",
    regime: str = "single",
    decode: bool = True,
    device: str = "auto",
    precision: str = "float32",
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Evaluate the last prompt of each compared run, and no prompt, and save the answers.

    Each prompt gets those of the problems (`tsp.problems.loading.load_problems`, in tens) that it
    was not trained on. Answers are saved after every few problems and not computed again, so that
    an evaluation can be interrupted. ``precision`` is the model's: unlike a check of a run, an
    answer depends on it. ``tell`` is called with the number of problems done, and of all.

    Returns
    -------
    DataFrame
        The answers, `tsp.analysis.records.ANSWER_COLUMNS`, and the ``method`` of each prompt.

    Raises
    ------
    InputError
        If there are no runs to compare, or no problem is left.
    """
    runs = runs_to_evaluate(store, task=task, model=model, protocol=protocol, regime=regime)
    if not runs:
        sweep = "baselines" if regime == "single" else "table3"
        remedy = f"{store.root} has no prompts of it; `tsp sweep {sweep}` trains some"
        raise InputError("prompts", f"{task}, {model}, {protocol}, {regime}", remedy)
    trained = {(run.id, problem["sha256"]) for run in runs for problem in run.record["problems"]}
    tens = (load_problems(task, data=data, regime="multi", problem=row) for row in rows[::10])
    problems = [problem for ten in tens for problem in ten][: len(rows)]
    problems = _lacking(problems, [run.id for run in runs], trained)
    if not problems:
        raise InputError("rows", f"{rows[0]} to {rows[-1]}", "all are trained on; give others")
    frozen = load(model, device=device)
    if choose(precision, frozen) == "bfloat16":
        frozen = frozen.at(torch.bfloat16)
    prompts: dict[str, tuple[RunSpec, torch.Tensor] | None] = {NO_PROMPT: None}
    prompts |= {run.id: (run.spec, run.prompt(run.prompt_epochs[-1])) for run in runs}
    limit = longest_answer(frozen, problems) if decode else 0
    pairs = {(name, problem.sha256) for problem in problems for name in prompts}
    answers = _measured(store, frozen, limit, pairs)
    skip = trained.union(zip(answers.id, answers.sha256, strict=True))
    for done in range(0, len(problems), AT_ONCE):
        tell(done, len(problems))
        few = _lacking(problems[done : done + AT_ONCE], prompts, skip)
        if few:
            remember(store, evaluate(frozen, prompts, few, limit=limit, decode=decode, skip=skip))
    methods = {NO_PROMPT: NO_PROMPT} | {run.id: run.spec.method for run in runs}
    places = {name: place for place, name in enumerate(methods)}  # the floor first
    answers = _measured(store, frozen, limit, pairs)
    answers = answers.sort_values("id", key=lambda ids: ids.map(places), kind="stable")
    return answers.assign(method=answers.id.map(methods))


def _lacking(
    problems: Sequence[Problem], names: Collection[str], skip: Collection[tuple[str, str]]
) -> list[Problem]:
    """Select the problems that some prompt has yet to be asked."""
    return [one for one in problems if any((name, one.sha256) not in skip for name in names)]


def _measured(
    store: Store, frozen: BaseLM, limit: int, pairs: Collection[tuple[str, str]]
) -> pd.DataFrame:
    """Load what is stored of pairs of prompt and problem; if ``limit`` is 0, the losses alone."""
    rows = load_heldout(store)
    rows = rows[(rows.model == frozen.name) & (rows.precision == _precision(frozen))]
    rows = rows[(rows.longest == limit) if limit else rows.ce.notna()]
    rows = rows[rows.set_index(["id", "sha256"]).index.isin(pairs)]
    rows = rows.drop_duplicates(["id", "sha256"])
    return rows if limit else rows.assign(longest=0, score=np.nan, correct=pd.NA)
