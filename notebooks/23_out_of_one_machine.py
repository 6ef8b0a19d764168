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
# # Out of one machine
#
# A sweep is a list of banks that do not know of each other: the easiest thing to spread over machines. This chapter says
# how it is done with Ray {cite}`moritz2018ray`, on one machine with several GPUs, under Slurm and on Kubernetes, and works
# out how far the paper's own runs would scale.
#
# ```{admonition} After this chapter you can
# :class: tip
# send a sweep to a cluster, and say before you rent it how many GPUs it can keep busy.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
rate: float = 2e14  # operations a second that a GPU reaches in training: assumed, not measured
disk: float = 2e9  # bytes a second at which a model is loaded: an assumption too
sizes: list = [64, 4]  # runs of a bank

# %% [markdown]
# ## One command
#
# ```bash
# pip install 'tsp[ray]'
# tsp sweep table3 --profile paper --runs /shared/runs \
#   --engine ray --address auto
# ```
#
# The command that you start is the *driver*. It writes the plan (which runs are a bank, in which order, how each model is
# computed) into the store, hands out the banks to Ray workers, and shows their progress. A worker has one GPU, or, on a cluster
# without any, as many processors as torch would take on the driver's machine; it loads a model once and keeps it for the
# banks that follow. It writes finished runs into the store itself, in the same way as a sweep on one machine: whole or not at
# all.
#
# * The *store must be shared*: a folder that every node sees under the same name, on a file system with locks (NFS from version
#   4 on, Lustre mounted with `flock`). A worker that does not find the driver's plan in it says so and trains nothing.
# * Every node needs the same Python and the same versions of this package, PyTorch, transformers and what else a run's numbers
#   depend on; a worker compares them with the driver's, and the weights of a model that is read from a folder.
# * If a *worker or a node is lost*, its bank begins elsewhere, and goes on from its last checkpoint in the store
#   (`--checkpoint SECONDS`, 30 unless said otherwise). A bank that fails is told of at the end; the others go on.
# * If the *driver* is lost, the same command goes on with the plan.
# * `Ctrl-C` or `SIGTERM` to the driver brings every bank to a checkpoint first. A scheduler that ends a whole job ends the
#   workers too; then the banks go on from their last checkpoints.
# * Runs have the bytes that the engine `local` gives them on the same kind of machine with the same plan; a test kills one
#   node of two and compares ({doc}`../promises`).
#
# Ray's nodes talk in pickles, so whoever reaches their ports can run code on them: keep a cluster on a private network.
#
# ### A box with several GPUs
#
# ```bash
# tsp sweep table3 --profile paper --engine ray
# ```
#
# starts Ray on this machine only, with all its GPUs.
#
# ### Slurm
#
# ```bash
# head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" -- \
#   tsp sweep table3 --profile paper --runs "$SCRATCH/runs" \
#   --engine ray --address "$head:6379"
# ```
#
# are the lines of a job of, say, four nodes with eight GPUs each and one task a node (`--nodes=4 --ntasks-per-node=1
# --gpus-per-node=8`). `ray symmetric-run` starts Ray on every node, the command on one, and ends Ray when that is done. Submitted again, the
# job goes on from the checkpoints.
#
# ### Kubernetes
#
# With the KubeRay operator a sweep is one `RayJob`. The image holds this package, the volume is one that many pods may
# write (`ReadWriteMany`):
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
# What was tried: Ray on one machine, in the tests with two nodes and processors alone, and `ray symmetric-run` with one. GPUs, Slurm and
# Kubernetes were not at hand, so that the two scripts above are untested.
#
# ## How far the paper's runs scale
#
# Profile `paper` is every experiment on the paper's models. What a run takes is worked out, not measured: a weight takes
# four operations a token, two forward and two back, because no gradient of the weights is needed; tokens are the prompt's,
# those behind it and the answer's (what stands before is computed once, {doc}`21_speed`), counted on the stored runs of
# the same data set and regime with their tokenizer. Checks are left out. The banks are handed out in the plan's order, each to the first GPU that is
# free; a GPU that changes its model loads it.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import pandas as pd
from myst_nb import glue

from benchmarks.gpu_capacity import SHAPES
from benchmarks.scaling import scaling
from tsp.analysis.records import TASK_NAMES
from tsp.book.pages import check_parameters, table
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.jobs import Job, banks_of
from tsp.figures.style import WIDTH, style
from tsp.store.runs import Store
from tsp.training.models import MODELS

check_parameters(globals())

style()
read = [run.record for run in Store(runs).valid_runs()[0]]
counted = pd.DataFrame(
    {
        "task": [record["spec"]["task"] for record in read],
        "regime": [record["spec"]["regime"] for record in read],
        "tokens": [
            sum(it["tokens"]["after"] + it["tokens"]["target"] for it in record["problems"])
            for record in read
        ],
    }
)
behind = counted.groupby(["task", "regime"]).tokens.mean()
usual = counted.groupby("regime").tokens.mean()


def cost(spec):
    """Seconds of a run on one GPU."""
    many = 1 if spec.regime == "single" else 10
    tokens = behind.get((spec.task, spec.regime), usual.get(spec.regime, 100.0 * many))
    return (
        4
        * 1e6
        * MODELS[spec.model].parameters
        * (tokens + many * spec.n_tokens)
        * spec.epochs
        / rate
    )


specs = experiment_specs("all", "paper")
loading = {name: 2 * 1e6 * card.parameters / disk for name, card in MODELS.items()}
devices = [1, 2, 4, 8, 16, 32, 64]
found = {size: scaling(specs, cost, devices=devices, bank=size, loading=loading) for size in sizes}
first, small = found[sizes[0]], found[sizes[-1]]
glue("scaling-runs", len(specs), display=False)
glue("scaling-many", sizes[0], display=False)
glue("scaling-few", sizes[-1], display=False)
glue("scaling-alone", float(first.hours.iloc[0]), display=False)
glue("scaling-last", float(first.speedup.iloc[-1]), display=False)
glue("scaling-small", float(small.speedup.iloc[-1]), display=False)
glue("scaling-least", float(first.least.iloc[0] * 60), display=False)
glue("scaling-least-small", float(small.least.iloc[0] * 60), display=False)
jobs = [Job(spec, [], "") for spec in specs]
longest = max(banks_of(jobs, sizes[0]), key=lambda bank: sum(cost(it.spec) for it in bank))
sizes_of = [4 * it.n_tokens * SHAPES[it.model]["hidden_size"] for it in specs]  # bytes of a prompt
stored = sum(
    b * (it.epochs // it.snapshot_every + 1) for b, it in zip(sizes_of, specs, strict=True)
)
written = sum(b * (it.epochs // it.check_every + 1) for b, it in zip(sizes_of, specs, strict=True))
pace = written / 3600 / first.hours.iloc[0]  # bytes a second and GPU
glue("scaling-stored", stored / 1e9, display=False)
glue("scaling-written", written / 1e9, display=False)
glue("scaling-rate", float(pace / 1e6), display=False)
glue("scaling-rate-all", float(pace * small.speedup.iloc[-1] / 1e6), display=False)
kind = longest[0].spec
ten = "one problem" if kind.regime == "single" else "ten problems"
glue(
    "scaling-longest",
    f"{len(longest)} runs on {kind.model}, {TASK_NAMES[kind.task]}, {ten} each",
    display=False,
)
shown = {}
for size, frame in found.items():
    shown[f"banks of {size}: minutes"] = 60 * frame.hours
    shown |= {f"banks of {size}: {name}": frame[name] for name in ("speedup", "efficiency")}
endings = {"minutes": "{:.0f}", "speedup": "{:.1f}", "efficiency": "{:.0%}"}
formats = {name: endings[name.split()[-1]] for name in shown}
table(pd.DataFrame(shown).set_axis(["1 GPU", *(f"{it} GPUs" for it in devices[1:])]), formats)

# %% mystnb={"image": {"alt": "Line plot: speed-up against the number of GPUs, both axes in doublings; a dashed line shows as many times faster as there are GPUs. Banks of many runs leave the dashed line earlier than banks of few."}, "figure": {"caption": "Speed-up of the profile `paper`, worked out, on up to 64 GPUs. Dashed: as many times faster as there are GPUs.", "name": "fig-scaling"}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(0.7 * WIDTH, 0.5 * WIDTH))
ax.plot(devices, devices, "--", color="0.6", lw=1, label="one for one")
for (size, frame), marker in zip(found.items(), "osv^", strict=False):
    ax.plot(frame.devices, frame.speedup, marker=marker, label=f"banks of {size}")
ax.set_xscale("log", base=2)
ax.set_yscale("log", base=2)
ax.set_xticks(devices, [str(it) for it in devices])
ax.set_yticks(devices, [str(it) for it in devices])
ax.set_xlabel("GPUs")
ax.set_ylabel("speed-up")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The {glue:text}`scaling-runs:d` runs would take one such GPU {glue:text}`scaling-alone:.1f` hours and the time of their checks. Sixty-four are
# {glue:text}`scaling-last:.0f` times faster with banks of {glue:text}`scaling-many:d` and {glue:text}`scaling-small:.0f` times with banks of
# {glue:text}`scaling-few:d`. *What limits it is the longest bank* ({glue:text}`scaling-longest`): it takes {glue:text}`scaling-least:.0f`
# minutes, however many GPUs there are, and a GPU that has no bank waits for it; with banks of {glue:text}`scaling-few:d` the longest
# takes {glue:text}`scaling-least-small:.0f`. So on many GPUs choose a smaller bank (`--bank`); but a bank of few rows may leave a GPU half idle, which this calculation does not know and `tsp bench` measures
# ({doc}`21_speed`). Order matters too: long banks that are handed out last finish alone.
#
# The store may limit it too. The finished runs are small, {glue:text}`scaling-stored:.0f` GB of prompts in all. But a checkpoint also
# keeps the prompts that were checked since the one before, once each: up to {glue:text}`scaling-written:.0f` GB over all runs, or
# {glue:text}`scaling-rate:.0f` MB a second and GPU, which 64 GPUs with banks of {glue:text}`scaling-few:d` would make
# {glue:text}`scaling-rate-all:.0f` MB a second. A parallel file system takes that; a single NFS server may not. A bank that is done before its first checkpoint
# is due writes none, so `--checkpoint` with more seconds than a bank takes trades them for what a lost node costs. The network
# between the nodes carries a line of progress. Memory may limit it: one GPU has to hold the model,
# and where it does not, one task has to have several (`device_map`), which the cluster engine does not do.
#
# ## An exercise
#
# ```{exercise} One long bank
# :label: ex-scaling
# A sweep has 60 banks of one hour and one of four. How long do 61 GPUs take, and how long do 16, if the long bank comes first? And if
# it comes last?
# ```
#
# ```{solution-start} ex-scaling
# :class: dropdown
# ```
# Sixty-one GPUs take four hours whatever the order: the long bank. Sixteen have 64 hours of work, four each, and reach that
# if the long one comes first: fifteen others do 60 banks in four hours. If it comes last, it begins when the first GPU has
# done its share of the 60: after three hours all 16 have done 48 and 12 begin a fourth, so four are free; it ends after seven.

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
