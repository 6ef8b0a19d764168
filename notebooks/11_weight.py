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
# # The weight of TSLoss
#
# Section 4.4 of the paper {cite}`anonymous-topology` trains one problem at five weights: from
# $\lambda_\text{ts} = 0$ to 1 every step shortens training, and at 10 the prompt never arrives (Table 4,
# Figure 4). This chapter sets our runs beside both, and asks what a weight means: how large is the force that
# it multiplies, and at which weight does it begin to matter?
#
# ```{admonition} After this chapter you can
# :class: tip
# find the weight at which a regulariser begins to matter.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
protocol: str = "tuned"

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogFormatter
from myst_nb import glue

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.analysis.records import deciding, load_losses, load_runs, load_topology
from tsp.analysis.studies import at_last, study
from tsp.analysis.units import STANDARD, units
from tsp.analysis.verdicts import contrasts
from tsp.book.pages import FORMATS, check_parameters, comparison, missing, table
from tsp.experiments.catalogue import MATCHED
from tsp.figures import paper_figures as figures
from tsp.store.runs import Store
from tsp.training.models import MODELS

check_parameters(globals())

figures.style()
store = Store(runs)
everything, length = deciding(load_runs(store))

# %% [markdown]
# ## Table 4
#
# The paper's row is one problem on Gemma-2B-IT, the GSM8K cell of its Table 3. Ours are medians over the
# problems that were trained at the most weights, over an odd number of seeds first; `>E` is a lower bound. Ratios,
# intervals and tests are against weight 0, problem by problem.

# %% tags=["hide-input"]
ours = tables.table4(store, protocol=protocol, model=model)
shown = comparison(ours.assign(arm=ours.arm.fillna("none")))
shown.index = ours.lambda_ts.map("{:g}".format)
shown.insert(0, "paper", ours.paper.to_numpy())
columns = [
    "paper",
    "problems",
    "epochs",
    "sooner",
    "same",
    "later",
    "ratio",
    "p",
    "p (Holm)",
    "p (ranks)",
    "ranks (Holm)",
]
table(shown[columns], FORMATS | {"paper": "{:.0f}"})

# %% tags=["remove-cell"]
known = ours.dropna(subset="n")
glue("model", model, display=False)
glue("weights-known", len(known), display=False)
glue("weights-problems", int(known.n.max()) if len(known) else 0, display=False)

# %% [markdown]
# {glue:text}`weights-known:d` of the five weights are in the store, on {glue:text}`weights-problems:d`
# problems. A dash in the paper's column is its "–": no correct answer was seen.
#
# ## Figure 4
#
# The paper draws $L_\text{total} = L_\text{ce} + \lambda_\text{ts} L_\text{ts}$, which is another quantity at
# every weight: at weight 10 it contains ten TSLosses. The right panel shows the part that all share.

# %% mystnb={"image": {"alt": "Two panels with logarithmic axes over epochs, one curve a weight of TSLoss: left the total loss, right its cross-entropy."}, "figure": {"caption": "The paper's Figure 4 from our runs: the loss that is minimised, and its cross-entropy, at each weight of TSLoss.", "name": "fig-weights"}} tags=["hide-input"]
several = tables.weighted(store, protocol=protocol, model=model)
if len(several):
    shown = figures.figure4(store, protocol=protocol, model=model)
else:
    shown = missing("tsp sweep table4")
shown

# %% [markdown]
# ## How large is the force?
#
# What moves a prompt is the gradient. Every run records, at every epoch, the norm of the cross-entropy's
# gradient and that of TSLoss's, without its weight. Their ratio says which weight would make the two equal:
# $\lambda_\text{ts} = \lVert \nabla L_\text{ce} \rVert / \lVert \nabla L_\text{ts} \rVert$. Below it the
# cross-entropy leads, above it TSLoss.

# %% tags=["hide-input"]
losses = load_losses(store)
losses = losses.reindex(columns=list(dict.fromkeys([*losses, "grad_ts", "grad_ce"])))
plain = everything[everything.protocol.eq(protocol) & everything.method.isin(["ce", "tsloss"])]
plain = plain[plain.setting.eq("") & plain.lambda_ts.isin([0.0, 1.0])]
force = losses[losses.id.isin(plain.id)].merge(
    plain[["id", "model", "regime", "method", "epochs"]], on="id"
)
force = force[(force.grad_ts > 0) & (force.grad_ce > 0)]
force["balance"] = force.grad_ce / force.grad_ts
force["part"] = pd.cut(
    force.epoch, [0, 10, 50, np.inf], labels=["epochs 1 to 10", "11 to 50", "from 51 on"]
)
quartiles = force.groupby(["model", "regime", "method", "part"], observed=True).balance.quantile(
    [0.25, 0.5, 0.75]
)


def short(weight):
    return f"{weight:,.0f}" if weight >= 100 else f"{weight:.2g}"


cells = quartiles.unstack().apply(
    lambda row: f"{short(row[0.5])} ({short(row[0.25])}–{short(row[0.75])})", axis=1
)
shown = cells.unstack("part") if len(cells) else pd.DataFrame()
shown.columns = list(shown.columns)
several = force.model.nunique() > 1
shown.index = [
    ", ".join([name] * several + [regime, tables.METHOD_NAMES[method]])
    for name, regime, method in shown.index
]
table(shown) if len(shown) else missing("tsp sweep table3")

# %% tags=["remove-cell"]
mine = force[(force.model == model) & (force.regime == "single") & (force.method == "ce")]
early = mine[mine.epoch <= 10].balance.median() if len(mine) else np.nan
late = mine[mine.epoch > 50].balance.median() if len(mine) else np.nan
glue("balance-early", f"{early:.2g}", display=False)
glue("balance-late", f"{late:.2g}", display=False)

# %% [markdown]
# In the table is the weight at which both forces would be equal: the median over epochs and runs of a kind,
# and the quartiles. For
# {glue:text}`model` on single problems its median is {glue:text}`balance-early` in the first ten epochs and
# {glue:text}`balance-late` from epoch 51 on. At a smaller weight the cross-entropy leads; a number that falls
# says that TSLoss gains on it as the cross-entropy is solved.

# %% mystnb={"image": {"alt": "The weight at which both gradients would be equally long, over epochs, on a logarithmic axis: a line for the median over runs and a band for the middle half, for runs without and with TSLoss; dotted lines at the weights of Table 4."}, "figure": {"caption": "The weight at which TSLoss would pull as hard as the cross-entropy, by epoch: median and middle half of the runs on single problems. Dotted: the weights of Table 4.", "name": "fig-balance"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
for method, rows in force[(force.model == model) & (force.regime == "single")].groupby("method"):
    over = rows.groupby("epoch").balance.quantile([0.25, 0.5, 0.75]).unstack()
    color = figures.METHOD_COLORS[method]
    ax.plot(over[0.5], color=color, label=tables.METHOD_NAMES[method])
    ax.fill_between(over.index, over[0.25], over[0.75], color=color, alpha=0.2, lw=0)
for weight in (0.1, 0.5, 1, 10):
    ax.axhline(weight, color="0.5", ls=":", lw=1)
ax.set(yscale="log", xlabel="epoch", ylabel=r"balancing $\lambda_{ts}$")
ax.yaxis.set_major_formatter("{x:g}")
ax.yaxis.set_minor_formatter(LogFormatter())
ax.legend()
sns.despine(fig)

# %% [markdown]
# ## Weights beyond the table
#
# If the force at weight 1 is small, larger weights should show when it begins to matter, for the iterations and
# for the topology: the number of loops, and the mean $H_0$ lifespan over the mean distance, at the last check.

# %% tags=["hide-input"]
found = study(
    store,
    [],
    base={"method": "ce", "lambda_ts": 0.0},
    protocol=protocol,
    weights=(0.0, 1.0, 10.0, 100.0, 1e3, 1e4),
    model=model,
)
beyond = found.arm.str.extract(r"λ=(.*)")[0].astype(float) > 10
table(comparison(found), FORMATS) if beyond.any() else missing("tsp sweep weight")

# %% tags=["remove-cell"]
told = ""
if beyond.any():
    last = found.iloc[-1]
    ends = ", ".join(
        f"{short(weight)}: {count:.1f}"
        for weight, count in zip(
            [0.0, *found.arm.str.extract(r"λ=(.*)")[0][1:].astype(float)],
            found.h1_count,
            strict=True,
        )
    )
    told = (
        f"At the largest weight the median problem is right after {'more than ' * bool(last.censored)}"
        f"{last.iterations:g} epochs, without TSLoss after {found.iterations.iloc[0]:g}. Loops at the end, by weight: {ends}."
    )
glue("beyond-told", told, display=False)

# %% [markdown]
# {glue:text}`beyond-told` Both halves of TSLoss have one minimum, a simplex ({prf:ref}`prop-minimum`). On the way there distances
# become alike, and alike distances make short loops; only a weight that leaves the cross-entropy hardly any say takes the
# cloud so near to the minimum that they go.

# %% [markdown]
# ## Weights matched by force
#
# A weight of 1 means something else for every regulariser. Here TSLoss has weights at which its gradient is about as long as the
# cross-entropy's, and the others have weights at which theirs is as long as TSLoss's at weight 1. Base: Standard. Both tests,
# of the iterations and of the loops at the last check, are corrected over the five arms other than TSLoss at weight 1.

# %% tags=["hide-input"]
FORCE = [("tsloss", 100.0), ("tsloss", 300.0), *MATCHED.items()]
forced = study(
    store,
    [],
    base={"method": "ce", "lambda_ts": 0.0},
    methods=("ce", "tsloss", *MATCHED),
    weights=(0.0, *(weight for _, weight in FORCE)),
    protocol=protocol,
    model=model,
    seeds=(1,),
)
matched = len(forced) == 1 + len(FORCE)
table(comparison(forced), FORMATS) if matched else missing("tsp sweep force --profile full")

# %% tags=["hide-input"]
ends = pd.DataFrame()
if matched:
    mine = everything[everything.model.eq(model) & everything.seed.eq(1)]
    arms = {f"{name} λ={weight:g}": {"method": name, "lambda_ts": weight} for name, weight in FORCE}
    chosen = units(mine, {"ce": STANDARD, **arms}, protocol=protocol, length=length)
    loops = at_last(chosen, load_topology(store), "h1_count", length=length)
    ends = contrasts({name: loops[name] - loops.ce for name in arms}).set_index("name")
    ends = ends[["n", "above", "below", "median", "p", "p_holm"]]
    ends.columns = ["problems", "more loops", "fewer", "median difference", "p", "p (Holm)"]
table(ends, FORMATS | {"median difference": "{:.1f}"}) if matched else missing(
    "tsp sweep force --profile full"
)

# %% [markdown]
# ## The weight and the model's size
#
# The paper leaves open (appendix A.4) how TSLoss should be adapted to models of other sizes. Of the models that
# were trained at several weights here, this is the one with the fewest iterations, with all that are not worse by
# more than the step of two epochs in which iterations are counted:

# %% tags=["hide-input"]
rows = []
for name in ("smollm2-135m-instruct", "gemma-3-270m"):
    own = everything[(everything.model == name) & everything.protocol.eq(protocol)]
    if own[own.method == "tsloss"].lambda_ts.nunique() < 2:
        continue
    weights = sorted({0.0, 0.1, 0.5, 1.0, 10.0} & set(own.lambda_ts))  # Table 4's, for all alike
    arms = study(
        store,
        [],
        base={"method": "ce", "lambda_ts": 0.0},
        protocol=protocol,
        weights=weights,
        model=name,
    )
    arms["weight"] = arms.arm.str.extract(r"λ=(.*)")[0].astype(float).fillna(0.0)
    arms = arms[arms.censored.eq(False)]
    if arms.empty:
        continue
    least = arms.iterations.min()
    near = arms[arms.iterations <= least + 2]
    rows.append(
        [
            name,
            MODELS[name].parameters,
            int(arms.n.max()),
            arms.weight[arms.iterations.idxmin()],
            least,
            ", ".join(near.weight.map("{:g}".format)),
        ]
    )
names = ["model", "parameters, 10⁶", "problems", "fewest at", "epochs", "within one check"]
best = pd.DataFrame(rows, columns=names).set_index("model")
table(best, {"fewest at": "{:g}", "epochs": "{:g}"}) if len(best) else missing("tsp sweep table4")

# %% tags=["remove-cell"]
glue("sizes-known", len(best), display=False)

# %% [markdown]
# That is {glue:text}`sizes-known:d` of the two models that are made for a laptop. A statement on a trend with size
# takes at least three, and the paper's own begin at two billion parameters: none is made here.

# %% [markdown]
# ## An exercise
#
# ```{exercise} Where the forces balance
# :label: ex-balance
# Let the loss be $\tfrac12 \lVert x \rVert^2$ and the regulariser $\tfrac12 \lVert x - c \rVert^2$ at weight $\lambda$. Where is
# the minimum, and how long are the two gradients there? At which weight is it a tenth of the way to $c$? What does the
# table of balancing weights above say, then, about a run that has converged?
# ```
#
# ```{solution-start} ex-balance
# :class: dropdown
# ```
# $x + \lambda (x - c) = 0$ at $x = \frac{\lambda}{1 + \lambda} c$, and there the two forces, with the weight, are equally long by
# definition of a minimum. A tenth of the way is $\lambda = 1/9$. A run that has converged under weight $\lambda$ shows
# $\lambda$ itself as the balancing weight: what is informative is the balance before, or without the regulariser.

# %%
c = np.array([3.0, -1.0, 2.0])
for weight in (1 / 9, 1.0, 10.0):
    x = weight / (1 + weight) * c
    assert np.isclose(np.linalg.norm(x) / np.linalg.norm(x - c), weight)
assert np.allclose((1 / 9) / (1 + 1 / 9) * c, c / 10)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# The rules are in {doc}`20_rules`.

# %% tags=["hide-input"]
of_chapter = [claim.id for claim in CLAIMS if claim.family == "weight"]
verdicts = tables.chapter_claims(store, of_chapter)
verdicts.style.hide(axis="index").set_table_attributes('class="table stacked"')
