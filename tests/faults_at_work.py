"""Work of the processes that the tests of durability kill (imported once, by their server)."""

import sys
from pathlib import Path

import torch

from tests.conftest import spec
from tsp.cli.main import main as cli
from tsp.experiments.banks import CheckpointPolicy, Events
from tsp.experiments.sweep import ensure
from tsp.store.runs import Store
from tsp.training.checkpoints import Checkpoint
from tsp.training.stopping import on_signals

torch.set_num_threads(1)


def specs(epochs=12):
    """Return runs of several methods, in three banks; one stops early, two have ten problems."""
    short = {"max_new_tokens": 4}
    return [
        spec(task="mmlu_cf", method="ce", epochs=epochs, seed=0),
        spec(task="mmlu_cf", method="tsloss", epochs=epochs, seed=1, early_stop=True),
        spec(task="gsm8k", method="tsloss", epochs=epochs, check_every=1, **short),
        spec(task="gsm8k", method="l2", epochs=epochs, seed=2, **short),
        spec(regime="multi", method="pairwise", epochs=epochs // 2, **short),
        spec(regime="multi", method="ce", epochs=epochs // 2, seed=3, **short),
    ]


def cluster_specs():
    """Return six banks of one run each: runs of another length are in another bank."""
    fields = {"n_tokens": 6, "max_new_tokens": 2, "check_every": 50}
    return [spec(epochs=250 + k, seed=k, **fields) for k in range(6)]


def events(log):
    """Return events that append a line each to a log."""

    def note(text):
        with Path(log).open("a") as file:
            file.write(f"{text}\n")

    return Events(
        begin=lambda jobs, number, banks, peak: note(f"begin {' '.join(job.id for job in jobs)}"),
        progress=lambda now: note(f"epoch {now.bank} {now.epoch}"),
        say=note,
    )


def train_on(address, root, log):
    """Train `cluster_specs` on a Ray cluster, as the command line does."""
    from tsp.experiments.ray_engine import Ray

    with on_signals(lambda: None) as stop:
        policy, engine = CheckpointPolicy(0.0, stop), Ray(address)
        store = Store(root)
        ensure(cluster_specs(), store, name="x", engine=engine, events=events(log), policy=policy)


def train(root, log="/dev/null", every=0.0):
    """Train `specs` into a store, two runs a bank."""
    options = {"device": "cpu", "precision": "float32", "token_budget": 2048, "bank": 2}
    policy = CheckpointPolicy(every)
    ensure(specs(), Store(root), name="x", events=events(log), policy=policy, **options)


def command(*words):
    """Run the command line, and print each epoch that has ended."""
    reached = Checkpoint.reached

    def printed(point, bank, epoch, seconds):
        print(f"epoch {epoch} has ended", flush=True)
        reached(point, bank, epoch, seconds)

    Checkpoint.reached = printed
    sys.argv = ["tsp", *words]
    cli()
