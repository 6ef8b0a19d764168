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
# # TSLoss and what it stands for
#
# TSLoss does not use the barcode. Its first half is the variance of soft nearest-neighbour distances because, the paper says (section 3), the true
# nearest-neighbour distances are not smooth. Its second half consists of two squared hinges. But a barcode, too, has a gradient wherever no two
# distances are equal, because a bar ends at the length of an edge, and a length has a gradient {cite}`bruel2020topology`. So functions of the
# barcode itself can be minimised. *Exact persistence* is one: the variance of the $n - 1$ finite $H_0$ deaths plus the sum of the $H_1$ lifespans.
# (The second part is our choice: the paper means its own $H_1$ terms to keep rings.)
#
# How closely does TSLoss follow the barcode, which regulariser needs the fewest epochs, and which helps with unseen problems? For trained prompts
# $\operatorname{Var}(s_i)$ is, in the median, {glue:text}`soft-ratio` times the variance of the deaths. Compared with training without a regulariser
# on {glue:text}`baselines-problems`, the median ratio of epochs is {glue:text}`ts-ratio` with TSLoss and {glue:text}`exact-ratio` with exact
# persistence (below 1 is faster). The paper's claim about unseen problems is {glue:text}`unseen-verdict`. The model is so weak, with
# {glue:text}`floor` of answers correct without a prompt, that only large gains would be visible.
#
# ```{admonition} After this chapter you can
# :class: tip
# differentiate a barcode.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
task: str = "gsm8k"
problem: int = 0
protocol: str = "tuned"
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has
epochs: int = 30  # of a run that the store lacks: it is trained now

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from myst_nb import glue
from scipy.spatial.distance import pdist

from tsp.analysis import tables
from tsp.analysis.claims import CLAIMS
from tsp.analysis.equation13 import surrogate
from tsp.analysis.evidence import same_conditions
from tsp.analysis.heldout import across_sets, paired_losses
from tsp.analysis.records import NO_PROMPT, TASK_NAMES, load_answers, load_heldout, load_runs
from tsp.analysis.stats import detectable_difference, spearman
from tsp.analysis.studies import reading, study
from tsp.analysis.tables import METHOD_NAMES
from tsp.analysis.verdicts import share_interval
from tsp.book.pages import FORMATS, check_parameters, comparison, interval, missing, stacked, table
from tsp.book.verdicts import listed
from tsp.experiments.find_or_train import find_together
from tsp.experiments.paper import ALPHA
from tsp.figures import paper_figures as figures
from tsp.loss import TSLoss
from tsp.regularizers import METHODS, regularizer
from tsp.store.runs import Store
from tsp.training.spec import RunSpec

check_parameters(globals())

figures.style()
store = Store(runs)

# %% [markdown]
# ## Does Var(s) follow the variance of the deaths?
#
# Equation 13 equates the two. It fails for clouds with clumps ({doc}`02_homology_of_a_prompt`). Two approximations
# separate the two sides: a soft minimum stands for the distance to the nearest
# neighbour, and nearest neighbours stand for deaths. Which of them matters? The figure shows the last prompt of each problem
# or set trained without a regulariser whose prompts were stored, and Gaussian clouds of many sizes.

# %% tags=["hide-input"]
rng = np.random.default_rng(0)
place = {"model": model, "task": task, "problem": problem, "protocol": protocol}
standard = RunSpec(**place, epochs=epochs, method="ce", lambda_ts=0.0)
(run,) = find_together(store, [standard], data=data)
snapshots = [run.prompt(epoch).double().numpy() for epoch in run.prompt_epochs if epoch]
prompts = tables.last_prompts(store, protocol=protocol, model=model) or snapshots
n, d = prompts[0].shape
sizes = np.geomspace(0.3, 30, 60)
clouds = {
    "Gaussian": [size * rng.normal(size=(n, d)) / np.sqrt(d) for size in sizes],
    "prompts": prompts,
}
variances = pd.concat(
    surrogate(family).assign(family=name, size=[pdist(cloud).mean() for cloud in family])
    for name, family in clouds.items()
)

fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained", sharey=True)
for ax, (column, label) in zip(
    axes,
    (
        ("soft_variance", r"Var($s_i$), equation 2"),
        ("nearest_variance", "variance of nearest distances"),
    ),
    strict=True,
):
    sns.scatterplot(
        variances,
        x=column,
        y="death_variance",
        hue="family",
        style="family",
        s=18,
        ax=ax,
        legend=ax is axes[0],
    )
    ends = [variances[column].min(), variances[column].max()]
    ax.plot(ends, ends, color="0.6", lw=1, ls=":")
    ax.set(xscale="log", yscale="log", xlabel=label, ylabel="variance of $H_0$ deaths")
axes[0].get_legend().set_title(None)
sns.despine(fig)
plt.close(fig)

# %% mystnb={"image": {"alt": "Two panels with logarithmic axes, one point per cloud: variance of the H0 deaths against the variance of soft nearest neighbours and against that of nearest distances, for Gaussian clouds and trained prompts; dotted line of equality."}, "figure": {"caption": "In the median over prompts, the variance of soft nearest-neighbour distances (left) is {glue:text}`soft-ratio` times the variance of the $H_0$ deaths, that of true ones (right) {glue:text}`nearest-ratio` times. On the dotted line they are equal, as equation 13 has it.", "name": "fig-surrogate"}} tags=["hide-input"]
fig

# %% tags=["hide-input"]
rows = {}
for name, family in variances.groupby("family", sort=False):
    deaths = family.death_variance
    soft, nearest = (
        np.quantile(family[column] / deaths, [0.5, 0.025, 0.975])
        for column in ("soft_variance", "nearest_variance")
    )
    square = family["size"] ** 2  # both variances grow with a cloud's size
    rows[name] = {
        "clouds": len(family),
        "Var(s) / Var(deaths)": interval(*soft),
        "Var(nearest) / Var(deaths)": interval(*nearest),
        "rank correlation": spearman(family.soft_variance, deaths).statistic,
        "with size removed": spearman(family.soft_variance / square, deaths / square).statistic,
    }
for key, column in (("soft", "Var(s) / Var(deaths)"), ("nearest", "Var(nearest) / Var(deaths)")):
    glue(f"{key}-ratio", rows["prompts"][column].split()[0], display=False)
trained = variances[variances.family == "prompts"]
soft, nearest = (
    (trained[column] / trained.death_variance).median()
    for column in ("soft_variance", "nearest_variance")
)
opposite = (nearest - 1) * (soft - nearest) < 0
glue("errors", "opposite signs" if opposite else "the same sign", display=False)
formats = {"clouds": "{:.0f}", "rank correlation": "{:.2f}", "with size removed": "{:.2f}"}
table(pd.DataFrame(rows).T, formats)

# %% [markdown]
# Each ratio is a median over clouds, with the range of the middle 95 % of them. The second uses the true nearest distance instead of the
# soft one, so its distance from 1 is due to nearest neighbours standing for deaths. The step from the second ratio to the first, which is that of
# equation 13, is the effect of the soft minimum; at $\tau = 0.1$ it averages over many neighbours when the cloud is small. For the median prompt
# the two errors have {glue:text}`errors`. Among clouds of different sizes any two variances have a high rank correlation, so for
# the last column both are first divided by the squared mean distance.
#
# ## Which regulariser needs fewer epochs?
#
# In the experiment `baselines` the same problems are trained without a regulariser and with each of four, all at weight 1: the mean squared norm of the
# vectors (L2), the mean squared pairwise distance, TSLoss, and exact persistence. {doc}`14_choices` explains the columns.

# %% tags=["hide-input"]
arms = study(
    store,
    [],
    base={"method": "ce", "lambda_ts": 0.0},
    protocol=protocol,
    methods=METHODS,
    weights=(0.0, 1.0),
    model=model,
)
table(comparison(arms), FORMATS) if len(arms) > 2 else missing("tsp sweep baselines")

# %% tags=["remove-cell"]
ratios = arms.assign(reading=reading(arms)).set_index("arm")
labels = comparison(arms).index if len(arms) else []
for key, arm in (("exact", "persistence λ=1"), ("ts", "tsloss λ=1")):
    said = "–"
    if arm in ratios.index and not np.isnan(ratios.ratio[arm]):
        said = f"{ratios.ratio[arm]:.2f} ({ratios.reading[arm] or 'untested'})"
    glue(f"{key}-ratio", said, display=False)
said = pd.Series(labels, dtype=str).groupby(list(ratios.reading), sort=False)
said = "; ".join(f"{word} for {listed(names)}" for word, names in said if word)
trained_on = int(arms.n.max()) if len(arms) else 0
glue("baselines-problems", f"up to {trained_on} problems", display=False)
glue("baselines-say", said or "missing, as too few problems were trained", display=False)

# %% [markdown]
# The reading is {glue:text}`baselines-say`.
#
# ## Weights of equal force
#
# Weight 1 multiplies quantities of different sizes. Their gradient norms on one Gaussian initial prompt show which weights would make the forces
# equal there. In the experiment `force` the arms have about these weights; {doc}`11_weight` compares them. The summary of the
# published version does not say at which weights it compares regularisers; the rule for its claim takes weight 1 for all.

# %% tags=["hide-input"]
import torch

start = torch.randn(40, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.02
norms = {}
for name in METHODS:
    if name == "ce":
        continue
    P = start.clone().requires_grad_()
    value = regularizer(name, loss=TSLoss())(P[None]).sum()
    (gradient,) = torch.autograd.grad(value, P)
    norms[name] = float(gradient.norm())
equal = pd.DataFrame({"gradient norm at the start": norms})
equal["weight that gives TSLoss's force"] = norms["tsloss"] / equal["gradient norm at the start"]
table(equal.rename(index=METHOD_NAMES), "{:.3g}")

# %% [markdown]
# ## Unseen problems
#
# The summary of the published version {cite}`huang2026structural` says that TSLoss improves downstream accuracy, which we read as the share of correct
# answers to unseen problems. Here,
# all prompts answer the same problems of {glue:text}`task`, which none of them was trained on. The prompts are those trained at weight 1,
# or without a regulariser, on the problems that all methods share. The floor is the model without a prompt.

# %% tags=["hide-input"]
runs_table = load_runs(store)
runs_table = runs_table[runs_table.protocol.eq(protocol) & runs_table.setting.eq("")]
decoded = load_answers(store)
answers = same_conditions(decoded)
answers = answers[(answers.model == model) & (answers.task == task)]
known = answers.id.isin(runs_table.id) | (answers.id == NO_PROMPT)
answers = answers[known].merge(runs_table[["id", "method"]], on="id", how="left")
answers["method"] = answers.method.fillna(NO_PROMPT)
rows = {}
for method, group in answers.groupby("method"):
    by_prompt = group.groupby("id").correct.mean()
    rows[METHOD_NAMES.get(method, method)] = {
        "prompts": group.id.nunique(),
        "answers": len(group),
        "correct": group.correct.mean(),
        "worst prompt": by_prompt.min(),
        "best prompt": by_prompt.max(),
    }
formats = dict.fromkeys(("prompts", "answers"), "{:.0f}")
formats |= dict.fromkeys(("correct", "worst prompt", "best prompt"), "{:.1%}")
table(pd.DataFrame(rows).T, formats) if rows else missing("tsp heldout --data DIR")

# %% tags=["remove-cell"]
unprompted = answers.correct[answers.id == NO_PROMPT]
size, floor = len(unprompted), float(unprompted.mean()) if len(unprompted) else np.nan
glue("task", TASK_NAMES.get(task, task), display=False)
glue("floor", "–" if np.isnan(floor) else f"{100 * floor:.0f} %", display=False)
glue("floor-size", size, display=False)
glue("floor-precision", ", ".join(sorted(set(answers.precision))) or "–", display=False)
for test in ("z", "fisher"):
    gain = detectable_difference(floor, size, test=test) if size else np.nan
    glue(f"floor-shows-{test}", "–" if np.isnan(gain) else f"{100 * gain:.0f}", display=False)
low, high = share_interval(int(unprompted.sum()), size, ALPHA) if size else (0.0, 1.0)
glue("floor-interval", f"{100 * low:.1f} % to {100 * high:.0f} %", display=False)

# %% [markdown]
# Without a prompt the model answers {glue:text}`floor` of {glue:text}`floor-size:d` problems correctly (95 % interval
# {glue:text}`floor-interval`). All answers are decoded greedily in {glue:text}`floor-precision`. With that many problems, at level 0.05, the gain of
# one prompt over the floor is detected with a power of 80 % from {glue:text}`floor-shows-z` percentage points on by a z test, and from
# {glue:text}`floor-shows-fisher` on by Fisher's exact test, whose level never exceeds the nominal one. (Both tests ignore that
# the problems are the same.) A prompt that was trained on
# one problem has learnt that problem's answer; any effect on others is a side effect.
#
# Where the floor hides a difference, the cross-entropy of the reference answer may still show one, and a prompt trained on
# ten problems may transfer better than a prompt trained on one. The next table compares, for each set of ten, the mean cross-entropy
# (nats per token) over unseen problems of the same data set, without a prompt and with the set's prompt (a mean over its seeds). The interval comes from
# a bootstrap over problems, so it is about other problems for the same prompt; *lower* is the share of problems whose cross-entropy the prompt lowers.

# %% tags=["hide-input"]
heldout = load_heldout(store)
sets = runs_table[runs_table.regime.eq("multi") & runs_table.model.eq(model)]


def by_set(changes, base, method, command):
    """Return the table of `paired_losses`, one row per set, or the command that makes it."""
    if changes.empty:
        return missing(command)
    ends = zip(changes.change, changes.low, changes.high, strict=True)
    columns = {
        "problems": changes.problems,
        base: changes.with_base,
        method: changes.with_method,
        "change": [interval(*values) for values in ends],
        "lower": changes.lower,
    }
    formats = {"problems": "{:.0f}", base: "{:.2f}", method: "{:.2f}", "lower": "{:.0%}"}
    known = {task: sorted(rows.content.unique()) for task, rows in sets.groupby("task")}
    places = zip(changes.task, changes.content, strict=True)
    names = [
        TASK_NAMES[task] + f", set {known[task].index(content) + 1}" * (len(known[task]) > 1)
        for task, content in places
    ]
    return table(pd.DataFrame(columns).set_axis(names), formats)


measure = "tsp heldout --regime multi --no-decode --data DIR"
plain = paired_losses(heldout, sets, method="ce", base=NO_PROMPT)
by_set(plain, "no prompt", "Standard", measure)

# %% [markdown]
# The next table compares Standard with +TSLoss in the same way, for prompts of the same set and seed. It has only the sets and seeds that were trained both
# ways, so its column Standard can differ from that of the table above.

# %% tags=["hide-input"]
pairs = paired_losses(heldout, sets)
by_set(pairs, "Standard", "+TSLoss", f"tsp sweep sets --profile full && {measure}")


# %% tags=["remove-cell"]
def holds_chance(right, size):
    """Return whether the interval of a share of correct answers holds a quarter."""
    low, high = share_interval(right, size, ALPHA)
    return low <= 0.25 <= high


means = pd.concat(changes.with_method[changes.task == "mmlu_cf"] for changes in (plain, pairs))
letters = decoded[decoded.task == "mmlu_cf"]
floor_letters = letters[(letters.model == model) & (letters.id == NO_PROMPT)]
floor_letters = floor_letters.drop_duplicates("sha256")
sentences = ["The model has not answered MMLU-CF without a prompt."]
if len(floor_letters):
    right, size = int(floor_letters.correct.sum()), len(floor_letters)
    low, high = share_interval(right, size, ALPHA)
    chance = holds_chance(right, size)
    sentences = [
        f"Without a prompt the model answers {right} of {size} MMLU-CF questions correctly (95 % interval "
        f"{100 * low:.0f} % to {100 * high:.0f} %), which {'is compatible with' if chance else 'excludes'} the quarter that guessing gives"
        + (": accuracy does not distinguish its knowledge from guessing." if chance else ".")
    ]
by_prompt = letters[letters.id.isin(sets.id) & (letters.longest > 0)].groupby("id").correct
counts = [(int(right.sum()), len(right)) for _, right in by_prompt]
if counts:
    shares = " and ".join(f"{right} of {size}" for right, size in counts)
    guessing = all(holds_chance(*count) for count in counts)
    subject = (
        f"The {len(counts)} prompts of sets that were decoded answer"
        if len(counts) > 1
        else "The prompt of one set answers"
    )
    compatible = "is compatible" if guessing else "is not compatible"
    sentences.append(f"{subject} {shares} correctly, which {compatible} with guessing.")
    if guessing:
        sentences.append(
            "So these answers are no evidence that anything beyond their form was learnt. Guessing one of the four letters would cost "
            f"{np.log(4) / 2:.2f} nats per token, averaged over the letter and the end of the turn"
            f"{'; with every MMLU-CF prompt above, the mean is larger' * bool(len(means) and means.min() > np.log(4) / 2)}."
        )
glue("letters", " ".join(sentences), display=False)
for name, changes in {"sets": plain.change, "pairs": pairs.change}.items():
    over = across_sets({name: changes}).iloc[0]
    p = "–" if np.isnan(over.p) else f"{over.p:.2g}"
    shown = f"{over.below:.0f} of {over.n:.0f} sets (sign test over sets, p = {p}{'' if over.p < 0.05 else ': undecided'})"
    glue(f"{name}-lower", shown, display=False)

# %% [markdown]
# The mean cross-entropy of unseen problems of the same data set is lower with the set's prompt than without one in {glue:text}`sets-lower`,
# and lower with TSLoss than with Standard in {glue:text}`pairs-lower`. {glue:text}`letters`

# %% [markdown]
# ## An exercise
#
# ```{exercise} The slope of a barcode
# :label: ex-slope
# Points lie at $(0, 0)$, $(3, 0)$ and $(0, 4)$. What is the variance of the $H_0$ deaths? What is its derivative when the third
# point moves upwards, and when it moves sideways?
# ```
#
# ```{solution-start} ex-slope
# :class: dropdown
# ```
# The deaths $d_1 = 3$ and $d_2 = 4$ are the lengths of two edges, and their variance is $(d_2 - d_1)^2/4 = 1/4$. When the point
# moves upwards, $d_2$ grows at rate 1 and the derivative is $(d_2 - d_1)/2 = 1/2$. When it moves sideways, the edge turns and, to
# first order, does not grow: the derivative is 0. A barcode changes with the lengths of the edges at which its bars begin and end.

# %%
corners = torch.tensor(
    [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64, requires_grad=True
)
value = regularizer("persistence", loss=TSLoss())(corners[None])
value.sum().backward()
assert torch.isclose(value.squeeze(), torch.tensor(0.25, dtype=torch.float64))
assert torch.allclose(corners.grad[2], torch.tensor([0.0, 0.5], dtype=torch.float64))

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Claimed, measured, verdict
#
# {doc}`20_rules` states the rules.

# %% tags=["hide-input"]
of_chapter = [claim.id for claim in CLAIMS if claim.id in ("variances-equal", "better-downstream")]
verdicts = tables.chapter_claims(store, of_chapter)
glue("unseen-verdict", verdicts.verdict.iloc[-1], display=False)
stacked(verdicts)
