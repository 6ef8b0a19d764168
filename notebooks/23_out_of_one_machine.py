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
# # GPUs and clusters
#
# How do you run a sweep on several GPUs or machines, and how far does it scale? A sweep is a list of independent banks, which is the
# easiest kind of work to distribute. This chapter distributes it with Ray {cite}`moritz2018ray` on one machine with several GPUs, under Slurm and on
# Kubernetes, describes a benchmark for one GPU, and predicts which models fit on which card. A calculation
# predicts that, compared with one GPU, 64 GPUs train the experiments of the paper {glue:text}`scaling-last:.0f` times as fast in banks of
# {glue:text}`scaling-many:d` runs, and {glue:text}`scaling-small:.0f` times as fast in banks of {glue:text}`scaling-few:d`.
#
# ```{admonition} After this chapter you can
# :class: tip
# send a sweep to a cluster, and estimate how many GPUs the sweep can keep busy before you rent them.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
rate: float = 2e14  # operations per second that a GPU reaches in training: assumed, not measured
disk: float = 2e9  # bytes per second at which a model is loaded: also assumed
sizes: list = [64, 4]  # runs per bank
measurements: str = ""  # folder of gpu.json; empty: the published ones

# %% [markdown]
# ## One command
#
# ```bash
# pip install -c constraints.txt -e '.[ray]'   # in the repository, on every node
# tsp sweep table3 --profile paper --runs /shared/runs \
#   --engine ray --address auto
# ```
#
# The command that you start is the *driver*. It writes the plan (which runs form a bank, in which order, and how each model is
# computed) into the store, hands the banks to Ray workers, and shows their progress. A worker has one GPU or, on a cluster
# without GPUs, as many processor cores as torch would use on the driver's machine. It loads a model once and keeps it for the following
# banks. It writes each finished run into the store itself, whole or not at all, as a sweep on one machine does.
#
# * The *store must be shared*: a folder that every node sees under the same path, on a file system with locks (NFS from version
#   4 on, Lustre mounted with `flock`). A worker that does not find the driver's plan there reports this and trains nothing.
# * Every node needs the same Python and the same versions of this package, PyTorch, transformers and everything else that a run's
#   numbers depend on. A worker compares its versions with the driver's, and also the weights of a model that is read from a folder.
# * If a *worker or node is lost*, its bank resumes elsewhere from its last checkpoint in the store
#   (`--checkpoint SECONDS`, 30 by default). A bank that fails is reported at the end; the others continue.
# * If the *driver* is lost, the same command resumes the plan.
# * `Ctrl-C` or `SIGTERM` to the driver first brings every bank to a checkpoint. A scheduler that ends a whole job also ends the
#   workers; when the command is run again, the banks resume from their last checkpoints.
# * On the same kind of machine, with the same plan, runs are identical, byte for byte, to those of `--engine local` (the default: this machine alone). A test kills
#   one of two nodes and compares ({doc}`../promises`).
#
# Ray's nodes exchange pickles, so anyone who can reach their ports can run code on them: keep a cluster on a private network.
#
# ### One machine with several GPUs
#
# This command starts Ray on this machine alone, with all its GPUs:
#
# ```bash
# tsp sweep table3 --profile paper --engine ray
# ```
#
# ### Slurm
#
# These are the lines of a job with, for example, four nodes of eight GPUs each and one task per node
# (`--nodes=4 --ntasks-per-node=1 --gpus-per-node=8`):
#
# ```bash
# head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" -- \
#   tsp sweep table3 --profile paper --runs "$SCRATCH/runs" \
#   --engine ray --address "$head:6379"
# ```
#
# `ray symmetric-run` starts Ray on every node and the command on one, and ends Ray when the command is done. When the job is
# submitted again, it resumes from the checkpoints.
#
# ### Kubernetes
#
# With the KubeRay operator a sweep is one `RayJob`. The image must contain this package, and the volume must let many pods write
# (`ReadWriteMany`):
#
# ```yaml
# apiVersion: ray.io/v1
# kind: RayJob
# metadata:
#   name: soft-prompts
# spec:
#   entrypoint: >-
#     tsp sweep table3 --profile paper
#     --runs /shared/runs --engine ray --address auto
#   shutdownAfterJobFinishes: true
#   rayClusterSpec:
#     headGroupSpec:
#       rayStartParams: {num-gpus: "0"}
#       template:
#         spec:
#           containers:
#             - name: ray
#               image: registry.example/tsp:0.1.0
#               volumeMounts: [{name: shared, mountPath: /shared}]
#           volumes:
#             - name: shared
#               persistentVolumeClaim: {claimName: shared}
#     workerGroupSpecs:
#       - groupName: gpu
#         replicas: 16
#         rayStartParams: {}
#         template:
#           spec:
#             containers:
#               - name: ray
#                 image: registry.example/tsp:0.1.0
#                 resources: {limits: {nvidia.com/gpu: 1}}
#                 volumeMounts: [{name: shared, mountPath: /shared}]
#             volumes:
#               - name: shared
#                 persistentVolumeClaim: {claimName: shared}
# ```
#
# The tests cover Ray on one machine, with two nodes and without GPUs; `ray symmetric-run` was tried with one node. The
# Slurm and Kubernetes scripts above are untested.
#
# ## Scaling of the paper's runs
#
# The profile `paper` contains every experiment on the paper's models. The time of a run is calculated, not measured, for a GPU that is
# assumed to reach {glue:text}`assumed-rate:.0f` teraflop/s and to load a model at {glue:text}`assumed-disk:.0f` GB per second. A
# weight takes four operations per token, two forward and two backward, because no gradient of the weights is needed. The tokens are those
# of the prompt, of the text after it and of the answer (the text before the prompt is computed once, {doc}`21_speed`), counted in the stored runs
# of the same data set and regime, with the tokenizer of their small model. Attention and checks are left out, and every weight counts for every
# token. Banks are handed out in the plan's order, each to the first free GPU; a GPU loads a model whenever its next bank uses another.

# %% tags=["hide-input"]
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from myst_nb import glue

from benchmarks.gpu_capacity import SHAPES, fits
from benchmarks.scaling import scaling
from tsp.analysis.records import TASK_NAMES
from tsp.book.pages import check_parameters, table
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.jobs import Job, banks_of
from tsp.figures.style import WIDTH, style
from tsp.paths import data_dir
from tsp.store.runs import Store
from tsp.training.memory import SHARE
from tsp.training.models import MODELS

check_parameters(globals())

style()
records = [run.record for run in Store(runs).valid_runs()[0]]
counted = pd.DataFrame(
    {
        "task": [record["spec"]["task"] for record in records],
        "regime": [record["spec"]["regime"] for record in records],
        "tokens": [
            sum(each["tokens"]["after"] + each["tokens"]["target"] for each in record["problems"])
            for record in records
        ],
    }
)
by_task = counted.groupby(["task", "regime"]).tokens.mean()
by_regime = counted.groupby("regime").tokens.mean()


def cost(spec):
    """Return the seconds that a run takes on one GPU."""
    problems = 1 if spec.regime == "single" else 10
    tokens = by_task.get((spec.task, spec.regime), by_regime.get(spec.regime, 100.0 * problems))
    tokens += problems * spec.n_tokens
    return 4 * 1e6 * MODELS[spec.model].parameters * tokens * spec.epochs / rate


specs = experiment_specs("all", "paper")
loading = {name: 2 * 1e6 * card.parameters / disk for name, card in MODELS.items()}
devices = [1, 2, 4, 8, 16, 32, 64]
scalings = {
    size: scaling(specs, cost, devices=devices, bank=size, loading=loading) for size in sizes
}
first, small = scalings[sizes[0]], scalings[sizes[-1]]
glue("scaling-runs", len(specs), display=False)
glue("assumed-rate", rate / 1e12, display=False)
glue("assumed-disk", disk / 1e9, display=False)
glue("scaling-many", sizes[0], display=False)
glue("scaling-few", sizes[-1], display=False)
glue("scaling-alone", float(first.hours.iloc[0]), display=False)
glue("scaling-last", float(first.speedup.iloc[-1]), display=False)
glue("scaling-small", float(small.speedup.iloc[-1]), display=False)
glue("scaling-least", float(first.least.iloc[0] * 60), display=False)
glue("scaling-least-small", float(small.least.iloc[0] * 60), display=False)
jobs = [Job(spec, [], "") for spec in specs]
longest = max(banks_of(jobs, sizes[0]), key=lambda bank: sum(cost(job.spec) for job in bank))
stored = written = 0
for spec in specs:
    prompt_bytes = 4 * spec.n_tokens * SHAPES[spec.model]["hidden_size"]
    stored += prompt_bytes * (spec.epochs // spec.snapshot_every + 1)
    written += prompt_bytes * (spec.epochs // spec.check_every + 1)
pace = written / 3600 / first.hours.iloc[0]  # bytes per second and GPU
glue("scaling-stored", stored / 1e9, display=False)
glue("scaling-written", written / 1e9, display=False)
glue("scaling-rate", float(pace / 1e6), display=False)
glue("scaling-rate-all", float(pace * small.speedup.iloc[-1] / 1e6), display=False)
spec = longest[0].spec
each = "one problem each" if spec.regime == "single" else "ten problems each"
bank = f"{len(longest)} runs of {spec.model} on {TASK_NAMES[spec.task]}, {each}"
glue("scaling-longest", bank, display=False)
columns = {}
for size, frame in scalings.items():
    columns[f"banks of {size}: minutes"] = 60 * frame.hours
    columns[f"banks of {size}: speed-up"] = frame.speedup
    columns[f"banks of {size}: speed-up per GPU"] = frame.efficiency
endings = {"minutes": "{:.0f}", "speed-up": "{:.1f}", "GPU": "{:.0%}"}
formats = {name: endings[name.split()[-1]] for name in columns}
table(pd.DataFrame(columns).set_axis(["1 GPU", *(f"{n} GPUs" for n in devices[1:])]), formats)

# %% mystnb={"image": {"alt": "Line plot: speed-up against the number of GPUs, both axes logarithmic; a dashed line marks a speed-up equal to the number of GPUs. Banks of many runs leave the dashed line earlier than banks of few."}, "figure": {"caption": "On 64 GPUs, banks of {glue:text}`scaling-many:d` reach a speed-up of {glue:text}`scaling-last:.0f`, banks of {glue:text}`scaling-few:d` one of {glue:text}`scaling-small:.0f`. Calculated for the profile `paper`; dashed: a speed-up equal to the number of GPUs.", "name": "fig-scaling"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(0.7 * WIDTH, 0.5 * WIDTH))
ax.plot(devices, devices, "--", color="0.6", lw=1, label="ideal")
for (size, frame), marker in zip(scalings.items(), "osv^", strict=False):
    ax.plot(frame.devices, frame.speedup, marker=marker, label=f"banks of {size}")
ax.set_xscale("log", base=2)
ax.set_yscale("log", base=2)
ax.set_xticks(devices, list(map(str, devices)))
ax.set_yticks(devices, list(map(str, devices)))
ax.set_xlabel("GPUs")
ax.set_ylabel("speed-up")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# One GPU of this speed would take {glue:text}`scaling-alone:.1f` hours for the {glue:text}`scaling-runs:d` runs, plus the time of their
# checks. *The longest bank limits the speed-up* ({glue:text}`scaling-longest`). It takes {glue:text}`scaling-least:.0f` minutes however
# many GPUs there are, and GPUs that run out of banks wait for it. With banks of {glue:text}`scaling-few:d` the longest takes
# {glue:text}`scaling-least-small:.0f` minutes, so choose a smaller bank (`--bank`) on many GPUs. A bank of few runs may, however, leave a
# GPU half idle, which this calculation ignores and `make bench-gpu` measures. Order matters too: long banks that are handed out last finish
# alone.
#
# The store is another limit. The finished runs are small, {glue:text}`scaling-stored:.0f` GB of prompts in total. But a checkpoint also
# writes each prompt that was checked since the previous one: up to {glue:text}`scaling-written:.0f` GB over all runs, or
# {glue:text}`scaling-rate:.0f` MB per GPU and second. On 64 GPUs with banks of {glue:text}`scaling-few:d` that makes
# {glue:text}`scaling-rate-all:.0f` MB per second, which is no problem for a parallel file system but may be too much for a single NFS
# server. A bank that finishes before its first checkpoint is due writes none, so a `--checkpoint` longer than a bank saves the writing, at
# the price of whole banks when a node is lost. Apart from the store's files, the network between the nodes carries only lines of progress. The last limit is memory:
# one GPU has to hold the model. A model on several GPUs (`device_map`) is not supported by the cluster engine.
#
# ## Banks on a GPU
#
# `make bench-gpu` trains banks of 1 to 256 runs in the faster precision of the GPU, and PEFT's loop beside them, in float32 and, where ours is
# bfloat16, in bfloat16 too. The project's aim is 50 times PEFT. It also times a step with layers compiled by torch. It needs no network once the model is installed. Called
# again, it continues with the next size. The rows go to `data/measurements/gpu.json`; once that file exists, a table of it appears below. A pull request
# with the rows of your card is welcome.

# %% tags=["hide-input"]
file = Path(measurements or data_dir("measurements")) / "gpu.json"
banks = pd.DataFrame(json.loads(file.read_text()) if file.is_file() else [])
banks = banks.reindex(
    columns=banks.columns.union(
        ["peer_bfloat16", *(f"compiled_{x}" for x in ("ours", "peer", "first"))]
    )
)
if banks.empty:
    print("Not measured yet: there is no gpu.json.")
else:
    shown = pd.DataFrame(
        {
            "runs": banks.runs,
            "device": banks.device,
            "against PEFT": banks.ratio.map("{:.1f} ×".format),
            "against PEFT in bfloat16": (banks.peer_bfloat16 / banks.ours).map("{:.1f} ×".format),
            "runs an hour": banks.per_hour.map("{:.0f}".format),
            "tokens a second, with checks": banks.tokens_per_second.map("{:.0f}".format),
            "fraction of a large product's rate": banks.fraction.map("{:.0%}".format),
            "memory, GiB": (banks.memory / 2**30).map("{:.1f}".format),
            "compiled step / plain step": banks.compiled_ours / banks.compiled_peer,
            "compiling, s": banks.compiled_first,
            "commit": banks.commit.str[:7],
        }
    )
    formats = {"compiled step / plain step": "{:.0%}", "compiling, s": "{:.0f}"}
    display(table(shown.set_index("runs"), formats))

# %% [markdown]
# ## What fits on which GPU
#
# `tsp run --plan …` predicts the memory of a run before it starts. The table gives the same prediction for the paper's four models. No
# weights are needed: the prediction is a formula in the shapes of a model's layers.

# %% tags=["hide-input"]
cards = fits()
glue("memory-share", SHARE, display=False)
cards = cards.set_index(cards.pop("model") + ", " + cards.pop("precision")).drop(columns="hub_id")
headings = {"weights": "weights", "run": "activations", "peak": "peak", "context": "5,000 tokens"}
headings = {name: f"{what}, GiB" for name, what in headings.items()}
cards[list(headings)] /= 2**30
cards = cards.rename(columns=lambda name: f"runs on {name}" if name.endswith(" GB") else name)
table(cards.rename(columns=headings), precision=1)

# %% [markdown]
# Activations and peak are those of one run on a problem of 300 tokens. The peak also includes weights, prompt and context; where answers that
# are decoded together take more memory than the activations, it counts them instead. The column "5,000 tokens" is the memory of one stored
# context of that length, such as an article of LongBench. The last three columns give the
# number of such runs that can train at once if {glue:text}`memory-share:.0%` of the card may be used; 0 means that not
# even one fits. Weights are counted in each precision that is used. With bfloat16 passes the float32 model stays in memory, because it
# decides the answers, so a weight takes six bytes. Tests check such predictions against the tensors that banks of tiny models hold on a
# CPU; they agree within 30 %.
#
# ## An exercise
#
# ```{exercise} One long bank
# :label: ex-scaling
# A sweep has 60 banks of one hour and one bank of four hours. How long do 61 GPUs take, and how long do 16, if the long bank comes
# first? How long if it comes last?
# ```
#
# ```{solution-start} ex-scaling
# :class: dropdown
# ```
# Sixty-one GPUs take four hours in either order, the length of the long bank. Sixteen GPUs have 64 hours of work, four hours each, and
# achieve that if the long bank comes first, since the other fifteen complete 60 banks in four hours. If it comes last, it starts after
# three hours: by then the 16 GPUs have completed 48 banks, and twelve of them begin the remaining twelve. It ends after seven hours.

# %%
from benchmarks.scaling import makespan

hour = [("m", 1.0)] * 60
for devices, banks, hours in [
    (61, [("m", 4.0), *hour], 4.0),
    (61, [*hour, ("m", 4.0)], 4.0),
    (16, [("m", 4.0), *hour], 4.0),
    (16, [*hour, ("m", 4.0)], 7.0),
]:
    assert makespan(banks, devices, loading={"m": 0.0}) == hours

# %% [markdown]
# ```{solution-end}
# ```
