"""TSLoss on PEFT's other prompts, p-tuning and prefix tuning, as PEFT trains them."""

from itertools import product
from typing import Any

from benchmarks.measuring import report
from benchmarks.peft_training import KINDS, with_peft
from tsp.problems.loading import load_problems
from tsp.topology.diagrams import summarize
from tsp.training import models
from tsp.training.spec import RunSpec

PROBLEMS = {"mmlu_cf": range(4)}
SHOWN = ("h1_count", "h0_mean_lifespan", "h0_mean_lifespan_scaled", "persistence_entropy")
RATES = {"prompt tuning": 1e-2, "p-tuning": 1e-3, "prefix tuning": 1e-2}
"""Learning rates, chosen by hand; rows say which was used."""
EPOCHS = 60


def compare(*, model: str = models.DEFAULT) -> list[dict[str, Any]]:
    """Train each of `benchmarks.peft_training.KINDS` without and with TSLoss, on the same problems.

    Parameters
    ----------
    model
        A name that `tsp.training.models.load` takes.

    Returns
    -------
    list of dict
        One row a run: ``kind task problem method lr epochs solved``, the number of ``vectors`` and
        their ``dimension``, topology before (``*_first``) and after (``*_last``), and the model.
    """
    frozen, rows = models.load(model), []
    problems = [(task, number) for task, numbers in PROBLEMS.items() for number in numbers]
    for (task, number), kind, method in product(problems, KINDS, ("ce", "tsloss")):
        report(f"{kind}, {task} {number}, {method}")
        fields = {"task": task, "problem": number, "method": method, "lr": RATES[kind]}
        spec = RunSpec(model=model, placement="prefix", epochs=EPOCHS, early_stop=True, **fields)
        done = with_peft(spec, frozen, load_problems(task, problem=number), kind=kind)()
        _, n, d = done.vectors.shape
        row = {"kind": kind, **fields, "epochs": done.epochs, "solved": done.solved}
        row |= {"vectors": n, "dimension": d, "model": model}
        for end, summary in zip(("first", "last"), _summaries(done.vectors), strict=True):
            row |= {f"{name}_{end}": float(summary[name]) for name in SHOWN}
        rows.append(row)
    return rows


def _summaries(vectors: Any) -> list[dict[Any, Any]]:
    return summarize(vectors).to_dict("records")
