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
SHOWN = ["h1_count", "h0_mean_lifespan", "h0_mean_lifespan_scaled", "persistence_entropy"]
RATES = {"prompt tuning": 1e-2, "p-tuning": 1e-3, "prefix tuning": 1e-2}
"""Learning rates, chosen by hand; rows say which was used."""
EPOCHS = 60


def compare(*, model: str = models.DEFAULT) -> list[dict[str, Any]]:
    """Train each of `benchmarks.peft_training.KINDS` without and with TSLoss, on the same problems.

    Returns a row a run: ``kind task problem method lr epochs solved``, the number of ``vectors``
    and their ``dimension``, topology before (``*_first``) and after (``*_last``), and the model.
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
        first, last = summarize(done.vectors)[SHOWN].astype(float).to_dict("records")
        row |= {f"{name}_first": value for name, value in first.items()}
        rows.append(row | {f"{name}_last": value for name, value in last.items()})
    return rows
