"""Answers of trained prompts to problems that they were not trained on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from tsp.atomic import replacing
from tsp.contexts import Contexts
from tsp.decoding import EXTRA_TOKENS, Wish, greedy_answers
from tsp.errors import InputError
from tsp.models import Frozen, load
from tsp.precision import choose
from tsp.prompts import as_input
from tsp.reading import Row
from tsp.records import ANSWER_COLUMNS, ANSWER_KEY, NO_PROMPT, load_answers, load_runs, longest
from tsp.runs import ANSWERS, Run, Store
from tsp.spec import RunSpec
from tsp.tasks import Problem, is_correct, load_problems, score
from tsp.trainer import Plan
from tsp.units import at_defaults

AT_ONCE = 5  # problems that are asked before the answers are kept


def evaluate(
    frozen: Frozen,
    prompts: Mapping[str, tuple[RunSpec, torch.Tensor] | None],
    problems: Sequence[Problem],
    *,
    limit: int = 0,
    plan: Plan | None = None,
) -> pd.DataFrame:
    """Ask every problem with every prompt, decoding greedily.

    Parameters
    ----------
    frozen
        The model, in the precision that is to answer.
    prompts
        By name, such as a run's id: the spec that says where the prompt goes, and the prompt,
        (n, d); None asks without a prompt, the floor.
    problems
        What to ask; no prompt should have been trained on them.
    limit
        Tokens of the longest answer; 0: `longest_answer` of these problems.
    plan
        How many positions a pass has, and how much contexts may take.

    Returns
    -------
    DataFrame
        `tsp.records.ANSWER_COLUMNS`, one row a prompt and problem; ``id`` is the prompt's name.
    """
    plan = plan or Plan()
    contexts = Contexts(frozen, plan.context_budget, dtypes=[frozen.dtype])
    rows, targets, asked = [], [], []
    for problem in problems:  # those that share a context side by side
        for name, given in prompts.items():
            spec, vectors = given or (RunSpec(), torch.zeros(0, frozen.dim))
            coded = frozen.encode(
                problem.question,
                problem.target,
                placement=spec.placement,
                end=spec.settings.end_token,
            )
            received = as_input(vectors.float(), spec) if len(vectors) else vectors
            rows.append(Row(received.to(frozen.device), coded, contexts.of(coded.before)))
            targets.append(coded.target)
            asked.append((name, problem))
    limit = limit or longest_answer(frozen, problems)
    wishes = [Wish(limit, (target,), agreed=0) for target in targets]
    answers = greedy_answers(
        frozen,
        rows,
        wishes=wishes,
        token_budget=plan.token_budget,
        context_budget=plan.context_budget,
    )
    found = [
        {
            "id": name,
            "model": frozen.name,
            "task": problem.task,
            "source": problem.source,
            "row": problem.row,
            "sha256": problem.sha256,
            "longest": limit,
            "precision": _precision(frozen),
            "score": float(score(problem, answer.text)),
            "correct": bool(is_correct(problem, answer.text)),
        }
        for (name, problem), answer in zip(asked, answers, strict=True)
    ]
    return pd.DataFrame(found, columns=list(ANSWER_COLUMNS))


def _precision(frozen: Frozen) -> str:
    return str(frozen.dtype).removeprefix("torch.")


def longest_answer(frozen: Frozen, problems: Sequence[Problem]) -> int:
    """Tokens that every answer may have: `EXTRA_TOKENS` more than the longest of all references.

    The length of a problem's own reference would tell something of it.
    """
    end = RunSpec().settings.end_token
    coded = [
        frozen.encode(it.question, it.target, placement=RunSpec().placement, end=end)
        for it in problems
    ]
    return max(len(it.target) for it in coded) + EXTRA_TOKENS


def compared(store: Store, *, task: str, model: str, protocol: str = "tuned") -> list[Run]:
    """Runs whose prompts are to be asked: each regulariser at weight 1 on the same problems.

    Returns
    -------
    list of Run
        Of single problems and with stored prompts, at the protocol's defaults; only those
        problems and seeds that were trained with the most methods.
    """
    runs = load_runs(store)
    told = {"task": task, "model": model, "protocol": protocol, "regime": "single"}
    for name, value in told.items():
        runs = runs[runs[name] == value]
    runs = longest(at_defaults(runs[runs.lambda_ts.isin([0.0, 1.0])], protocol=protocol))
    found = [run for run in map(store.read, runs.id) if run.prompt_epochs]
    runs = runs[runs.id.isin([run.id for run in found])]
    many = runs.groupby(["content", "seed"]).method.transform("nunique")
    chosen = set(runs.id[many == many.max()])
    return [run for run in found if run.id in chosen]


def unseen(run: Run, problems: Sequence[Problem]) -> list[Problem]:
    """Problems that a run was not trained on."""
    known = {problem["sha256"] for problem in run.record["problems"]}
    return [problem for problem in problems if problem.sha256 not in known]


def remember(store: Store, found: pd.DataFrame) -> Path:
    """Keep answers beside a store's runs, ``heldout/answers.parquet``; asked again, they change."""
    path = store.root / ANSWERS
    known = load_answers(store)
    both = pd.concat([known, found], ignore_index=True) if len(known) else found
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
    device: str = "auto",
    precision: str = "float32",
    tell: Callable[[int, int], None] = lambda done, all: None,
) -> pd.DataFrame:
    """Ask problems with the last prompt of each compared run and without any; keep the answers.

    They are kept after every few problems, and what was asked before with as long answers is not
    asked again: it can be interrupted.

    Parameters
    ----------
    store
        Where the runs are, and where the answers go (`remember`).
    task, model, protocol
        Which runs (`compared`).
    data, rows
        Problems, as `tsp.tasks.load_problems` takes them, in tens. One that some prompt was
        trained on is left out.
    device, precision
        As `tsp.models.load` and `tsp.precision.choose` take them. Unlike a check of a run, which
        float32 decides, an answer is that of the model in this precision; the default is not
        ``auto``, since no measurement of speed should decide what a prompt answers.
    tell
        Called with the number of problems that are done, and of all.

    Returns
    -------
    DataFrame
        The answers, `tsp.records.ANSWER_COLUMNS`, and the ``method`` of each prompt.

    Raises
    ------
    InputError
        If there are no runs to compare, or no problem is left.
    """
    runs = compared(store, task=task, model=model, protocol=protocol)
    if not runs:
        remedy = f"{store.root} has no prompts of it; `tsp sweep baselines` trains some"
        raise InputError("task", task, remedy)
    tens = (load_problems(task, data=data, regime="multi", problem=row) for row in rows[::10])
    problems = [problem for ten in tens for problem in ten][: len(rows)]
    for run in runs:
        problems = unseen(run, problems)
    if not problems:
        raise InputError("rows", f"{rows[0]} to {rows[-1]}", "all are trained on; give others")
    frozen = load(model, device=device)
    if choose(precision, frozen) == "bfloat16":
        frozen = frozen.at(torch.bfloat16)
    prompts: dict[str, tuple[RunSpec, torch.Tensor] | None] = {NO_PROMPT: None}
    prompts |= {run.id: (run.spec, run.prompt(run.prompt_epochs[-1])) for run in runs}
    limit, asked = longest_answer(frozen, problems), {it.sha256 for it in problems}

    def answered() -> pd.DataFrame:
        known = load_answers(store)
        alike = (known.model == frozen.name) & (known.longest == limit)
        alike &= known.precision == _precision(frozen)
        return known[alike & known.id.isin(prompts) & known.sha256.isin(asked)]

    for done in range(0, len(problems), AT_ONCE):
        tell(done, len(problems))
        few, known = problems[done : done + AT_ONCE], answered()
        there = set(zip(known.id, known.sha256, strict=True))
        lacking = {
            name: given
            for name, given in prompts.items()
            if any((name, problem.sha256) not in there for problem in few)
        }
        if lacking:
            remember(store, evaluate(frozen, lacking, few, limit=limit))
    places = {name: place for place, name in enumerate(prompts)}  # the floor first
    found = answered().sort_values("id", key=lambda it: it.map(places), kind="stable")
    methods = {run.id: run.spec.method for run in runs} | {NO_PROMPT: NO_PROMPT}
    return found.assign(method=found.id.map(methods))
