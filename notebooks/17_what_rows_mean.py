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
# # What a prompt's vectors mean
#
# The paper {cite}`anonymous-topology` calls bars inference paths, an interpretation that cannot be tested. A more direct question is
# what the vectors of a prompt mean to the model: which tokens of its vocabulary are they near, and how far do they travel during
# training? In the book's example, {glue:text}`above-ce` vectors end nearer to some token, by cosine, than
# 97.5 % of random vectors are to theirs, and {glue:text}`tokens-kept` keep the nearest token of their random start. Such readings have limits: the nearest tokens
# need not tell what a prompt does {cite}`khashabi2021waywardness`.
#
# ```{admonition} After this chapter you can
# :class: tip
# find the tokens near a prompt's vectors, and say what nearness shows.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
task: str = ""  # of the problem; empty, with problem 0: the example of all chapters
problem: int = 0
protocol: str = "tuned"
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has
epochs: int = 30  # of a run that the store lacks: it is trained now

# %% tags=["hide-input"]
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from myst_nb import glue

from tsp.analysis.tables import METHOD_NAMES, TASK_NAMES
from tsp.book.pages import check_parameters, table
from tsp.experiments.find_or_train import find_example, outcome_in_words, right_from
from tsp.figures import paper_figures as figures
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.spec import RunSpec

check_parameters(globals())

figures.style()
store = Store(runs)
common = {"model": model, "protocol": protocol, "epochs": epochs}
specs = [
    RunSpec(**common, method="ce", lambda_ts=0.0),
    RunSpec(**common, method="tsloss", lambda_ts=1.0),
]
example = find_example(store, specs, task=task, problem=problem, data=data)
if example[0].published and not (task or problem):
    assert all(map(right_from, example))  # wrong at the start, right at the end
pair = {run.spec.method: run for run in example}
spec = pair["ce"].spec
glue("problem", f"problem {spec.problem} of {TASK_NAMES[spec.task]}", display=False)
glue("last", max(pair["ce"].prompt_epochs), display=False)
for method, run in pair.items():
    glue(f"outcome-{method}", outcome_in_words(run), display=False)
frozen = models.load(model, device="cpu")
vocabulary = frozen.vocabulary.detach().float()  # (tokens, d)
directions = torch.nn.functional.normalize(vocabulary, dim=1)


def nearest(rows):
    """Return each row's cosine with the nearest token of the vocabulary, and the token."""
    cosine = torch.nn.functional.normalize(rows.float(), dim=1) @ directions.T
    best = cosine.max(dim=1)
    return best.values.numpy(), [frozen.tokenizer.decode([int(k)]) for k in best.indices]


def as_code(token):
    """Return a token as HTML, its own markup escaped."""
    return f"<code>{escape(repr(token)[1:-1])}</code>"


# %% [markdown]
# ## Nearest tokens
#
# The prompt is {ref}`the book's example <the-example>`, one problem and one seed: {glue:text}`problem`, trained for
# {glue:text}`last:d` epochs. Without TSLoss its answer {glue:text}`outcome-ce`; with TSLoss it {glue:text}`outcome-tsloss`. The table shows
# the nearest token and its cosine for the first eight vectors of the run without TSLoss, at three of its snapshots.

# %% tags=["hide-input"]
run = pair["ce"]
kept = run.prompt_epochs
chosen = [kept[0], kept[len(kept) // 2], kept[-1]]
columns = {}
for epoch in dict.fromkeys(chosen):
    cosine, tokens = nearest(run.prompt(epoch))
    columns[f"epoch {epoch}"] = [
        f"{as_code(token)} {value:.2f}" for token, value in zip(tokens[:8], cosine[:8], strict=True)
    ]
table(pd.DataFrame(columns, index=[f"x{k}" for k in range(1, 9)]), markup=True)

# %% tags=["remove-cell"]
rng = torch.Generator().manual_seed(0)
random = torch.randn(2000, vocabulary.shape[1], generator=rng)
by_chance, _ = nearest(random)
low, high = np.quantile(by_chance, [0.025, 0.975])
glue("chance-low", f"{low:.2f}", display=False)
glue("chance-high", f"{high:.2f}", display=False)
rows = []
for method, run in pair.items():
    first = run.prompt(run.prompt_epochs[0]).float()
    for epoch in run.prompt_epochs:
        now = run.prompt(epoch).float()
        cosine, tokens = nearest(now)
        turned = torch.nn.functional.cosine_similarity(now, first, dim=1).numpy()
        far = (now - first).norm(dim=1) / first.norm(dim=1)
        for k in range(len(now)):
            rows.append(
                {
                    "method": method,
                    "epoch": epoch,
                    "row": k,
                    "cosine": cosine[k],
                    "token": tokens[k],
                    "turned": turned[k],
                    "far": float(far[k]),
                    "length": float(now[k].norm()),
                }
            )
drift = pd.DataFrame(rows)
ends = drift[drift.epoch == drift.groupby("method").epoch.transform("max")]
for method, rows in ends.groupby("method"):
    above = int((rows.cosine > high).sum()) or "none"
    glue(f"above-{method}", f"{above} of {len(rows)}", display=False)
glue("word-length", f"{vocabulary.norm(dim=1).median():.2f}", display=False)
glue("row-first", f"{drift[drift.epoch == 0].length.median():.2f}", display=False)
glue("row-last", f"{ends[ends.method == 'ce'].length.median():.2f}", display=False)
same = ends[ends.method == "ce"].set_index("row").token
start = drift[(drift.method == "ce") & (drift.epoch == 0)].set_index("row").token
glue("tokens-kept", str((same == start).sum() or "none"), display=False)

# %% [markdown]
# Of 2,000 random vectors, 95 % have a cosine between {glue:text}`chance-low` and {glue:text}`chance-high` with their nearest token,
# and the vectors at epoch 0 are such random vectors. At the end, the cosines of {glue:text}`above-ce` vectors lie above
# this range, and {glue:text}`tokens-kept` still have the nearest token that they began with. The median length of the vectors goes from
# {glue:text}`row-first` to {glue:text}`row-last`; that of the vocabulary's vectors is {glue:text}`word-length`.
#
# ## Drift

# %% mystnb={"image": {"alt": "Three panels over epochs, a thin line for each vector and a thick median, without and with TSLoss: cosine with the nearest token, cosine with the vector's own start, distance from the start over the start's length."}, "figure": {"caption": "At the end, the cosine with the nearest token is above the grey band in {glue:text}`above-ce` vectors without TSLoss and in {glue:text}`above-tsloss` with it. Each vector of the prompt over the stored snapshots: its cosine with the nearest token (grey band: 95 % of random vectors), its cosine with its own start, and its distance from that start in units of its initial length.", "name": "fig-drift"}} tags=["hide-input"]
panels = (
    ("cosine", "cosine, nearest token"),
    ("turned", "cosine, own start"),
    ("far", "distance / initial length"),
)
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.8), layout="constrained")
for ax, (column, label) in zip(axes, panels, strict=True):
    for method, rows in drift.groupby("method"):
        color = figures.METHOD_COLORS[method]
        wide = rows.pivot(index="epoch", columns="row", values=column)
        ax.plot(wide, color=color, lw=0.5, alpha=0.25)
        ax.plot(wide.median(axis=1), color=color, lw=2, label=METHOD_NAMES[method])
    ax.set(xlabel="epoch", title=label)
axes[0].axhspan(low, high, color="0.88", lw=0, zorder=0)
axes[2].legend()
sns.despine(fig)

# %% tags=["remove-cell"]
for method, rows in ends.groupby("method"):
    glue(f"turned-{method}", f"{rows.turned.median():.2f}", display=False)
    glue(f"far-least-{method}", f"{rows.far.min():.1f}", display=False)
    glue(f"far-most-{method}", f"{rows.far.max():.1f}", display=False)

# %% [markdown]
# At the end, the median cosine of a vector with its own start is {glue:text}`turned-ce` without TSLoss and {glue:text}`turned-tsloss`
# with it. The vectors end unequally far from their starts: at {glue:text}`far-least-ce` to {glue:text}`far-most-ce` times their initial length without
# TSLoss, at {glue:text}`far-least-tsloss` to {glue:text}`far-most-tsloss` times with it. {doc}`05_training_or_movement` shows what such
# unequal movement does to loops.

# %% [markdown]
# ## An exercise
#
# ```{exercise} The nearest of many
# :label: ex-nearest
# The directions of $V$ tokens and of one vector are random in $d$ dimensions. About how large is the largest cosine? What does
# this say about a vector whose nearest token has a cosine of 0.18, with $V$ = 49,152 and $d$ = 576?
# ```
#
# ```{solution-start} ex-nearest
# :class: dropdown
# ```
# The cosine of two random directions is approximately $N(0, 1/d)$, and the largest of $V$ such cosines is a little below
# $\sqrt{2 \ln V / d}$, here 0.19. More exactly, a squared cosine follows a beta distribution with parameters $\tfrac12$ and
# $(d-1)/2$, and the median of the largest is 0.17. A cosine of 0.18 lies within the range of chance, so it is no evidence of a relation to that token.
# (Vocabularies are not isotropic, so the range above comes from random vectors and the vocabulary itself.)

# %%
from scipy.stats import beta


def median_of_largest(V, d):
    return np.sqrt(beta.isf(2 * (1 - 0.5 ** (1 / V)), 0.5, (d - 1) / 2))


V, dim = 5000, 576
tokens = torch.nn.functional.normalize(torch.randn(V, dim, generator=rng), dim=1)
drawn = torch.nn.functional.normalize(torch.randn(200, dim, generator=rng), dim=1)
largest = (drawn @ tokens.T).amax(1).median().item()
assert abs(largest / median_of_largest(V, dim) - 1) < 0.03
assert largest < np.sqrt(2 * np.log(V) / dim)
assert f"{median_of_largest(49152, 576):.2f}" == "0.17"
assert f"{np.sqrt(2 * np.log(49152) / 576):.2f}" == "0.19"

# %% [markdown]
# ```{solution-end}
# ```
