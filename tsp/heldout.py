"""Answers of trained prompts to problems that they were not trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tsp.atomic import replacing
from tsp.contexts import Contexts
from tsp.decoding import EXTRA_TOKENS, Wish, greedy_answers
from tsp.models import Frozen
from tsp.prompts import as_input
from tsp.reading import Row
from tsp.runs import Run, Store
from tsp.spec import RunSpec
from tsp.tasks import Problem, is_correct, score
from tsp.trainer import Plan

NONE = "no prompt"
COLUMNS = ("id", "task", "source", "row", "sha256", "score", "correct")


def evaluate(
    frozen: Frozen,
    prompts: Mapping[str, tuple[RunSpec, torch.Tensor] | None],
    problems: Sequence[Problem],
    *,
    plan: Plan | None = None,
) -> pd.DataFrame:
    """Ask every problem with every prompt, decoding greedily.

    Parameters
    ----------
    frozen
        The model.
    prompts
        By name, such as a run's id: the spec that says where the prompt goes, and the prompt,
        (n, d); None asks without a prompt, the floor.
    problems
        What to ask; no prompt should have been trained on them.
    plan
        How to compute it.

    Returns
    -------
    DataFrame
        `COLUMNS`, one row a prompt and problem; ``id`` is the prompt's name. An answer may be
        `EXTRA_TOKENS` longer than the reference.
    """
    plan = plan or Plan()
    contexts = Contexts(frozen, plan.context_budget, dtypes=[frozen.dtype])
    rows, wishes, asked = [], [], []
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
            wishes.append(Wish(len(coded.target) + EXTRA_TOKENS, (coded.target,), agreed=0))
            asked.append((name, problem))
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
            "task": problem.task,
            "source": problem.source,
            "row": problem.row,
            "sha256": problem.sha256,
            "score": float(score(problem, answer.text)),
            "correct": bool(is_correct(problem, answer.text)),
        }
        for (name, problem), answer in zip(asked, answers, strict=True)
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def unseen(run: Run, problems: Sequence[Problem]) -> list[Problem]:
    """Problems that a run was not trained on."""
    known = {problem["sha256"] for problem in run.record["problems"]}
    return [problem for problem in problems if problem.sha256 not in known]


def remember(store: Store, found: pd.DataFrame) -> Path:
    """Keep answers beside a store's runs, ``heldout/answers.parquet``; asked again, they change."""
    path = store.root / "heldout" / "answers.parquet"
    both = pd.concat([remembered(store), found], ignore_index=True)
    both = both.drop_duplicates(["id", "task", "sha256"], keep="last")
    with replacing(path) as work:
        both.sort_values(["task", "id", "row"]).to_parquet(work, index=False)
    return path


def remembered(store: Store) -> pd.DataFrame:
    """What `remember` kept, `COLUMNS`; no rows if nothing."""
    path = store.root / "heldout" / "answers.parquet"
    if not path.is_file():
        empty: dict[str, Any] = {name: [] for name in COLUMNS}
        return pd.DataFrame(empty)
    return pd.read_parquet(path)
