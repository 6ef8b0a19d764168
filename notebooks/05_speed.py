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
# # How fast, and compared with what
#
# The language model is frozen, and almost everything that makes prompt tuning slow comes from forgetting
# that. This chapter says what the trainer does about it, how long things take beside what one would
# use otherwise, whether the shortcuts change any outcome, and what fits on which GPU.
#
# The times on this page are read from `data/measurements/`, which `tsp bench` wrote: both sides run in
# one process, in turn, and the median counts. The other side runs its own code as it is published: PEFT's
# prompt tuning {cite}`lester2021power` in transformers' `Trainer`, with answers from `generate`; gudhi,
# giotto-tda and ripser for topology. Model, problems, first prompt, optimiser, schedule, checks and
# longest answer are the same on both sides, and a test shows that where the prompts also stand at the
# same place, PEFT ends with our prompt. Two things differ here: PEFT can only put its prompt before
# everything, ours stands after the question; and PEFT computes in the model's float32, ours in the
# precision that the table names. One row compares the two in float32.

# %% tags=["parameters"]
measurements = ""  # folder of bench.json and roundings.json; empty: the published ones
model = "smollm2-135m-instruct"  # whose arithmetic is counted
task = "gsm8k"
problem = 0

# %% tags=["hide-input"]
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from myst_nb import glue

from tsp import models
from tsp.arithmetic import arithmetic, traffic
from tsp.bench import AIMS, RUNS
from tsp.cards import fits
from tsp.drawing import METHOD_COLORS, WIDTH, style
from tsp.paths import data_dir
from tsp.roundings import agreement
from tsp.spec import RunSpec
from tsp.tasks import load_problems

style()
folder = Path(measurements or data_dir("measurements"))
rows = pd.DataFrame(json.loads((folder / "bench.json").read_text())).set_index("name")
told = rows.iloc[0]
for name in ("machine", "processor", "device", "threads", "torch", "transformers", "peft"):
    glue(f"bench-{name}", str(told[name]), display=False)
for name in rows.index:
    glue(f"ratio-{name}", float(rows.ratio[name]), display=False)


def reached(name):
    aim, ratio = AIMS[name], rows.ratio[name]
    return ratio <= aim.aim if aim.most else ratio >= aim.aim


def enumerated(names):
    said = [f"{AIMS[n].what} ({shown(n)}, {AIMS[n].text} wanted)" for n in names]
    return "; ".join(said) or "none"


def shown(name):
    return f"{rows.ratio[name]:.1%}" if AIMS[name].share else f"{rows.ratio[name]:.1f} ×"


def trained(name, side):
    told = {what: int(rows.loc[name, f"{side}_{what}"]) for what in ("runs", "epochs", "solved")}
    return "{runs} of which {solved} solved, {epochs} epochs in all".format(**told)


missed = [name for name in rows.index if not reached(name)]
glue("bench-missed", enumerated(missed), display=False)
glue("bench-reached", len(rows) - len(missed), display=False)
glue("bench-rows", len(rows), display=False)
glue("bench-ours", trained("epoch_single_vs_peft", "ours"), display=False)
glue("bench-peer", trained("epoch_single_vs_peft", "peer"), display=False)


def table(frame, **formats):
    made = frame.style.format(precision=1, **formats).set_table_attributes('class="dataframe"')
    cells = {"selector": "th, td", "props": "padding: 0.3em 0.5em; text-align: left"}
    return made.set_table_styles([cells])


# %% [markdown]
# Measured on {glue:text}`bench-machine` ({glue:text}`bench-processor`), device {glue:text}`bench-device`,
# {glue:text}`bench-threads` threads, torch {glue:text}`bench-torch`, transformers
# {glue:text}`bench-transformers`, PEFT {glue:text}`bench-peft`. A laptop gives other seconds; the ratios
# travel better.

# %% tags=["hide-input"]
table(
    pd.DataFrame(
        {
            "what": [AIMS[name].what for name in rows.index],
            "ours": [f"{value:.3g}" for value in rows.ours],
            "the other": [f"{value:.3g}" for value in rows.peer],
            "unit": rows.unit.to_list(),
            "ratio": [shown(name) for name in rows.index],
            "aim": [AIMS[name].text for name in rows.index],
            "compared with": rows.peer_name.to_list(),
            "our precision": rows.precision.fillna("").to_list(),
            "repeats": rows.repeats.to_list(),
        }
    ).set_index("what")
)

# %% [markdown]
# A ratio says how many times as long the other side takes; a percentage is ours as a part of the other.
# {glue:text}`bench-reached` of {glue:text}`bench-rows` aims are reached. Missed: {glue:text}`bench-missed`.
# Of whole runs the table gives the time of one epoch of one run, checks with it, because a bank and PEFT
# do not stop at the same epoch; ours was a bank of {glue:text}`bench-ours`, PEFT's
# {glue:text}`bench-peer`.

# %% mystnb={"image": {"alt": "Horizontal bars on a logarithmic axis, one for each comparison: how many times as long the other side takes; a tick on each marks the aim."}, "figure": {"caption": "How many times as long the other side takes (bars), and what was aimed at (ticks). A bar left of its tick misses its aim.", "name": "fig-speed"}} tags=["hide-input"]
speeds = [name for name in rows.index if not AIMS[name].share]
fig, ax = plt.subplots(figsize=(WIDTH, 0.42 * len(speeds) + 0.8))
ax.barh([AIMS[name].what for name in speeds], rows.ratio[speeds], color=METHOD_COLORS["tsloss"])
ax.plot([AIMS[name].aim for name in speeds], range(len(speeds)), "|", color="black", ms=14, mew=2)
ax.set(xscale="log", xlabel="times as long")
ax.axvline(1, color="0.4", lw=1)
ax.invert_yaxis()
plt.show()

# %% [markdown]
# ## Where the time of a step goes
#
# A step needs two operations (a product and a sum) for every weight and token, once forward and once
# backward: with respect to the weights nothing is computed, as they do not move. Not all tokens need it:
#
# * What stands before the prompt never changes, so its keys and values are computed once a problem
#   and shared by all runs. Only the prompt and what follows are computed again.
# * The vocabulary projection is needed where the loss looks: at the answer.
# * Whether the answer is right is mostly known from the training pass itself: greedy decoding
#   reproduces the reference up to the first token where the most likely token is another one. From there
#   tokens are generated, for many runs and checks at once, with guesses taken from the last answer.

# %% tags=["hide-input"]
frozen = models.load(model)
(chosen,) = load_problems(task, problem=problem)
spec = RunSpec(model=model, task=task, problem=problem)
count = arithmetic(frozen, chosen, spec)
bytes_ = traffic(frozen, chosen, spec, RUNS)
for name, value in count.items():
    glue(f"count-{name}", value, display=False)
for name, value in bytes_.items():
    glue(f"bytes-{name}", value / 2**20, display=False)
glue("bench-runs", RUNS, display=False)
table(
    pd.DataFrame(
        {
            "tokens computed": [count["own"], count["all"]],
            "positions projected": [count["target"], count["all"]],
            "10⁹ operations": [count["ours"], count["plain"]],
        },
        index=["here", "the whole sequence, all logits"],
    )
)

# %% [markdown]
# For this problem that is {glue:text}`count-plain:.0f` against {glue:text}`count-ours:.0f` thousand million
# operations a step and run, a factor of {glue:text}`count-saved:.1f`; with a context of thousands of tokens
# the factor is what the table above shows. In float32 a step of {glue:text}`bench-runs` runs cannot move less than
# {glue:text}`bytes-weights:.0f` MiB of weights, {glue:text}`bytes-activations:.0f` MiB of activations that
# the backward pass needs, and {glue:text}`bytes-contexts:.0f` MiB of keys and values of contexts.
#
# The machine's own rate is that of one large product of matrices. Of it the trainer reaches
# {glue:text}`ratio-gemm_fraction:.0%` in float32, counting only what has to be computed. The rest, from torch's
# profiler:

# %% tags=["hide-input"]
parts = {"products": "products with weights", "attention": "attention", "rest": "everything else"}
profiled = rows[rows.index.str.startswith("gemm_fraction")].set_index("precision")
profiled = profiled[[f"share_{name}" for name in parts]].dropna()
table(profiled.set_axis(list(parts.values()), axis=1).rename_axis(None).map("{:.0%}".format))

# %% [markdown]
# Products with weights run near the machine's rate; attention works on few numbers at a time, and everything
# else (norms, the rotation of keys, activations of the feed-forward layers, the softmax over the vocabulary)
# does little arithmetic for each byte that it moves. The faster the products are, the more the rest weighs:
# that is why a lower precision wins time and yet stays further below the machine's rate.
#
# ## Does precision change what comes out?
#
# Prompts, losses and the optimiser's state are float32 in any case. Training passes may run in bfloat16;
# an answer is then decided by the float32 model, unless a training pass chooses the whole reference by clear
# margins. To see what that changes, the same pairs of runs, with and without TSLoss, were trained three times
# until they were solved: in float32; in float32 without sharing contexts, which is the same
# mathematics with some sums rounded in another order; and in bfloat16.

# %% tags=["hide-input"]
outcomes = json.loads((folder / "roundings.json").read_text())
close = agreement(outcomes).set_index("arithmetic").rename_axis(None)
glue("roundings-runs", int(close.runs.iloc[0]), display=False)
glue("roundings-model", str(outcomes[0]["model"]), display=False)
for label, name in (("again", "float32, nothing shared"), ("low", "bfloat16")):
    way = close.loc[name]
    glue(f"{label}-moved", int(way.runs - way.same), display=False)
    glue(f"{label}-later", int(way.later), display=False)
    glue(f"{label}-earlier", int(way.earlier), display=False)
    glue(f"{label}-median", float(way.median_difference), display=False)
    glue(f"{label}-largest", float(way.largest_difference), display=False)
verdicts = close.verdict.unique()
glue(
    "roundings-verdicts",
    "the same under all three" if len(verdicts) == 1 else "not the same",
    display=False,
)
table(
    pd.DataFrame(
        {
            "pairs": close.pairs,
            "TSLoss earlier": close.wins,
            "as early": close.ties,
            "later": close.losses,
            "median ratio of epochs": [
                f"{way.median_ratio:.2f} [{way.low:.2f}, {way.high:.2f}]"
                for way in close.itertuples()
            ],
            "verdict on “fewer iterations”": close.verdict,
        }
    )
)

# %% mystnb={"image": {"alt": "Scatter plot: for each run the epoch at which it was solved in float32 across, and under another arithmetic upwards, around the diagonal; circles for float32 with nothing shared, crosses for bfloat16."}, "figure": {"caption": "The epoch at which each run was solved, in float32 (across) and computed otherwise (upwards). On the diagonal nothing has changed.", "name": "fig-roundings"}} tags=["hide-input"]
wide = pd.DataFrame(outcomes)
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
    ylabel="epoch solved, otherwise",
    xlim=(0, limit),
    ylim=(0, limit),
)
ax.legend()
plt.show()

# %% [markdown]
# On {glue:text}`roundings-model` the verdict is {glue:text}`roundings-verdicts`. Single counts are another
# matter. Of {glue:text}`roundings-runs` runs, {glue:text}`again-moved` were solved at another epoch when only
# the order of float32 sums changed ({glue:text}`again-earlier` earlier, {glue:text}`again-later` later, by
# {glue:text}`again-median:.0f` epochs at the median and {glue:text}`again-largest:.0f` at most), and
# {glue:text}`low-moved` in bfloat16 ({glue:text}`low-earlier` earlier, {glue:text}`low-later` later, by
# {glue:text}`low-median:.0f` and {glue:text}`low-largest:.0f`). A count is the first check at which one answer
# comes out right, and training amplifies any difference until then: the number of one run hinges
# on how it was rounded. So runs that are compared share a precision, the store says which
# (`tsp runs show`), `--precision float32` fixes it, and a verdict needs many pairs.
#
# ## What fits where
#
# `tsp run --plan …` prints what a run will take, before it starts. The same prediction for the paper's
# four models, whose weights it does not need: it runs their layers on tensors without content and counts
# what a backward pass would keep.

# %% tags=["hide-input"]
cards = fits().drop(columns="hub_id").set_index(["model", "precision"])
sizes = {"weights": "weights, GiB", "run": "one run, GiB", "context": "5,000 tokens, GiB"}
cards[list(sizes)] /= 2**30
table(cards.rename(columns=sizes))

# %% [markdown]
# Below each card: how many runs on a problem of 300 tokens train at once, 0 where not even one fits. Weights are
# counted in each precision that is used: with bfloat16 passes the float32 model stays, because it decides the
# answers, so that a weight takes six bytes. These are predictions: a test holds them against the memory that
# a bank takes on a CPU, within a quarter; on a GPU they have not been measured here.

# %% [markdown]
# ## Measure it yourself
#
# ```bash
# mkdir mine
# tsp bench --json mine/bench.json            # about three quarters of an hour on two cores
# tsp bench --roundings mine/roundings.json   # about a quarter of an hour
# papermill notebooks/05_speed.ipynb mine/05_speed.ipynb -p measurements mine
# ```
