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
# At which weight does TSLoss begin to matter? Section 4.4 of the paper {cite}`anonymous-topology` reports training on one problem at
# five weights: from $\lambda_\text{ts} = 0$ to 1 every increase shortens training, and at 10 the prompt never gives a correct
# answer (Table 4, Figure 4). {glue:text}`weight-answer` A weight means little without the force that it multiplies, so this
# chapter also compares gradients, goes on to larger weights, and matches regularisers by force.
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
from tsp.analysis.studies import at_last, noise_floor, reading, study
from tsp.analysis.units import STANDARD, units
from tsp.analysis.verdicts import contrasts
from tsp.book.pages import FORMATS, check_parameters, comparison, missing, stacked, table
from tsp.book.verdicts import listed
from tsp.experiments.catalogue import MATCHED
from tsp.figures import paper_figures as figures
from tsp.store.runs import Store
from tsp.training.model_cards import MODELS

check_parameters(globals())

figures.style()
store = Store(runs)
records, length = deciding(load_runs(store))

# %% [markdown]
# ## Table 4
#
# The paper's column is one problem on Gemma-2B-IT, the GSM8K cell of its Table 3; a dash means that no correct answer was
# seen. Ours are medians over the problems that were trained at the largest number of weights. Each weight is compared with weight 0,
# problem by problem. {doc}`14_choices` explains the columns.

# %% tags=["hide-input"]
ours = tables.table4(store, protocol=protocol, model=model)
by_weight = comparison(ours.assign(arm=ours.arm.fillna("none")))
by_weight.index = ours.lambda_ts.map("λ = {:g}".format)
by_weight.insert(0, "paper", ours.paper.to_numpy())
by_weight = by_weight.drop(columns=["H1 bars", "H0 / D"], errors="ignore")
table(by_weight, FORMATS | {"paper": "{:.0f}"})

# %% tags=["remove-cell"]
known = ours.dropna(subset="n")
glue("model", model, display=False)
glue("weights-known", len(known), display=False)
problems = figures.counted(range(int(known.n.max()) if len(known) else 0), "problem")
glue("weights-problems", problems, display=False)
counts = reading(ours).value_counts().drop("", errors="ignore")
shown = [f"{word} at {counts.get(word) or 'none'}" for word in ("faster", "slower")]
answer = "Here too few problems were trained to test this."
if len(counts):
    open_ones = counts.get("undecided", 0)
    answer = (
        f"Here each weight above 0 was compared with weight 0 on up to {problems}. Training is found to be {listed(shown)} of them; "
        f"at {open_ones} the comparison is undecided."
    )
glue("weight-answer", answer, display=False)
floor = noise_floor(store, protocol=protocol)
glue("floor", f"{floor.floor.median():.0f}" if len(floor) else "–", display=False)

# %% [markdown]
# The store has runs at {glue:text}`weights-known:d` of the paper's weights, on {glue:text}`weights-problems`. For comparison, rounding alone
# moves the number of epochs that a problem takes by a median of {glue:text}`floor` epochs ({ref}`noise-floor`). So differences of this size between
# rows of the table may be due to rounding alone.
#
# ## Figure 4
#
# The paper draws $L_\text{total} = L_\text{ce} + \lambda_\text{ts} L_\text{ts}$, which is a different quantity at
# every weight, so only the right panel compares weights.

# %% mystnb={"image": {"alt": "Two panels with logarithmic axes over epochs, one curve for each weight of TSLoss: left the total loss, right its cross-entropy."}, "figure": {"caption": "{glue:text}`curves-say`. The paper's Figure 4 from our runs. Left: the loss that is minimised, a different quantity at each weight. Right: its cross-entropy, the same quantity at every weight.", "name": "fig-weights"}} tags=["hide-input"]
curves_say = "The store has no such runs"
if len(tables.weighted(store, protocol=protocol, model=model)):
    losses_by_weight = figures.figure4(store, protocol=protocol, model=model)
    last = [[line.get_ydata()[-1] for line in ax.lines] for ax in losses_by_weight.axes]
    total, entropy = (f"{max(medians) / min(medians):.1f}" for medians in last)
    curves_say = (
        "At the last epoch, the median total losses at the different weights differ by up to a factor of "
        f"{total}, the median cross-entropies by up to a factor of {entropy}"
    )
else:
    losses_by_weight = missing("tsp sweep table4")
glue("curves-say", curves_say, display=False)
losses_by_weight

# %% [markdown]
# ## The balancing weight
#
# A prompt is moved by gradients. At every epoch, a run records the norm of the cross-entropy's gradient and that of TSLoss's gradient
# before weighting, even if it trains without TSLoss. Their ratio is the *balancing weight*, at which the two would be equally long:
# $\lambda_\text{ts} = \lVert \nabla L_\text{ce} \rVert / \lVert \nabla L_\text{ts} \rVert$. At smaller weights the cross-entropy dominates, at
# larger ones TSLoss.

# %% tags=["hide-input"]
losses = load_losses(store)
losses = losses.reindex(columns=list(dict.fromkeys([*losses, "grad_ts", "grad_ce"])))
plain = records[records.protocol.eq(protocol) & records.method.isin(["ce", "tsloss"])]
plain = plain[plain.setting.eq("") & plain.lambda_ts.isin([0.0, 1.0])]
force = losses[losses.id.isin(plain.id)].merge(
    plain[["id", "model", "regime", "method", "epochs"]], on="id"
)
force = force[(force.grad_ts > 0) & (force.grad_ce > 0)]
force["balance"] = force.grad_ce / force.grad_ts
force["part"] = pd.cut(
    force.epoch, [0, 10, 50, np.inf], labels=["epochs 1 to 10", "epochs 11 to 50", "from epoch 51"]
)
quartiles = force.groupby(["model", "regime", "method", "part"], observed=True).balance.quantile(
    [0.25, 0.5, 0.75]
)


def short(weight):
    return f"{weight:,.0f}" if weight >= 100 else f"{weight:.2g}"


cells = quartiles.unstack().apply(
    lambda row: f"{short(row[0.5])} ({short(row[0.25])}–{short(row[0.75])})", axis=1
)
balance = cells.unstack("part") if len(cells) else pd.DataFrame()
balance.columns = list(balance.columns)
several = force.model.nunique() > 1
balance.index = [
    ", ".join([name] * several + [regime, tables.METHOD_NAMES[method]])
    for name, regime, method in balance.index
]
table(balance) if len(balance) else missing("tsp sweep table3")

# %% tags=["remove-cell"]
single = force[(force.model == model) & (force.regime == "single") & (force.method == "ce")]
early = single[single.epoch <= 10].balance.median() if len(single) else np.nan
late = single[single.epoch > 50].balance.median() if len(single) else np.nan
glue("balance-early", short(early), display=False)
glue("balance-late", short(late), display=False)

# %% [markdown]
# The table gives the median balancing weight over epochs and runs, with quartiles. For Standard runs of
# {glue:text}`model` on single problems, the median is {glue:text}`balance-early` in the first ten epochs and
# {glue:text}`balance-late` from epoch 51 on. As the balancing weight falls, TSLoss's share of the force at a fixed weight grows.

# %% mystnb={"image": {"alt": "The weight at which both gradients would be equally long, over epochs, on a logarithmic axis: a line for the median over runs and a band for the middle half, for runs without and with TSLoss; dotted lines at the weights of Table 4."}, "figure": {"caption": "{glue:text}`balance-says`. The balancing weight by epoch: median and middle half of the runs on single problems. Dotted: the weights of Table 4. Where the curve lies above such a line, the cross-entropy dominates at that weight.", "name": "fig-balance"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
sides = []
for method, rows in force[(force.model == model) & (force.regime == "single")].groupby("method"):
    over = rows.groupby("epoch").balance.quantile([0.25, 0.5, 0.75]).unstack()
    color = figures.METHOD_COLORS[method]
    ax.plot(over[0.5], color=color, label=tables.METHOD_NAMES[method])
    ax.fill_between(over.index, over[0.25], over[0.75], color=color, alpha=0.2, lw=0)
    above = over.index[over[0.5] >= 1]
    side = "above 1 at the end"
    if over[0.5].iloc[-1] < 1:
        side = f"below 1 after epoch {max(above)}" if len(above) else "below 1 throughout"
    sides.append(f"the median balancing weight of {tables.METHOD_NAMES[method]} is {side}")
for weight in (0.1, 0.5, 1, 10):
    ax.axhline(weight, color="0.5", ls=":", lw=1)
ax.set(yscale="log", xlabel="epoch", ylabel=r"balancing $\lambda_{ts}$")
ax.yaxis.set_major_formatter("{x:g}")
ax.yaxis.set_minor_formatter(LogFormatter())
ax.legend()
sns.despine(fig)
balance_says = ", and ".join(sides) or "the store has no such runs"
glue("balance-says", balance_says[0].upper() + balance_says[1:], display=False)

# %% [markdown]
# ## Larger weights
#
# If the force at weight 1 is small, larger weights should show at which weight it begins to matter. The table gives the epochs until the answer
# is right and, at the last check, the number of loops and the mean $H_0$ lifespan over the mean distance.

# %% tags=["hide-input"]
larger = study(
    store,
    [],
    base={"method": "ce", "lambda_ts": 0.0},
    protocol=protocol,
    weights=(0.0, 1.0, 10.0, 100.0, 1e3, 1e4),
    model=model,
)
larger_weights = larger.arm.str.extract(r"λ=(.*)")[0].astype(float).fillna(0.0)
beyond = larger_weights > 10
table(comparison(larger), FORMATS) if beyond.any() else missing("tsp sweep weight")

# %% tags=["remove-cell"]
beyond_result, even_result = "", "There are no such runs"
if beyond.any():
    first, last = larger.iloc[0], larger.iloc[-1]
    epochs = [
        f"{'more than ' * bool(row.censored)}{row.iterations:g} epochs" for row in (first, last)
    ]
    even = larger.h0_mean_lifespan_scaled.idxmax()
    beyond_result = f"The median problem takes {epochs[0]} without TSLoss and {epochs[1]} at the largest weight."
    if larger.p.isna().all():
        beyond_result += " With so few problems no test is possible: the table describes them."
    even_result = (
        f"H0 / D is nearest to 1 at weight {short(larger_weights[even])}, where "
        f"{larger.h1_count[even]:.1f} loops are left"
    )
    if larger.h1_count[even] > last.h1_count:
        even_result += (
            ". So closeness to a simplex does not by itself explain why loops vanish at the largest "
            "weight; the cause is not tested"
        )
glue("beyond-result", beyond_result, display=False)
glue("even-result", even_result, display=False)

# %% [markdown]
# {glue:text}`beyond-result`

# %% mystnb={"image": {"alt": "Number of loops at the last check against the weight of TSLoss, from 0 to 10,000: a thin line for each problem and a thick one for the median."}, "figure": {"caption": "{glue:text}`weights-say` Thin: single problems; thick: the median over problems.", "name": "fig-loops-by-weight"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7.2, 2.8), layout="constrained")
says = "There are no such runs."
if beyond.any():
    arms = {
        f"{weight:g}": {"method": "tsloss" if weight else "ce", "lambda_ts": weight}
        for weight in larger_weights
    }
    chosen = units(records[records.model == model], arms, protocol=protocol, length=length)
    ends = at_last(chosen, load_topology(store), "h1_count", length=length)[list(arms)]
    medians = ends.median()
    for _, row in ends.iterrows():
        ax.plot(row.index, row, color="grey", lw=0.8)
    ax.plot(medians.index, medians, marker="o", lw=2, color=figures.METHOD_COLORS["tsloss"])
    says = f"The median number of loops is {medians.iloc[0]:g} without TSLoss, {medians.max():g} at weight {short(float(medians.idxmax()))} and {medians.iloc[-1]:g} at weight {short(float(medians.index[-1]))}."
ax.set(xlabel="weight of TSLoss", ylabel="$H_1$ bars at the end")
sns.despine(fig)
glue("weights-say", says, display=False)
plt.show()

# %% [markdown]
# TSLoss is smallest at a simplex ({prf:ref}`prop-minimum`), and {doc}`08_tsloss_at_work`
# shows that loops shorten on the way there long before they vanish. {glue:text}`even-result:s`.

# %% [markdown]
# ## Weights matched by force
#
# A weight of 1 means something different for every regulariser. Here TSLoss is trained at the weights 100 and 300, which the balancing weight
# passes on its way down ({numref}`fig-balance`). The other regularisers are trained at weights at which their gradients, on a Gaussian prompt of the
# usual initial scale, are about as long as TSLoss's at weight 1 ({doc}`15_what_it_stands_for` derives these weights). Each arm is compared
# with Standard, first by epochs, then by loops at the last check. Both tests are corrected over all these arms.

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
    experiment="force",
)
matched = len(forced) == 1 + len(FORCE)
by_force = comparison(forced)
table(by_force, FORMATS) if matched else missing("tsp sweep force --profile full")

# %% tags=["hide-input"]
ends = pd.DataFrame()
force_says = "No arm was compared, since runs are missing"
if matched:
    names = dict(zip(forced.arm, by_force.index, strict=True))
    trained = records[records.model.eq(model) & records.seed.eq(1)]
    arms = {f"{name} λ={weight:g}": {"method": name, "lambda_ts": weight} for name, weight in FORCE}
    chosen = units(trained, {"ce": STANDARD, **arms}, protocol=protocol, length=length)
    loops = at_last(chosen, load_topology(store), "h1_count", length=length)
    ends = contrasts({name: loops[name] - loops.ce for name in arms}).set_index("name")
    ends = ends[["n", "above", "below", "median", "p", "p_holm"]]
    ends.columns = ["problems", "more loops", "fewer loops", "median difference", "p", "p (Holm)"]
    ends = ends.rename(index=names)
    by_reading = forced.arm.map(names).groupby(reading(forced)).agg(list)
    words = [word for word in ("faster", "slower") if word in by_reading]
    shown = [f"{listed(by_reading[word])} {word}" for word in words]
    force_says = "Whether any arm is faster or slower than Standard is undecided"
    force_says = f"The tests find {listed(shown)} than Standard" if shown else force_says
    certain = ends[ends["p (Holm)"] < 0.05]
    for side, other in (("more loops", "fewer loops"), ("fewer loops", "more loops")):
        arms = certain.index[certain[side] > certain[other]]
        force_says += f". There are {side} with {listed(arms)}" if len(arms) else ""
    open_speed = by_reading.get("undecided", [])
    if open_speed and shown:
        force_says += f". The speed of {listed(open_speed)} is undecided"
    if len(open_loops := ends.index.difference(certain.index, sort=False)):
        force_says += f". Whether the number of loops differs is undecided for {listed(open_loops)}"
glue("force-says", force_says, display=False)
table(ends, FORMATS | {"median difference": "{:.1f}"}) if matched else None

# %% [markdown]
# {glue:text}`force-says`.

# %% [markdown]
# ## The weight and the size of the model
#
# The paper leaves open how to adapt TSLoss to models of other sizes (appendix A.4). For each model that was trained here at several
# weights, the table gives the weight with the smallest median of epochs, and all weights whose median is at most one check (two epochs) larger.
# These minima are not tested; rounding alone moves a problem by a median of {glue:text}`floor` epochs, so a minimum need not be an effect of the weight.

# %% tags=["hide-input"]
rows = []
for name in ("smollm2-135m-instruct", "gemma-3-270m"):
    trained = records[(records.model == name) & records.protocol.eq(protocol)]
    if trained[trained.method == "tsloss"].lambda_ts.nunique() < 2:
        continue
    weights = sorted({0.0, 0.1, 0.5, 1.0, 10.0} & set(trained.lambda_ts))  # those of Table 4
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
names = [
    "model",
    "parameters, 10⁶",
    "problems",
    "weight with the fewest epochs",
    "epochs, median",
    "weights within one check",
]
best = pd.DataFrame(rows, columns=names).set_index("model")
formats = {"weight with the fewest epochs": "{:g}", "epochs, median": "{:g}"}
table(best, formats) if len(best) else missing("tsp sweep table4")

# %% [markdown]
# So few and such small models cannot show a trend with size: a trend takes at least three sizes, and the paper's models begin at two billion
# parameters.

# %% [markdown]
# ## An exercise
#
# ```{exercise} Where the forces balance
# :label: ex-balance
# Let the loss be $\tfrac12 \lVert x \rVert^2$ and the regulariser $\tfrac12 \lVert x - c \rVert^2$ at weight $\lambda$. Where is
# the minimum of their weighted sum, and how long are the two gradients there? At which weight is the minimum a tenth of the way to
# $c$? What, then, is the balancing weight of a run that has converged?
# ```
#
# ```{solution-start} ex-balance
# :class: dropdown
# ```
# The gradient $x + \lambda (x - c)$ is 0 at $x = \frac{\lambda}{1 + \lambda} c$. There the loss's gradient has length
# $\frac{\lambda}{1 + \lambda} \lVert c \rVert$ and the regulariser's $\frac{1}{1 + \lambda} \lVert c \rVert$. Weighted by
# $\lambda$, the second is as long as the first and points the other way. A tenth of the way takes $\lambda = 1/9$. A run that has converged
# at weight $\lambda$ has the balancing weight $\lambda$, whatever the two losses are. So the balancing weight is informative only before
# convergence (without the regulariser it falls to 0).

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
weight_claims = [claim.id for claim in CLAIMS if claim.family == "weight"]
verdicts = tables.chapter_claims(store, weight_claims)
stacked(verdicts)
