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
# # Speed
#
# How fast is the package, and compared with what? An epoch of a run takes longer with PEFT than in a bank of this package, by these factors:
# {glue:text}`bench-headline`. (Factors in brackets hold if PEFT's loop follows our rules for checks, which cost it a little where no answer ends
# early.) The language model is frozen, so part of the work can be left out: a step on the problem below needs {glue:text}`count-saved:.1f` times
# fewer operations, behind 5,000 tokens {glue:text}`count-long:.0f` times fewer. The rest of the gain comes from answers that are decoded together,
# from larger products and, where a processor is fast in it, from lower precision. This chapter compares the trainer with the usual tools, shows
# where the time of a step goes, and tests whether the store stays fast. GPUs are in {doc}`23_out_of_one_machine`.
#
# The times on this page are read from `data/measurements/`, written by `tsp bench`. Both sides run in one process, in turn, and the median of
# usually {glue:text}`bench-repeats` repeats counts. The peers run their own published code: PEFT's prompt tuning
# {cite}`mangrulkar2022peft,lester2021power` in the `Trainer` of transformers, with answers from `generate` {cite}`wolf2020transformers`, and for
# topology gudhi {cite}`maria2014gudhi`, giotto-tda {cite}`tauzin2021giotto` and ripser.py {cite}`tralie2018ripser`. This package, like giotto-tda,
# computes topology with giotto-ph {cite}`perez2021giottoph`.
#
# In training, both sides have the same model, problems, optimiser, schedule, interval of checks and limit on the length of answers. They differ in
# five points:
#
# * This package trains a bank of runs in pairs, without and with TSLoss, each pair from an initial prompt of its own (checks are timed with another
#   prompt for each run); PEFT trains one run without TSLoss. (A test trains both from the same prompt in the same position and checks that they end
#   with the same prompt.)
# * PEFT can put a prompt only before everything else; this package puts it after the question, as the authors' public code does.
# * PEFT computes in the model's float32, this package in the precision that the table names. (In one row, *prompts first*, both are as in PEFT.)
# * In whole runs this package also checks the answers before the first epoch.
# * At each check PEFT's loop generates every answer to its end. Ours takes shortcuts, listed below (our *rules for checks*). The last column of the
#   table of passes and checks shows the ratio if PEFT's loop follows these rules too.
#
# The problems were written for this project in the schema of GSM8K {cite}`cobbe2021training`; a long context repeats one of their questions.
#
# ```{admonition} After this chapter you can
# :class: tip
# tell a fair comparison of speed from an unfair one.
# ```

# %% tags=["parameters"]
measurements: str = ""  # folder of bench.json and load.json; empty: the published ones
task: str = "gsm8k"  # of the problem whose operations are counted
problem: int = 0

# %% tags=["hide-input"]
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from myst_nb import glue

from benchmarks import states
from benchmarks.bench import read_table
from benchmarks.budget import PARTS
from benchmarks.flops import arithmetic
from benchmarks.measuring import PACKAGES, REVISION
from benchmarks.store_load import CLAIM_SECONDS, MEMORY, SECONDS
from benchmarks.training import RUNS, long_problem, operations_of_passes
from tsp.analysis.tables import typeset
from tsp.book import pages
from tsp.book.pages import check_parameters
from tsp.figures.style import METHOD_COLORS, WIDTH, style
from tsp.paths import data_dir
from tsp.problems.loading import load_problems
from tsp.training import models
from tsp.training.decoding import EXTRA_TOKENS
from tsp.training.spec import RunSpec

check_parameters(globals())

style()
folder = Path(measurements or data_dir("measurements"))
rows = read_table(folder)
compiled = rows.name == "step_compiled_vs_plain"  # which the package does not do
tried, rows = rows[compiled].tail(1), rows[~compiled]
old = rows.revision.fillna(0) < REVISION
marked = rows.commit.str.replace(r"^(.{7})[^+]*", r"\1", regex=True) + old.map(
    {True: " †", False: ""}
)
model = next(iter(rows.model.dropna()), models.DEFAULT)
glue("bench-model", model, display=False)


def table(frame, **formats):
    frame = frame.map(lambda cell: typeset(cell) if isinstance(cell, str) else cell)
    style = frame.style.format(precision=1, **formats).set_table_attributes('class="dataframe"')
    cells = {"selector": "th, td", "props": "padding: 0.3em 0.4em; text-align: left"}
    whole = {"selector": "td", "props": "white-space: nowrap"}
    first = {"selector": "th.row_heading.level0", "props": "min-width: 9.5em"}
    return style.set_table_styles([cells, whole, first])


def span(chosen, same_rules=False):
    """Show the ratios of some measurements: one number, or the smallest and the largest."""
    ratios = (chosen.peer_rule / chosen.ours if same_rules else chosen.ratio).dropna()
    ends = [f"{end:.2g}" if end < 10 else f"{end:.0f}" for end in (ratios.min(), ratios.max())]
    return " to ".join(dict.fromkeys(ends)) if len(ratios) else "an unknown number of"


def of(beginning):
    """Return the rows of some measurements in the usual precision and place."""
    return rows[rows.name.str.startswith(beginning) & ~rows.name.str.contains("_float32|_alike")]


def beside(chosen):
    """Show ratios, and in brackets those with our rules for checks on both sides."""
    return span(chosen) + (f" ({span(chosen, True)})" if chosen.peer_rule.notna().any() else "")


headline = [
    f"on {place}, {beside(single)} on one problem and {beside(several)} on ten"
    for place, single in of("epoch_single").groupby("where", sort=False)
    if len(several := of("epoch_multi").query("where == @place"))
]
glue("bench-headline", "; ".join(headline) or "not measured", display=False)
glue("bench-repeats", int(rows.repeats.mode()[0]), display=False)
packages = ["threads", *PACKAGES[1:]]  # tsp is named by its commit
versions = [f"{name} {' and '.join(sorted(map(str, rows[name].unique())))}" for name in packages]
glue("bench-versions", "; ".join(versions), display=False)
products = rows[rows.name.str.startswith("gemm")].assign(rate=lambda frame: 1 / frame.peer)
rates = products.groupby(["processor", "precision"]).rate.last()
texts = [f"{place} in {dtype}: {rate:.0f}" for (place, dtype), rate in rates.items()]
glue("bench-rates", "; ".join(texts), display=False)
named = rows.name.str.match("epoch|run|step_context_5k_vs_peft|gemm|tsloss")


def results(chosen):
    """Show measurements with their aims."""
    names = {
        "what": "what",
        "where": "processor",
        "shown": "ratio",
        "range": "range",
        "aimed": "aim",
    }
    seconds = {
        "tsp, s": chosen.ours.map("{:.3g}".format),
        "peer, s": chosen.peer.map("{:.3g}".format),
    }
    shown = chosen[[*names]].rename(columns=names).assign(**seconds, commit=marked[chosen.index])
    return table(shown.set_index(["what", "processor"]).rename_axis([None, None]))


# %% [markdown]
# The model is {glue:text}`bench-model`; our training passes are in bfloat16 unless float32 is named. Settings of all rows:
# {glue:text}`bench-versions`. The peer is PEFT unless another is named. Rates of a large matrix product, in $10^9$ operations a second:
# {glue:text}`bench-rates`. AMX is Intel's matrix unit; that a processor is a Zen 5 was inferred from its rates. † marks rows measured before the last
# change of the package or the benchmark that changes times, + rows measured with uncommitted changes.

# %% tags=["hide-input"]
results(rows[named])

# %% [markdown]
# A ratio is the peer's time divided by that of this package; the range is from the smallest to the largest of its repeats. The aims are the
# project's own; ✓ and ✗ say whether a ratio reaches its aim. A percentage is either TSLoss's share of a step, or the rate of a training step
# relative to that of one large matrix product; for these rates, the seconds are those of $10^9$ operations. Further comparisons, including
# topology's share, are folded below.

# %% tags=["hide-input", "hide-output"]
results(rows[~named])

# %% [markdown]
# An epoch of a run is a pass over its problems and, every {glue:text}`bench-every` epochs, a check of the answers. A pass always costs the same. A
# check costs more when more answers are wrong, since many wrong answers are decoded to their limit. So checks are timed with prompts stored at
# several points of training: at the start and later (in epochs, {glue:text}`bench-states`). None of these prompts solves its problems yet. The next
# table shows both parts, timed one after the other; the column “runs” is the size of our banks. (Passes over ten problems are timed without a
# warm-up.)


# %% tags=["hide-input"]
def taken(regime):
    """Say after how many epochs the stored prompts of both sides were taken."""
    epochs = states.epochs()
    sides = {"ours": "after_question", "PEFT's": "prefix"}
    later = states.STATES[regime][1:]
    return ", ".join(
        f"{name} after {' and '.join(str(epochs[f'{regime} {place} {one}']) for one in later)}"
        for name, place in sides.items()
    )


glue("bench-states", f"one problem: {taken('single')}; ten: {taken('multi')}", display=False)
parts = rows[rows.name.str.startswith("epoch_")]
glue("bench-every", RunSpec().check_every, display=False)
glue("bench-bank", RUNS, display=False)
table(
    pd.DataFrame(
        {
            "what": parts.what,
            "processor": parts["where"],
            "runs": parts.runs.map("{:.0f}".format),
            "tsp: pass, s": parts.ours_pass.map("{:.2f}".format),
            "tsp: check, s": parts.ours_check.map("{:.2f}".format),
            "PEFT: pass, s": parts.peer_pass.map("{:.2f}".format),
            "PEFT: check, s": parts.peer_check.map("{:.2f}".format),
            "ratio": parts.shown,
            "ratio, same rules": [
                "" if math.isnan(row.peer_rule) else row.aim.number(row.peer_rule / row.ours)
                for row in parts.itertuples()
            ],
        }
    )
    .set_index(["what", "processor"])
    .rename_axis([None, None])
)

# %% [markdown]
# Whole runs take much longer, so they are measured less often: on one problem until it is solved, on ten for a fixed number of epochs.
# {glue:text}`bench-whole` On one problem the ratio can be smaller than above, since runs train on while the answers that would stop them wait, and
# fewer answers are decoded together. The table also gives the seconds that a run takes.

# %% tags=["hide-input"]
whole = rows[rows.name.str.startswith("run_")]
sides = {"ours": "tsp", "peer": "PEFT"}
one = whole[whole.name.str.startswith("run_single")]
said = "They have not been measured here (with --full they are)."
if len(one):
    quicker = " and ".join(f"{q:.1f}" for q in one.peer_seconds_per_run / one.ours_seconds_per_run)
    said = (
        f"The epoch at which a run ends depends on the position of its prompt and on rounding, so the ratio is again that of an epoch: {span(one)} on one "
        f"problem and {span(of('run_multi'))} on ten. (To be solved, a run on one problem takes PEFT {quicker} times as long; on ten, none was solved.)"
    )
glue("bench-whole", said, display=False)
table(
    pd.DataFrame(
        {
            (row.what, row.where, label): {
                "runs": f"{getattr(row, f'{side}_runs'):.0f}",
                "epoch limit": f"{row.epochs:.0f}",
                "epochs in total": f"{getattr(row, f'{side}_epochs'):.0f}",
                "solved": f"{getattr(row, f'{side}_solved'):.0f}",
                "s per run": f"{getattr(row, f'{side}_seconds_per_run'):.1f}",
                "repeats": row.repeats,
            }
            for row in whole.itertuples()
            for side, label in sides.items()
        }
    ).T
)

# %% [markdown]
# ## Where the time of a step goes
#
# A step takes two operations (a product and a sum) for every weight and token, once forward and once backward; no gradient of the weights is
# computed, as they are frozen. Several shortcuts reduce the work:
#
# * The text before the prompt never changes, so its keys and values are computed once per problem and shared by all runs. Each step computes only
#   the prompt and the text after it.
# * The projection to the vocabulary is computed only at the answer, where the loss needs it.
# * The training pass itself shows how an answer begins: greedy decoding reproduces the reference up to the first token at which another token is
#   more likely. From there, tokens are generated for many runs and checks at once. Runs that share their initial prompt share its answers.
# * Decoding stops once no continuation can change the score: for GSM8K, at the end of the line with `####` and a number; for few-shot tasks of
#   LongBench, at the end of the first line. Other answers are decoded to their end, since later words can still change the score (for instance by
#   withdrawing a chosen letter).
# * A set of problems is solved when all answers are right, so one wrong answer decides a check. The problem that was last answered wrongly comes
#   first. All problems are answered at the start, at the end and whenever a prompt is stored.
# * On AMD processors with AVX-512, oneDNN computes the float32 products with the frozen weights; in an earlier comparison on two such processors, it
#   was faster than the library that torch uses by default.
# * Rows of similar length are read together, so that little of a pass is padding.
# * The rest is mostly memory traffic, so normalisation layers read their input and its gradient as few times as possible. Fusing the rotations or
#   the gated activation gained too little to keep. (Speculative decoding would also gain too little: decoding has so many rows that its products are
#   already fast.)
#
# With a prompt before everything else the context cannot be shared, since in every layer but the first all keys and values behind the prompt depend
# on it; the rest of the list applies. Such runs still gain from a bank: {glue:text}`prefix-sentence`
#
# `torch.compile` is not used{glue:text}`compile-sentence`

# %% tags=["hide-input"]
prefix = rows[rows.name == "step_prefix_vs_one_by_one"]
found = "this has not been measured."
if len(prefix):
    shares = " and ".join((1 / prefix.ratio).map("{:.0%}".format) + " (" + prefix["where"] + ")")
    found = f"a step of {RUNS} runs takes {shares} of the time of {RUNS} steps of one run."
glue("prefix-sentence", found, display=False)
reasons = []
for row, place in zip(tried.itertuples(), tried["where"], strict=True):
    reasons.append(
        f": a compiled step takes {1 / row.ratio:.0%} of the time of a plain one ({row.threads} threads, {place}), but the first step takes {row.first:.0f} s "
        "longer, layers may have to be compiled again for rows of other lengths, and a C++ compiler is needed."
    )
glue("compile-sentence", reasons[0] if reasons else "; this has not been measured.", display=False)
frozen = models.load(model)
(chosen,) = load_problems(task, problem=problem)
spec = RunSpec(model=model, task=task, problem=problem)
count = arithmetic(frozen, chosen, spec)
glue("count-long", arithmetic(frozen, long_problem(frozen), RunSpec())["saved"], display=False)
for name, value in count.items():
    glue(f"count-{name}", value, display=False)
table(
    pd.DataFrame(
        {
            "tokens computed": [count["own"], count["all"]],
            "positions projected": [count["target"], count["all"]],
            "10⁹ operations": [count["ours"], count["plain"]],
        },
        index=["tsp", "the whole sequence, all logits"],
    )
)

# %% [markdown]
# For this problem the shortcuts reduce the work per run and step from {glue:text}`count-plain:.0f` to {glue:text}`count-ours:.0f` billion
# operations, by a factor of {glue:text}`count-saved:.1f`; behind 5,000 tokens, by a factor of {glue:text}`count-long:.0f`
# (not counting activations that are computed twice to save memory). The next table shows what each missed aim for epochs, runs and the step
# behind 5,000 tokens would take. Where the products alone, at the rate of a large one, take longer than the aim leaves, no trainer that computes the
# same can reach it; where they take nearly as long, little is left for checks and everything else.

# %% tags=["hide-input"]
rows["work"] = rows.name.map(operations_of_passes(frozen))
rows["rate"] = [rates.get(key) for key in zip(rows.processor, rows.precision, strict=True)]
short = rows[~rows.reached].dropna(subset=["work", "rate"])
needed = {
    "an epoch or step takes, s": short.ours,
    "the aim leaves, s": [row.peer / row.aim.of(row._asdict()) for row in short.itertuples()],
    "products of its passes at full rate, s": short.work / short.rate,
}
needed = pd.DataFrame({"what": short.what, "processor": short["where"], **needed})
table(needed.set_index(["what", "processor"]).rename_axis([None, None]).map("{:.3g}".format))

# %% [markdown]
# The figure splits a step with torch's profiler and shows the least time that each part could take: its operations at the rate of one large matrix
# product, or the bytes that it has to move at the rate of a plain copy, whichever takes longer. The checks are added for comparison, with the
# operations of an answer that is decoded to its limit.

# %% mystnb={"image": {"alt": "Horizontal bars, a panel for each precision: milliseconds of each part of a step and of the checks; a tick on each bar marks the least time."}, "figure": {"caption": "{glue:text}`budget-says`. Bars: milliseconds of one profiled step of a bank of {glue:text}`bench-bank`, by part; ticks: the least that the machine would need.", "name": "fig-budget"}} tags=["hide-input"]
profiled = products.dropna(subset="budget")
profiled = profiled[profiled.budget.map(lambda parts: set(parts) == {*PARTS}).astype(bool)]
profiled = profiled[profiled.processor.isin(profiled.processor.mode().tail(1))]
checked = rows[rows.name.str.startswith("epoch_single_early")].set_index("processor")
fig, axes = plt.subplots(
    1, max(1, len(profiled)), figsize=(WIDTH, 3.6), sharey=True, sharex=True, squeeze=False
)
longest = spec.max_new_tokens or count["target"] + EXTRA_TOKENS
decoding = 2 * (count["weights"] + frozen.head.numel()) * longest / 1e9  # of an answer
said, missed = [], []
for ax, row in zip(axes[0], profiled.itertuples(), strict=False):
    rate = 1 / row.peer  # 10^9 operations a second
    budget = pd.DataFrame(row.budget).T
    least = np.maximum(budget.operations / 1e9 / rate, budget.bytes / row.bandwidth)
    table_of = pd.DataFrame({"seconds": budget.seconds, "least": least})
    most, more = budget.seconds.idxmax(), (budget.seconds - least).sort_values(ascending=False)
    share = f"{budget.seconds.max() / budget.seconds.sum():.0%} of a step in {row.precision}"
    said.append(
        f"{most} take {share}, {budget.seconds[most] / least[most]:.2f} times their least time"
    )
    if not row.reached:
        aim = row.aim.of(row._asdict())
        spare = 1e3 * row.step_seconds * (1 - row.ratio / aim)
        longest_parts = "; ".join(f"{part} ({1e3 * ms:.0f})" for part, ms in more.head(3).items())
        missed.append(
            f"To reach {aim:.0%} of the rate in {row.precision} ({row.processor}), a step would have to be {spare:.0f} ms shorter than its "
            f"{1e3 * row.step_seconds:.0f} ms. The parts that exceed their least time most (in ms) are {longest_parts}."
        )
    if row.processor in checked.index:
        check = checked.loc[[row.processor]].iloc[0].ours_check * RUNS / spec.check_every
        fast = rates.get((row.processor, "float32"), 1 / row.peer)
        table_of.loc["checks, an epoch"] = check, RUNS * decoding / fast / spec.check_every
    ax.barh(table_of.index, 1e3 * table_of.seconds, color=METHOD_COLORS["tsloss"])
    ax.plot(1e3 * table_of.least, table_of.index, "|", color="black", ms=11, mew=2)
    ax.set(title=f"{row.precision}, {row.processor}", xlabel="ms")
axes[0][0].invert_yaxis()
said = "; ".join(said) or "not measured"
glue("budget-says", said[:1].upper() + said[1:], display=False)
glue("budget-missed", " ".join(missed), display=False)
plt.show()

# %% [markdown]
# The layers' projections are large products. Attention works on smaller pieces, with a softmax between its products. The rest does little arithmetic
# for each byte that it moves, and gains less from lower precision. The tick of the checks counts operations alone and is therefore too low: each
# step of decoding reads all weights, and the keys and values of every answer, for one token of each answer. {glue:text}`budget-missed`
#
# ## An exercise
#
# ```{exercise} The slow part
# :label: ex-amdahl
# An experiment spends a share $p$ of its time on topology, which then becomes $k$ times as fast. How much faster is the whole? For which shares is
# it better to make the rest twice as fast than to make topology infinitely fast?
# ```
#
# ```{solution-start} ex-amdahl
# :class: dropdown
# ```
# A time of 1 becomes $(1 - p) + p/k$, so the whole is $1 / (1 - p + p/k)$ times as fast (Amdahl's law), and never more than $1/(1-p)$ times. Making
# the rest twice as fast gives $1/(p + (1-p)/2)$. That is more if $p + (1-p)/2 < 1 - p$, which means $p < 1/3$.


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
# Commands that list, report or tabulate runs should stay fast as the store grows. For this measurement, every command and table reads an archive of
# ten thousand copies of the published runs, made different by other seeds and problem numbers, in a process of its own; nothing is kept from one
# process to the next. Records are checked against their hashes when runs are listed, and tables when they are read. Newly trained runs are stored as
# folders; `tsp runs pack runs/all.parquet --remove` packs them into one file. Rows of the table without `tsp` are functions of `tsp.analysis`.

# %% tags=["hide-input"]
file = folder / "load.json"
measured = pd.DataFrame(json.loads(file.read_text()) if file.is_file() else [])
sentence = "This has not been measured."
if not measured.empty:
    measured["MB"] = measured.bytes / 1e6
    measured = measured.set_index("name")[["seconds", "MB"]]
    display(pages.table(measured, {"seconds": "{:.1f}", "MB": "{:.0f}"}))
    quick = measured.drop("tsp runs verify")
    sentence = (
        f"Apart from verification, each command or table takes at most {quick.seconds.max():.1f} s of one core "
        f"and {quick.MB.max():.0f} MB. The aims are {SECONDS:.0f} s ({CLAIM_SECONDS:.0f} s for the report and the table of "
        f"claims) and {MEMORY / 1e6:,.0f} MB."
    )
glue("load", sentence, display=False)

# %% [markdown]
# {glue:text}`load`
#
# ## Measure it yourself
#
# ```bash
# mkdir mine
# tsp bench --json mine/bench.json            # about a quarter of an hour; with --full two hours more
# tsp bench --load mine/load.json             # ten thousand runs, a quarter of an hour
# papermill notebooks/21_speed.ipynb mine/21_speed.ipynb \
#     -p measurements mine
# ```
