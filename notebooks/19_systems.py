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
# How much of what the paper {cite}`anonymous-topology` and its published version {cite}`huang2026structural` report has been rerun? Of
# the {glue:text}`systems-theirs:d` combinations of model, data set, regime and method with the paper's models,
# {glue:text}`systems-theirs-known` here; such models need a GPU. A further {glue:text}`systems-small:d` combinations
# are the same experiments on small models; of these, {glue:text}`systems-small-known`. This page gives the commands that train them. For
# models that are not run here, the tests train a tiny random model of the same architecture.
#
# ```{admonition} After this chapter you can
# :class: tip
# estimate how much memory an experiment of the paper takes before you start it.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from tsp.analysis.records import TASK_NAMES
from tsp.analysis.systems import systems
from tsp.analysis.tables import METHOD_NAMES
from tsp.book.pages import check_parameters, table
from tsp.experiments.paper import SYSTEMS
from tsp.store.runs import Store
from tsp.training.model_cards import MODELS

check_parameters(globals())

store = Store(runs)
reported = systems(store)
titles = {system.name: system.title for system in SYSTEMS}
theirs = reported.model.isin(titles)
for name, chosen in (("theirs", reported[theirs]), ("small", reported[~theirs])):
    glue(f"systems-{name}", len(chosen), display=False)
    known = int((chosen.runs > 0).sum())
    glue(
        f"systems-{name}-known",
        f"{known or 'none'} {'has' if known < 2 else 'have'} runs",
        display=False,
    )

# %% [markdown]
# ## What has been run
#
# Each cell gives the number of problems (or sets of ten) that have runs, then the number of these runs, of all protocols at their default settings. A dot marks a
# combination without runs here, which is covered only by the tiny model of the tests; an empty cell is not part of the paper's design.

# %% tags=["hide-input"]
cells = reported.problems.astype(str) + " / " + reported.runs.astype(str)
cells = reported.assign(
    cell=cells.where(reported.runs > 0, "·"),
    system=reported.model.replace(titles) + ", " + reported.method.map(METHOD_NAMES),
    task=reported.task.map(TASK_NAMES),
)
wide = cells.pivot(index="system", columns=["task", "regime"], values="cell").fillna("")
order = [(name, regime) for name in TASK_NAMES.values() for regime in ("single", "multi")]
table(wide.loc[cells.system.unique(), [name for name in order if name in wide]])

# %% [markdown]
# ## Commands
#
# Each command trains one run with a model and a method; `--task` and `--regime multi` choose the column. `tsp sweep table3 --profile paper`
# trains all runs of Table 3 ({doc}`09_convergence`). {doc}`23_out_of_one_machine` says how much memory
# the paper's models need and which GPUs have that much.

# %% tags=["hide-input"]
first = reported[(reported.task == "gsm8k") & (reported.regime == "single")]
rows = {
    f"{titles.get(row.model, row.model)}, {METHOD_NAMES[row.method]}": {
        "command": row.command.replace(" --task gsm8k", ""),
        "model in the tests": row.relative,
        "licence": MODELS[row.model].license,
    }
    for row in first.itertuples()
}
commands = pd.DataFrame(rows).T
commands.command = commands.command.str.replace(
    r"(--\S+ \S+)", r'<span style="white-space: nowrap">\1</span>', regex=True
)
styles = [
    {"selector": ".col0", "props": "text-align: left; white-space: normal; min-width: 17em"},
    {"selector": "tbody td.col2", "props": "white-space: normal; min-width: 6.5em"},
]
shown = table(commands, markup=True)
shown.set_table_styles(styles, overwrite=False)

# %% [markdown]
# This project does not distribute the paper's models in any form. The licences are those stated on the models' pages on the Hugging Face Hub.

# %% [markdown]
# ## An exercise
#
# ```{exercise} A prompt beside its model
# :label: ex-memory
# A model has $7 \cdot 10^9$ parameters in bfloat16 and $d = 4096$. How much memory do its weights take? How much do a prompt of
# 40 vectors, its gradient and AdamW's two averages take, all in float32? How much would training the whole model in this way take?
# ```
#
# ```{solution-start} ex-memory
# :class: dropdown
# ```
# Two bytes per weight make 14 GB. The prompt has $40 \cdot 4096$ numbers; each takes sixteen bytes with its gradient and its two averages. Together they take
# 2.6 MB, about a five-thousandth of the model. Training all weights takes sixteen bytes for each, 112 GB. Most of the other
# memory that training a prompt takes is for activations, which depend on the number of tokens (the prompt's vectors among them), not on the trained numbers.

# %%
weights, numbers = 7e9, 40 * 4096
assert 2 * weights == 14e9
assert f"{16 * numbers / 1e6:.1f}" == "2.6"
assert 2 * weights / (16 * numbers) > 5000
assert 16 * weights == 112e9

# %% [markdown]
# ```{solution-end}
# ```
#
# The two claims about the paper's own models are judged in {doc}`09_convergence`.
