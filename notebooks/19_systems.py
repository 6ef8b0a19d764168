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
# # Every system of the paper
#
# Each model, data set, regime and method that the paper {cite}`anonymous-topology` or its published version
# {cite}`huang2026structural` reports, and what has become of it here: trained and published, trained here, or not run,
# with the command that trains it and the memory that takes. What is not run is in the tests in another form: they train a tiny
# random model of the same architecture.
#
# ```{admonition} After this chapter you can
# :class: tip
# estimate what an experiment of the paper takes, before starting it.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs

# %% tags=["hide-input"]
import math

import pandas as pd
from myst_nb import glue

from benchmarks.gpu_capacity import memory
from tsp.analysis.records import TASK_NAMES
from tsp.analysis.systems import systems
from tsp.analysis.tables import METHOD_NAMES
from tsp.book.pages import check_parameters, table
from tsp.experiments.paper import SYSTEMS
from tsp.store.runs import Store
from tsp.training import models

check_parameters(globals())

found = systems(Store(runs))
titles = {system.name: system.title for system in SYSTEMS}
counts = found.state.value_counts()
for state in ("published", "run", "not run"):
    glue(f"systems-{state.replace(' ', '-')}", int(counts.get(state, 0)), display=False)
glue("systems", len(found), display=False)

# %% [markdown]
# Of {glue:text}`systems:d` cells {glue:text}`systems-published:d` are published, {glue:text}`systems-run:d` more are run here and
# {glue:text}`systems-not-run:d` are not. In a cell below: problems or sets of ten with runs / number of runs, at the
# defaults of a protocol; a dot where nothing is run but the tiny model; nothing where the paper reports nothing.

# %% tags=["hide-input"]
cells = found.problems.astype(str) + " / " + found.runs.astype(str)
cells = cells.where(found.runs > 0, "·")
shown = found.assign(
    cell=cells,
    system=found.model.replace(titles) + ", " + found.method.map(METHOD_NAMES),
    column=found.task.map(TASK_NAMES) + " " + found.regime,
)
wide = shown.pivot(index="system", columns="column", values="cell").fillna("")
order = [f"{name} {regime}" for name in TASK_NAMES.values() for regime in ("single", "multi")]
table(wide.loc[shown.system.unique(), [name for name in order if name in wide]])

# %% [markdown]
# ## Commands
#
# One run of each model and method; `--task` and `--regime multi` choose the cell. `tsp sweep table3 --profile paper`
# trains all of the paper's Table 3 ({doc}`09_convergence`). Memory is predicted for one run in bfloat16 ({doc}`21_speed` has what fits on which GPU).

# %% tags=["hide-input"]
first = found[(found.task == "gsm8k") & (found.regime == "single")]
rows = {
    f"{titles.get(row.model, row.model)}, {METHOD_NAMES[row.method]}": {
        "command": row.command.replace(" --task gsm8k", ""),
        "GiB": memory(row.model) / 2**30 if row.model in titles else math.nan,
        "in tests as": row.relative,
        "licence of the model": models.MODELS[row.model].license,
    }
    for row in first.itertuples()
}
commands = pd.DataFrame(rows).T
told = {"selector": "tbody td.col0", "props": "text-align: left; white-space: normal"}
table(commands, {"GiB": "{:.1f}"}).set_table_styles([told], overwrite=False)

# %% [markdown]
# The paper's models are not published here in any form; their licences are those of their pages on the hub.

# %% [markdown]
# ## An exercise
#
# ```{exercise} A prompt beside its model
# :label: ex-memory
# A model has $7 \cdot 10^9$ parameters in bfloat16 and $d = 4096$. How much memory do its weights take? How much do a prompt of
# 40 vectors, its gradient and AdamW's two averages, all in float32? And what if the whole model were trained like that?
# ```
#
# ```{solution-start} ex-memory
# :class: dropdown
# ```
# Two bytes a weight are 14 GB. The prompt has $40 \cdot 4096$ numbers, sixteen bytes each with what belongs to them: 2.6 MB, a
# five-thousandth of the model. Training all weights in that way takes sixteen bytes for each: 112 GB. What a prompt's
# training does take beside the weights is activations, which depend on the tokens, not on the prompt's size.

# %%
weights, numbers = 7e9, 40 * 4096
assert 2 * weights == 14e9
assert f"{16 * numbers / 1e6:.1f}" == "2.6"
assert 2 * weights / (16 * numbers) > 5000
assert 16 * weights == 112e9

# %% [markdown]
# ```{solution-end}
# ```
