# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Precision and outcomes
#
# Does precision change outcomes? {glue:text}`roundings-lesson` Prompts, losses and the
# optimiser's state are always float32. Training passes may run in bfloat16; the float32 model then decides each answer, unless a training
# pass already settles it by a clear margin. To measure the effect, the same pairs of runs, with and without TSLoss, were trained until solved in
# three ways: in float32; in float32 without shared contexts, which is the same mathematics with attention's sums taken in another order;
# and in bfloat16. The sign test of whether TSLoss needs fewer epochs {glue:text}`roundings-verdict`.
#
# ```{admonition} After this chapter you can
# :class: tip
# say which runs may be compared, and how far one run depends on rounding.
# ```

# %% tags=["parameters"]
measurements: str = ""  # folder of roundings.json; empty: the published ones

# %% tags=["hide-input"]
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from myst_nb import glue

from benchmarks.roundings import agreement
from tsp.analysis.records import TASK_NAMES
from tsp.book.pages import check_parameters, interval, table
from tsp.book.verdicts import listed
from tsp.figures.style import WIDTH, style
from tsp.paths import data_dir

check_parameters(globals())

style()
folder = Path(measurements or data_dir("measurements"))
outcomes = json.loads((folder / "roundings.json").read_text())
close = agreement(outcomes).set_index("arithmetic").rename_axis(None)
problems = pd.DataFrame(outcomes).drop_duplicates(["task", "problem"])
glue("roundings-model", str(outcomes[0]["model"]), display=False)
glue(
    "roundings-tasks",
    ", ".join(f"{n} of {TASK_NAMES[t]}" for t, n in problems.task.value_counts().items()),
    display=False,
)
glue("roundings-known", int(problems.known.sum()), display=False)
glue("roundings-epochs", int(outcomes[0]["epochs"]), display=False)


def changed(name):
    row = close.loc[name]
    text = f"{row.runs - row.same} of {row.runs} runs"
    if row.same < row.runs:
        text += f" ({row.earlier} earlier, {row.later} later; among these the median change is {row.median_change:g} epochs"
        text += f" and the largest {row.largest_change:g})"
    return text


glue("moved-again", changed("float32, nothing shared"), display=False)
glue("moved-low", changed("bfloat16"), display=False)
for side in ("earlier", "later"):
    glue(f"moved-{side}", int(close[side].sum()), display=False)
verdict = f"is {close.verdict.iloc[0]} in all three"
if close.verdict.nunique() > 1:
    verdict = "differs between the arithmetics: " + ", ".join(
        f"{verdict} ({name})" for name, verdict in close.verdict.items()
    )
glue("roundings-verdict", verdict, display=False)
lesson = "No run here was solved at another epoch; as others may be, runs that are compared should share a precision."
if (close.same < close.runs).any():
    lesson = (
        "It changes the epoch at which a single run solves its problem, because training amplifies small differences. "
        "Runs that are compared should therefore share a precision, and a verdict needs many pairs."
    )
glue("roundings-lesson", lesson, display=False)
table(
    pd.DataFrame(
        {
            "pairs": close.pairs,
            "TSLoss faster": close.wins,
            "same": close.ties,
            "TSLoss slower": close.losses,
            "median ratio of epochs": [
                interval(row.median_ratio, row.low, row.high) for row in close.itertuples()
            ],
            "sign test": close.verdict,
        }
    )
)

# %% mystnb={"image": {"alt": "Scatter plot: the epoch at which each run was solved, in float32 on the horizontal axis and in another arithmetic on the vertical one, around the diagonal; circles for float32 with nothing shared, crosses for bfloat16."}, "figure": {"caption": "Rounding moves the epoch at which a run is solved: {glue:text}`moved-earlier` times to an earlier one, {glue:text}`moved-later` times to a later one. Horizontal: float32; vertical: the other two. Runs on the diagonal have not changed; unsolved runs are drawn beyond the last epoch.", "name": "fig-roundings"}} tags=["hide-input"]
wide = pd.DataFrame(outcomes)
wide = wide[~wide.known]
wide["solved"] = wide.solved_epoch.fillna(wide.epochs + 2).astype(float)
wide = wide.pivot(index=["task", "problem", "method"], columns="arithmetic", values="solved")
fig, ax = plt.subplots(figsize=(0.6 * WIDTH, 0.55 * WIDTH))
limit = float(wide.max(axis=None)) + 4
ax.plot([0, limit], [0, limit], color="0.6", lw=1)
for name, marker, color in (
    ("float32, nothing shared", "o", "#0173B2"),
    ("bfloat16", "x", "#D55E00"),
):
    ax.plot(wide["float32"], wide[name], marker, color=color, label=name, fillstyle="none")
ax.set(
    xlabel="epoch solved, float32",
    ylabel="epoch solved, other arithmetic",
    xlim=(0, limit),
    ylim=(0, limit),
)
ax.legend()
plt.show()

# %% tags=["remove-cell"]
file = folder / "replays.json"
replays = pd.DataFrame(json.loads(file.read_text()) if file.is_file() else [])
again = "No published run has been trained again here."
if len(replays):
    steps = (replays.again - replays.solved_epoch).dropna()
    moved = steps[steps != 0].abs()
    again = (
        f"Of {len(replays)} published runs, trained again, {int((steps == 0).sum())} were solved at the same epoch, {int((steps < 0).sum())} "
        f"earlier and {int((steps > 0).sum())} later"
    )
    if len(moved):
        within = moved.max() <= close.largest_change["float32, nothing shared"]
        again += f"; among these the median change is {moved.median():g} epochs and the largest {moved.max():g}, "
        again += f"{'no more' if within else 'more'} than when only the order of sums changed"
    places = replays.processor.value_counts()
    where = [f"{number} on two cores of an {name}" for name, number in places.items()]
    again += f". (Trained by the command tsp runs repeat: {listed(where)}.)"
glue("replays", again, display=False)

# %% [markdown]
# When only the order of float32 sums changed, {glue:text}`moved-again` were solved
# at another epoch; in bfloat16, {glue:text}`moved-low`.
#
# A later version of this package on another processor rounds differently, too. {glue:text}`replays`
#
# The pairs are {glue:text}`roundings-tasks`, on {glue:text}`roundings-model`, trained for at most
# {glue:text}`roundings-epochs` epochs. Problems that the untrained prompt solves ({glue:text}`roundings-known`) are excluded, and pairs
# that neither run solves have no ratio. `tsp runs show` prints the precision of a run, a sweep continues in the precision of the
# stored runs, and `--precision float32` sets it.
#
# On your own machine:
#
# ```bash
# mkdir mine
# tsp bench --roundings mine/roundings.json
# papermill notebooks/25_precision.ipynb mine/25_precision.ipynb \
#     -p measurements mine
# ```
