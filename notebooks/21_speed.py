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
# prompt tuning {cite}`mangrulkar2022peft,lester2021power` in transformers' `Trainer`, with answers from
# `generate` {cite}`wolf2020transformers`; gudhi {cite}`maria2014gudhi`, giotto-tda {cite}`tauzin2021giotto` and
# ripser.py {cite}`tralie2018ripser` for topology, which here rests on giotto-ph {cite}`perez2021giottoph`, as
# giotto-tda does.
#
# In training, model, problems, optimiser, schedule, the epochs of checks and the longest answer are the same
# on both sides. What is not:
#
# * Ours trains a bank of runs, half of them with TSLoss, each from a first prompt of its own; PEFT one run
#   without. A test trains the two from one prompt at one place, and PEFT ends with our prompt.
# * PEFT can only put its prompt before everything; ours stands after the question, as in the paper.
# * PEFT computes in the model's float32, ours in the precision that the table names.
# * Ours also checks the answers before the first epoch.
#
# The problems are this project's own, in the schema of GSM8K {cite}`cobbe2021training`; a long context is
# one of their questions, repeated.
#
# ```{admonition} After this chapter you can
# :class: tip
# tell a fair comparison of speed from an unfair one.
# ```

# %% tags=["parameters"]
measurements: str = ""  # folder of bench.json and roundings.json; empty: the published ones
task: str = "gsm8k"  # of the problem whose operations are counted
problem: int = 0

# %% tags=["hide-input"]
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from myst_nb import glue

from benchmarks.bench import AIMS
from benchmarks.flops import arithmetic, traffic
from benchmarks.gpu_capacity import fits
from benchmarks.roundings import agreement
from benchmarks.training import RUNS
from tsp.book import pages
from tsp.book.pages import check_parameters
from tsp.figures.style import METHOD_COLORS, WIDTH, style
from tsp.paths import data_dir
from tsp.problems.loading import load_problems
from tsp.training import models
from tsp.training.spec import RunSpec

check_parameters(globals())

style()
folder = Path(measurements or data_dir("measurements"))
rows = (
    pd.DataFrame(json.loads((folder / "bench.json").read_text()))
    .drop_duplicates("name")
    .set_index("name")
)
told = rows.iloc[0]
for name in ("machine", "processor", "threads", "torch", "transformers", "peft"):
    glue(f"bench-{name}", str(told[name]), display=False)
model = rows.model.dropna().iloc[0]
glue("bench-model", model, display=False)
glue("bench-device", ", ".join(rows.device.unique()), display=False)
glue("bench-data", ", ".join(rows.data.dropna().unique()), display=False)


def reached(name):
    aim, ratio = AIMS[name], rows.ratio[name]
    return ratio <= aim.aim if aim.most else ratio >= aim.aim


def shown(name):
    ratio = rows.ratio[name]
    if AIMS[name].share:
        return f"{ratio:.2%}" if ratio < 0.1 else f"{ratio:.1%}"
    return f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:.1f} ×"


def table(frame, **formats):
    made = frame.style.format(precision=1, **formats).set_table_attributes('class="dataframe"')
    cells = {"selector": "th, td", "props": "padding: 0.3em 0.5em; text-align: left"}
    return made.set_table_styles([cells])


missed = [name for name in rows.index if not reached(name)]
said = "; ".join(
    f"{AIMS[name].what}, {shown(name)} where {AIMS[name].text} was wanted" for name in missed
)
glue("bench-missed", f"Missed: {said}." if missed else "None is missed.", display=False)
glue("bench-reached", len(rows) - len(missed), display=False)
glue("bench-rows", len(rows), display=False)

# %% [markdown]
# Measured with {glue:text}`bench-model` on {glue:text}`bench-machine` ({glue:text}`bench-processor`), device
# {glue:text}`bench-device`, {glue:text}`bench-threads` threads, torch {glue:text}`bench-torch`, transformers
# {glue:text}`bench-transformers`, PEFT {glue:text}`bench-peft`. A laptop gives other seconds; the ratios
# travel better.

# %% tags=["hide-input"]
table(
    pd.DataFrame(
        {
            "what": [AIMS[name].what for name in rows.index],
            "ratio": [shown(name) for name in rows.index],
            "aim": [AIMS[name].text for name in rows.index],
            "ours": [
                f"{way.ours:.3g} {way.unit}" + (f", {way.precision}" if way.precision else "")
                for way in rows.fillna({"precision": ""}).itertuples()
            ],
            "the other": [f"{way.peer:.3g}: {way.peer_name}" for way in rows.itertuples()],
        }
    ).set_index("what")
)

# %% [markdown]
# A ratio says how many times as long the other side takes. A percentage is a part: TSLoss's of a step,
# topology's of an experiment, and of the rate of one large product of matrices what a training step
# reaches. {glue:text}`bench-reached` of {glue:text}`bench-rows` aims are reached.
# {glue:text}`bench-missed` With ten problems at once nearly every answer is wrong at nearly every check,
# and a wrong answer is decoded to its limit, in float32 as the answers of a check have to be: there decoding, which
# shares less than training does, takes most of the time.
#
# Of whole runs the table gives the time of one epoch of one run, checks with it, because where a run ends
# depends on where its prompt stands and how it is rounded. What was trained, and until when:

# %% tags=["hide-input"]
whole = rows[rows.index.str.startswith(("epoch_", "bank64_"))]
sides = {"ours": "ours", "peer": "PEFT"}
table(
    pd.DataFrame(
        {
            (AIMS[name].what, label): {
                "runs": f"{way[f'{side}_runs']:.0f}",
                "epochs at most": f"{way.epochs:.0f}",
                "epochs in all": f"{way[f'{side}_epochs']:.0f}",
                "solved": f"{way[f'{side}_solved']:.0f}",
                "s per run": f"{way[f'{side}_seconds_per_run']:.1f}",
                "repeats": len(times),
                "ms per epoch and run": f"{1e3 * min(times):.0f} to {1e3 * max(times):.0f}",
            }
            for name, way in whole.iterrows()
            for side, label in sides.items()
            for times in [way[f"{side}_times"]]
        }
    ).T
)

# %% mystnb={"image": {"alt": "Horizontal bars on a logarithmic axis, one for each comparison: how many times as long the other side takes; a tick on each marks the aim."}, "figure": {"caption": "How many times as long the other side takes (bars), and what was aimed at (ticks). A bar left of its tick misses its aim.", "name": "fig-speed"}} tags=["hide-input"]
speeds = [name for name in rows.index if not AIMS[name].share]
ratios = rows.ratio[speeds].astype(float)
fig, ax = plt.subplots(figsize=(WIDTH, 0.42 * len(speeds) + 0.8))
ax.barh([AIMS[name].what for name in speeds], ratios - 1, left=1, color=METHOD_COLORS["tsloss"])
ax.plot([AIMS[name].aim for name in speeds], range(len(speeds)), "|", color="black", ms=14, mew=2)
ax.set(xscale="log", xlabel="times as long")
ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if tick < 1.3 * ratios.max()]
ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
ax.set_xlim(min(0.8, 0.9 * ratios.min()), 1.3 * ratios.max())
ax.minorticks_off()
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
#   tokens are generated, for many runs and checks at once, with guesses taken from the last answer and the
#   reference, which change the time and not the answer. Runs that begin with the same prompt are answered once
#   before they train.
# * What is not a product is mostly memory traffic: the norms, which transformers computes in a dozen passes
#   over their input and its gradient, take a few here.

# %% tags=["hide-input"]
frozen = models.load(model)
(chosen,) = load_problems(task, problem=problem)
spec = RunSpec(model=model, task=task, problem=problem)
count = arithmetic(frozen, chosen, spec)
moved = traffic(frozen, chosen, spec, RUNS)
for name, value in count.items():
    glue(f"count-{name}", value, display=False)
for name, value in moved.items():
    glue(f"bytes-{name}", value / 2**20, display=False)
glue("bench-runs", RUNS, display=False)
glue("bytes-all", sum(moved.values()) / 2**30, display=False)
plain = rows.loc["gemm_fraction"]
copied = sum(moved.values()) / plain.get("bandwidth", math.nan) / plain.step_seconds
said = (
    ""
    if math.isnan(copied)
    else f", for which a plain copy takes {copied:.0%} of the step's time on this machine"
)
glue("bytes-time", said, display=False)
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
# operations a step and run, a factor of {glue:text}`count-saved:.1f`; a longer context makes it larger. In
# float32 a step of {glue:text}`bench-runs` runs has to move at least {glue:text}`bytes-weights:.0f` MiB of weights,
# {glue:text}`bytes-activations:.0f` MiB of activations that the backward pass needs, and
# {glue:text}`bytes-context:.0f` MiB of the context's keys and values, together
# {glue:text}`bytes-all:.1f` GiB{glue:text}`bytes-time`. Where a step's time goes, by torch's profiler, and what its products with
# weights reach of the machine's own rate:

# %% tags=["hide-input"]
parts = {"products": "products with weights", "attention": "attention", "rest": "everything else"}
profiled = rows[rows.index.str.startswith("gemm_fraction")].set_index("precision").rename_axis(None)
parts = {f"share_{name}": title for name, title in parts.items()} | {
    "rate_products": "rate of the products with weights",
    "ratio": "rate of the whole step",
}
profiled = profiled.reindex(columns=list(parts)).dropna()
table(profiled.rename(columns=parts).map("{:.0%}".format))

# %% [markdown]
# Products with weights are large; of a step's parts they come nearest to what the machine can do. Attention works on smaller pieces,
# with a softmax between its products; everything else (norms, the rotation of keys, activations of the
# feed-forward layers, the softmax over the vocabulary, the optimisers) does little arithmetic for each byte that
# it moves. Where the products get faster, as in a lower precision on a machine that has units for it, the rest
# keeps its time and weighs more.
#
# ## Does precision change what comes out?
#
# Prompts, losses and the optimiser's state are float32 in any case. Training passes may run in bfloat16;
# an answer is then decided by the float32 model, unless a training pass chooses the whole reference by clear
# margins. To see what that changes, the same pairs of runs, with and without TSLoss, were trained three times
# until they were solved: in float32; in float32 without sharing contexts, which is the same
# mathematics with the sums of attention rounded in another order; and in bfloat16.

# %% tags=["hide-input"]
outcomes = json.loads((folder / "roundings.json").read_text())
close = agreement(outcomes).set_index("arithmetic").rename_axis(None)
problems = pd.DataFrame(outcomes).drop_duplicates(["task", "problem"])
glue("roundings-model", str(outcomes[0]["model"]), display=False)
glue(
    "roundings-tasks",
    ", ".join(f"{n} of {t}" for t, n in problems.task.value_counts().items()),
    display=False,
)
glue("roundings-known", int(problems.known.sum()), display=False)
glue("roundings-epochs", int(outcomes[0]["epochs"]), display=False)
glue("roundings-runs", int(close.runs.iloc[0]), display=False)


def changed(name):
    way = close.loc[name]
    told = f"{way.runs - way.same} of {way.runs} runs"
    if way.same < way.runs:
        told += f" ({way.earlier} earlier, {way.later} later, by {way.median_change:g} epochs at the median of these"
        told += f" and {way.largest_change:g} at most)"
    return told


glue("moved-again", changed("float32, nothing shared"), display=False)
glue("moved-low", changed("bfloat16"), display=False)
if close.verdict.nunique() > 1:
    verdict = "is not the same under all three: " + ", ".join(
        f"{v} ({k})" for k, v in close.verdict.items()
    )
elif close.verdict.iloc[0] == "inconclusive":
    verdict = (
        "is “inconclusive” under all three: so few pairs decide nothing, in whatever precision"
    )
else:
    verdict = f"is “{close.verdict.iloc[0]}” under all three"
glue("roundings-verdict", verdict, display=False)
hinges = (close.same < close.runs).any()
lesson = (
    "A count is the first check at which one answer comes out right, and training amplifies any difference until "
    "then: the number of one run hinges on how it was rounded. So runs that are compared should share a precision, "
    "and a verdict needs many pairs."
    if hinges
    else "No count moved; that need not hold for other problems, so runs that are compared should share a precision."
)
glue("roundings-lesson", lesson, display=False)
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

# %% mystnb={"image": {"alt": "Scatter plot: for each run the epoch at which it was solved in float32 across, and under another arithmetic upwards, around the diagonal; circles for float32 with nothing shared, crosses for bfloat16."}, "figure": {"caption": "The epoch at which each run was solved, in float32 (across) and computed otherwise (upwards). On the diagonal nothing has changed; runs that were not solved stand beyond the last epoch.", "name": "fig-roundings"}} tags=["hide-input"]
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
    ylabel="epoch solved, otherwise",
    xlim=(0, limit),
    ylim=(0, limit),
)
ax.legend()
plt.show()

# %% [markdown]
# These are pairs on {glue:text}`roundings-tasks`, with {glue:text}`roundings-model`, trained for at most
# {glue:text}`roundings-epochs` epochs; {glue:text}`roundings-known` of the problems the untrained prompt answers
# already, and they are left out. Pairs that neither run solves have no ratio. The verdict
# {glue:text}`roundings-verdict`. Where only the order of float32 sums changed, {glue:text}`moved-again` were solved
# at another epoch; in bfloat16 {glue:text}`moved-low`. {glue:text}`roundings-lesson`
#
# The store says which precision a run had (`tsp runs show`), a sweep goes on in that of the runs that are there,
# and `--precision float32` asks for one.
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
# answers, so that a weight takes six bytes. These are predictions; a test holds such predictions against the
# memory that a bank takes on a CPU, within a quarter.

# %% [markdown]
# ## An exercise
#
# ```{exercise} The slow part
# :label: ex-amdahl
# An experiment spends a share $p$ of its time in topology, and somebody makes topology $k$ times as fast. How much faster
# is the whole? At which share is it worth more to make the rest twice as fast than topology infinitely fast?
# ```
#
# ```{solution-start} ex-amdahl
# :class: dropdown
# ```
# What took 1 takes $(1 - p) + p/k$: the whole becomes $1 / (1 - p + p/k)$ times as fast (Amdahl's law), and never more
# than $1/(1-p)$. The rest twice as fast gives $1/(p + (1-p)/2)$. That is more where $p + (1-p)/2 < 1 - p$, for $p < 1/3$.


# %%
def faster(share, k):
    return 1 / (1 - share + share / k)


assert math.isclose(faster(0.1, 1e12), 1 / 0.9)
assert math.isclose(faster(1 - 1 / 3, 2), faster(1 / 3, 1e12))
assert faster(1 - 0.2, 2) > faster(0.2, 1e12)
assert faster(1 - 0.5, 2) < faster(0.5, 1e12)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Ten thousand stored runs
#
# What lists, reports or tabulates runs should not grow slow with them. An archive of copies of the published runs, with other
# seeds and problems, is read by every command and table in a process of its own. Records are checked against their hashes when
# runs are listed, tables when they are read, and `tsp runs verify` reads every byte. Nothing is remembered from one process to
# the next. Runs that were just trained are folders; reading tens of thousands of small files takes longer, so
# `tsp runs pack runs/all.parquet --remove` packs a store.

# %% tags=["hide-input"]
file = folder / "load.json"
measured = pd.DataFrame(json.loads(file.read_text()) if file.is_file() else [])
told = "It has not been measured"
if not measured.empty:
    measured["MB"] = measured.bytes / 1e6
    shown = measured.set_index("name")[["seconds", "MB"]]
    display(pages.table(shown, {"seconds": "{:.1f}", "MB": "{:.0f}"}))
    quick = shown.drop("tsp runs verify")
    told = f"At most {quick.seconds.max():.1f} s of one processor and {quick.MB.max():.0f} MB"
glue("load-told", told, display=False)

# %% [markdown]
# {glue:text}`load-told` (verification aside). The aim is 5 s and 1 GB.
#
# ## Measure it yourself
#
# ```bash
# mkdir mine
# tsp bench --json mine/bench.json            # takes a while: whole runs, three times on each side
# tsp bench --roundings mine/roundings.json
# tsp bench --load mine/load.json             # ten thousand runs, a quarter of an hour
# papermill notebooks/21_speed.ipynb mine/21_speed.ipynb -p measurements mine
# ```
