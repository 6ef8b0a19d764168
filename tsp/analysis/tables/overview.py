"""A store in a few lines: what was trained, from which initial prompts, and the headline."""

from textwrap import fill

import pandas as pd

from tsp.analysis.records import (
    METHOD_NAMES,
    TASK_NAMES,
    deciding,
    in_order,
    load_runs,
    load_topology,
)
from tsp.analysis.tables.decided import MISSING, claims
from tsp.analysis.tables.table_3 import convergence, count_text, median_text, printed_cells
from tsp.analysis.units import UNIT, comparable, odd_seeds
from tsp.analysis.verdicts import VERDICTS
from tsp.experiments.paper import SYSTEMS
from tsp.store.runs import Store

ROW = ["model", "protocol", "regime", "task"]
TRAINED_COLUMNS = [*ROW, "methods", "problems", "runs", "epochs", "solved", "minutes"]
WIDTH = 80
ARROW = " → "


def trained(store: Store) -> pd.DataFrame:
    """What was trained: one row per model, protocol, regime and task.

    Returns
    -------
    DataFrame
        `TRAINED_COLUMNS`: ``methods`` by name; ``problems`` that differ; ``runs``, of which
        ``solved`` were all right at a check after the first epoch; ``epochs`` of the longest;
        ``minutes`` of all together.
    """
    rows = []
    for key, runs in load_runs(store).groupby(ROW):
        methods = [name for method, name in METHOD_NAMES.items() if method in set(runs.method)]
        problems = {problem for content in runs.content for problem in content.split("+")}
        counts = [len(problems), len(runs), int(runs.epochs.max()), runs.solved_epoch.count()]
        rows.append([*key, ", ".join(methods), *counts, float(runs.seconds.sum() / 60)])
    return in_order(pd.DataFrame(rows, columns=TRAINED_COLUMNS), ROW)


def same_start(store: Store, *, protocol: str) -> str:
    """Write from how many initial prompts the Standard runs of each model's units start.

    Only runs at the protocol's defaults count, the first odd number of seeds of a unit. Initial
    prompts are the same if all summaries of their topology are.
    """
    runs, length = deciding(load_runs(store))
    runs = comparable(runs, protocol=protocol, length=length)
    runs = runs[runs.method == "ce"]
    if runs.empty:
        return "The store has no units."
    runs = odd_seeds(runs.assign(arm=runs.method))
    first = load_topology(store).query("epoch == 0 and id in @runs.id")
    parts, prompts = [], 0
    for name, rows in runs.groupby("model", sort=False):
        starts = first[first.id.isin(rows.id)].drop(columns="id").round(6).drop_duplicates()
        *most, last = (f"{bars:.0f}" for bars in sorted(starts.h1_count))
        loops = " and ".join(filter(None, [", ".join(most), last]))
        count = f"{len(starts)} initial prompts" if len(starts) > 1 else "one initial prompt"
        prompts += len(starts)
        n = len(rows.drop_duplicates(UNIT))
        units = f"all {n} units of {name} start" if n > 1 else f"the one unit of {name} starts"
        parts.append(f"{units} from {count} with {loops} loops")
    text = "; ".join(parts)
    given = "this initial prompt" if prompts == 1 else "these initial prompts"
    return f"{text[0].upper()}{text[1:]}. A p-value is about problems, given {given}."


def headline(store: Store) -> str:
    """Write what was trained, Table 3 beside the paper's, and the number of claims by verdict.

    Returns text for a terminal of 80 columns.
    """
    table = trained(store)
    if table.empty:
        return f"No runs in {store.root}: `tsp sweep table3 --profile quick` trains some."
    parts = []
    for model, rows in table.groupby("model", sort=False):
        shown = rows.drop(columns=["model", "methods"]).replace(TASK_NAMES).round(1)
        parts.append(f"Trained: {rows.runs.sum()} runs of {model}\n{shown.to_string(index=False)}")
    cells = {name: convergence(store, protocol=name) for name in table.protocol.unique()}
    cells = {name: rows for name, rows in cells.items() if len(rows)}
    if cells:
        text = f"Table 3: epochs until every answer is right, {METHOD_NAMES['ce']}{ARROW}"
        text += f"{METHOD_NAMES['tsloss']}; median over n problems or "
        text += "sets of ten, and the paper's; '>60' means more than 60"
        at_start = any(rows.at_start.any() for rows in cells.values())
        text += "; '+1' counts those right before training, excluded here." if at_start else "."
        parts.append(fill(text, WIDTH))
    for protocol, rows in cells.items():
        ours = rows[rows.origin == rows.origin.iloc[0]]
        for model, cell in ours.groupby("model", sort=False):
            parts.append(f"protocol {protocol}, {model}\n{_beside_the_paper(cell)}")
    counts = claims(store).verdict.value_counts()
    verdicts = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if name in counts)
    parts.append(fill(f"Claims of the paper: {verdicts}. `tsp report` gives the reasons.", WIDTH))
    return "\n\n".join(parts)


def _beside_the_paper(cells: pd.DataFrame) -> str:
    """Write Table 3 for one of our models, without and with TSLoss, and the paper's cells."""
    printed, rows = printed_cells(), []
    titles = [system.title for system in reversed(SYSTEMS) if system.table3]
    for (regime, task), cell in cells.groupby(["regime", "task"], sort=False):
        sides = cell.to_dict("records")
        row = {"regime": regime, "task": TASK_NAMES[task], "n": count_text(sides[0])}
        row["here"] = ARROW.join(median_text(side) for side in sides)
        for title in titles:
            keys = [
                ("paper", title, METHOD_NAMES[method], regime, TASK_NAMES[task])
                for method in cell.method
            ]
            row[title] = ARROW.join(printed[key] for key in keys if key in printed) or MISSING
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False)
