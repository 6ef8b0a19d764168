"""Held-out problems: the answers of trained prompts, and the loss of the reference answer."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsp.analysis.records import (
    ANSWER_COLUMNS,
    ANSWER_KEY,
    NO_PROMPT,
    load_heldout,
    load_runs,
)
from tsp.analysis.stats import FEWEST, bootstrap_interval, holm
from tsp.analysis.units import at_defaults, one_of_each
from tsp.analysis.verdicts import contrasts
from tsp.atomic import replacing
from tsp.errors import InputError
from tsp.problems.loading import Problem, is_correct, load_problems, score
from tsp.store.runs import ANSWERS, Run, Store
from tsp.training.decoding import EXTRA_TOKENS, DecodingRequest, batches, greedy_answers
from tsp.training.forward import Row, read
from tsp.training.models import BaseLM, load
from tsp.training.precision import choose
from tsp.training.prefix_cache import PrefixCache
from tsp.training.prompts import as_input
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

AT_ONCE = 5  # problems that are asked before the answers are kept
PROBLEM = ["model", "task", "precision", "sha256", "target_tokens"]
SET = ["model", "task", "content"]
RUN = [*PROBLEM, "content", "seed", "epochs"]
CHANGE = ["problems", "with_base", "with_method", "change", "low", "high", "lower"]

Prompts = Mapping[str, tuple[RunSpec, torch.Tensor] | None]


def evaluate(
    frozen: BaseLM,
    prompts: Prompts,
    problems: Sequence[Problem],
    *,
    limit: int = 0,
    plan: Plan | None = None,
    decode: bool = True,
    skip: Collection[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Measure the reference's cross-entropy of every prompt and problem, and decode greedily.

    Parameters
    ----------
    frozen
        The model, in the precision that is to answer.
    prompts
        By name, such as a run's id: the spec that says where the prompt goes, and the prompt,
        (n, d); None for the answers without a prompt, the floor.
    problems
        Problems that no prompt should have been trained on.
    limit
        Tokens of the longest answer; 0: `longest_answer` of these problems.
    plan
        How many positions a pass has, and how much memory contexts may take.
    decode
        Decode answers; otherwise only measure the cross-entropy, in a single pass.
    skip
        Pairs of a prompt's name and a problem's hash to leave out.

    Returns
    -------
    DataFrame
        `tsp.analysis.records.ANSWER_COLUMNS`, one row a prompt and problem; ``id`` is the prompt's
        name. ``ce`` is the mean over the ``target_tokens`` of the reference, each predicted from
        those before it, in nats per token. Without decoding ``longest`` is 0, ``score`` and
        ``correct`` are missing.
    """
    plan = plan or Plan()
    asked = [
        (name, problem)
        for problem in problems  # those that share a context side by side
        for name in prompts
        if (name, problem.sha256) not in skip
    ]
    rows = _rows(frozen, prompts, asked, plan)
    limit = (limit or longest_answer(frozen, problems)) if decode else 0
    answers = [{"id": name, "model": frozen.name, "longest": limit} for name, _ in asked]
    for answer, (_, problem), row, ce in zip(
        answers, asked, rows, _losses(frozen, rows, plan), strict=True
    ):
        answer |= {name: getattr(problem, name) for name in ("task", "source", "row", "sha256")}
        answer |= {"precision": _precision(frozen), "ce": ce}
        answer["target_tokens"] = len(row.encoded.target)
    for answer, (_, problem), text in zip(
        answers, asked, _texts(frozen, rows, limit, plan) if decode else (), strict=decode
    ):
        answer |= {"score": float(score(problem, text)), "correct": is_correct(problem, text)}
    table = pd.DataFrame(answers, columns=list(ANSWER_COLUMNS))
    return table.astype({"score": float, "correct": "boolean"})


def _rows(
    frozen: BaseLM, prompts: Prompts, asked: Sequence[tuple[str, Problem]], plan: Plan
) -> list[Row]:
    contexts = PrefixCache(frozen, plan.context_budget, dtypes=[frozen.dtype])
    rows = []
    for name, problem in asked:
        spec, vectors = prompts[name] or (RunSpec(), torch.zeros(0, frozen.dim))
        coded = frozen.encode(
            problem.question,
            problem.target,
            placement=spec.placement,
            end=spec.settings.end_token,
        )
        received = as_input(vectors.float(), spec) if len(vectors) else vectors
        rows.append(Row(received.to(frozen.device), coded, contexts.of(coded.before)))
    return rows


@torch.no_grad()
def _losses(frozen: BaseLM, rows: Sequence[Row], plan: Plan) -> list[float]:
    """Mean cross-entropy over each row's target tokens."""
    losses = np.empty(len(rows))
    for group in batches(rows, plan.token_budget):
        sums = read(frozen, [rows[i] for i in group]).losses.tolist()
        losses[group] = [
            ce / len(rows[i].encoded.target) for i, ce in zip(group, sums, strict=True)
        ]
    return losses.tolist()


def _texts(frozen: BaseLM, rows: Sequence[Row], limit: int, plan: Plan) -> list[str]:
    """Decode each row's answer."""
    answers = greedy_answers(
        frozen,
        rows,
        wishes=[DecodingRequest(limit, agreed=0) for row in rows],
        token_budget=plan.token_budget,
    )
    return [answer.text for answer in answers]


def _precision(frozen: BaseLM) -> str:
    return str(frozen.dtype).removeprefix("torch.")


def longest_answer(frozen: BaseLM, problems: Sequence[Problem]) -> int:
    """Return the tokens that any answer may have: `EXTRA_TOKENS` more than the longest reference.

    The length of a problem's own reference would give something of the answer away.
    """
    end = RunSpec().settings.end_token
    coded = [
        frozen.encode(it.question, it.target, placement=RunSpec().placement, end=end)
        for it in problems
    ]
    return max(len(it.target) for it in coded) + EXTRA_TOKENS


def compared(
    store: Store, *, task: str, model: str, protocol: str = "tuned", regime: str = "single"
) -> list[Run]:
    """Return the runs to evaluate: each regulariser at weight 1, on equal terms.

    They have stored prompts, are at the protocol's defaults, and cover only those problems (or
    sets of ten) and seeds that were trained with the most methods.
    """
    runs = load_runs(store)
    runs = runs[runs.task.eq(task) & runs.model.eq(model) & runs.protocol.eq(protocol)]
    runs = runs[runs.regime.eq(regime) & runs.lambda_ts.isin([0.0, 1.0])]
    runs = at_defaults(runs, protocol=protocol)
    runs = one_of_each(runs.assign(arm=runs.method), None)
    kept = [run for run in map(store.read, runs.id) if run.prompt_epochs]
    runs = runs[runs.id.isin([run.id for run in kept])]
    methods = runs.groupby(["content", "seed"]).method.transform("nunique")
    chosen = set(runs.id[methods == methods.max()])
    return [run for run in kept if run.id in chosen]


def remember(store: Store, answers: pd.DataFrame) -> Path:
    """Save answers in the store's ``heldout/answers.parquet``, in place of older ones."""
    path = store.root / ANSWERS
    known = load_heldout(store)
    both = pd.concat([known, answers], ignore_index=True) if len(known) else answers
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
    tell: Callable[[int, int], None] = lambda done, all: None,
) -> pd.DataFrame:
    """Evaluate the last prompt of each compared run, and no prompt, and save the answers.

    Answers are saved after every few problems and not computed again, so that an evaluation can
    be interrupted.

    Parameters
    ----------
    store
        Where the runs are, and where the answers go (`remember`).
    task, model, protocol, regime
        Select the runs (`compared`).
    data, rows
        Problems, as `tsp.problems.loading.load_problems` takes them, in tens. Each prompt gets
        those that it was not trained on.
    decode
        As for `evaluate`.
    device, precision
        As `tsp.training.models.load` and `tsp.training.precision.choose` take them. Unlike a check
        of a run, an answer is that of the model in this precision, so the default is not ``auto``.
    tell
        Called with the number of problems that are done, and of all.

    Returns
    -------
    DataFrame
        The answers, `tsp.analysis.records.ANSWER_COLUMNS`, and the ``method`` of each prompt.

    Raises
    ------
    InputError
        If there are no runs to compare, or no problem is left.
    """
    runs = compared(store, task=task, model=model, protocol=protocol, regime=regime)
    if not runs:
        sweep = "baselines" if regime == "single" else "table3"
        remedy = f"{store.root} has no prompts of it; `tsp sweep {sweep}` trains some"
        raise InputError("task", task, remedy)
    trained = {(run.id, it["sha256"]) for run in runs for it in run.record["problems"]}
    tens = (load_problems(task, data=data, regime="multi", problem=row) for row in rows[::10])
    problems = [problem for ten in tens for problem in ten][: len(rows)]
    ids = [run.id for run in runs]
    problems = [problem for problem in problems if _lacking(problem, ids, trained)]
    if not problems:
        raise InputError("rows", f"{rows[0]} to {rows[-1]}", "all are trained on; give others")
    frozen = load(model, device=device)
    if choose(precision, frozen) == "bfloat16":
        frozen = frozen.at(torch.bfloat16)
    prompts: dict[str, tuple[RunSpec, torch.Tensor] | None] = {NO_PROMPT: None}
    prompts |= {run.id: (run.spec, run.prompt(run.prompt_epochs[-1])) for run in runs}
    limit = longest_answer(frozen, problems) if decode else 0

    hashes = [problem.sha256 for problem in problems]

    def known() -> pd.DataFrame:
        rows = load_heldout(store)
        rows = rows[(rows.model == frozen.name) & (rows.precision == _precision(frozen))]
        rows = rows[(rows.longest == limit) if decode else rows.ce.notna()]
        rows = rows[rows.id.isin(prompts) & rows.sha256.isin(hashes)]
        rows = rows.drop_duplicates(["id", "sha256"])
        return rows if decode else rows.assign(longest=0, score=np.nan, correct=pd.NA)

    for done in range(0, len(problems), AT_ONCE):
        tell(done, len(problems))
        skip = trained.union(known()[["id", "sha256"]].itertuples(index=False, name=None))
        few = problems[done : done + AT_ONCE]
        few = [problem for problem in few if _lacking(problem, prompts, skip)]
        if few:
            remember(store, evaluate(frozen, prompts, few, limit=limit, decode=decode, skip=skip))
    places = {name: place for place, name in enumerate(prompts)}  # the floor first
    answers = known().sort_values("id", key=lambda ids: ids.map(places), kind="stable")
    methods = {run.id: run.spec.method for run in runs} | {NO_PROMPT: NO_PROMPT}
    return answers.assign(method=answers.id.map(methods))


def _lacking(problem: Problem, names: Iterable[str], known: Collection[tuple[str, str]]) -> bool:
    """Whether some prompt has yet to be asked a problem."""
    return any((name, problem.sha256) not in known for name in names)


def paired_losses(
    rows: pd.DataFrame, runs: pd.DataFrame, *, method: str = "tsloss", base: str = "ce"
) -> pd.DataFrame:
    """Compare the reference's cross-entropy under two methods, problem by problem.

    The unit is the set of problems that prompts were trained on. The estimand, for each set, is
    the expected change in the mean cross-entropy (nats per target token) of the reference answer
    of a problem outside the set, when its prompt is trained with ``method`` instead of ``base``.
    Runs of a pair share set, seed and length, the longest there is; the pairs of a set are
    averaged problem by problem first.

    Parameters
    ----------
    rows
        Rows of `tsp.analysis.records.load_heldout`. Of several precisions float32 is taken.
    runs
        The runs to compare, rows of `tsp.analysis.records.load_runs`.
    method, base
        Methods of `tsp.training.spec.METHODS`; ``base`` may be `tsp.analysis.records.NO_PROMPT`.

    Returns
    -------
    DataFrame
        One row a set: ``model``, ``task``, ``content``; ``problems`` that were asked under both;
        the mean cross-entropy ``with_base`` and ``with_method``; ``change``, the second less the
        first, and its 95 % bootstrap interval over problems, ``low`` to ``high`` (nan for fewer
        than six); ``lower``, the share of problems whose cross-entropy is lower with ``method``.

    Notes
    -----
    The interval is about other problems for the same prompts, not about other sets or seeds.
    """
    losses = rows[rows.ce.notna()].sort_values("precision", key=lambda it: it != "float32")
    losses = losses.drop_duplicates(["id", "model", "task", "sha256"])
    losses = losses[[*PROBLEM, "id", "ce"]]
    prompts = losses.merge(runs[["id", "method", "content", "seed", "epochs"]], on="id")
    treated, plain, on = prompts[prompts.method == method], prompts[prompts.method == base], RUN
    if base == NO_PROMPT:
        plain, on = losses[losses.id == NO_PROMPT], PROBLEM
    both = treated.merge(plain[[*on, "ce"]], on=on, suffixes=("", "_base")).sort_values("epochs")
    both = both.drop_duplicates([*PROBLEM, "content", "seed"], keep="last")
    problems = both.groupby([*SET, "sha256"])[["ce_base", "ce"]].mean()
    rows_of_sets = []
    for key, set_ in problems.groupby(SET, sort=False):
        change = (set_.ce - set_.ce_base).to_numpy()
        means = [len(change), set_.ce_base.mean(), set_.ce.mean(), change.mean()]
        interval = bootstrap_interval(change, np.mean)
        rows_of_sets.append([*key, *means, *interval, (change < 0).mean()])
    return pd.DataFrame(rows_of_sets, columns=[*SET, *CHANGE])


def across_sets(changes: Mapping[str, Any]) -> pd.DataFrame:
    """Summarise changes of several comparisons over sets, one number a set.

    Returns the columns of `tsp.analysis.verdicts.contrasts` and ``few``: whether there are fewer
    than six sets. No test of so few can be below 0.05, so p and the interval are nan there.
    """
    table = contrasts(changes)
    few = table.n < FEWEST
    return table.assign(few=few, p=table.p.mask(few), p_holm=holm(table.p.mask(few)))
