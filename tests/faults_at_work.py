"""What the processes do that the tests of durability kill (imported once, by their server)."""

import sys

import torch

from tests.conftest import spec
from tsp.cli.main import main as cli
from tsp.experiments import sweep
from tsp.experiments.banks import CheckpointPolicy, Events
from tsp.store.runs import Store
from tsp.training.checkpoints import Checkpoint
from tsp.training.stopping import on_signals

torch.set_num_threads(1)


def specs(many=6, epochs=12):
    """Runs of several methods in three banks; some stop early, one regime has ten problems."""
    told = [
        spec(task="mmlu_cf", method="ce", epochs=epochs, seed=0),
        spec(task="mmlu_cf", method="tsloss", epochs=epochs, seed=1, early_stop=True),
        spec(task="gsm8k", method="tsloss", epochs=epochs, check_every=1, max_new_tokens=4),
        spec(task="gsm8k", method="l2", epochs=epochs, seed=2, max_new_tokens=4),
        spec(regime="multi", method="pairwise", epochs=epochs // 2, max_new_tokens=4),
        spec(regime="multi", method="ce", epochs=epochs // 2, seed=3, max_new_tokens=4),
    ]
    return told[:many]


def cluster_specs():
    """Six banks of one run each: those of another length are another bank's."""
    told = {"n_tokens": 6, "max_new_tokens": 2, "check_every": 50}
    return [spec(epochs=250 + k, seed=k, **told) for k in range(6)]


def train_on(address, root, log):
    """Train `cluster_specs` on a Ray cluster, as the command line does, and log every epoch."""
    from tsp.experiments.ray_engine import Ray

    def note(text):
        with open(log, "a") as file:
            file.write(f"{text}\n")

    events = Events(progress=lambda now: note(f"epoch {now.bank} {now.epoch}"), say=note)
    with on_signals(lambda: note("asked")) as stop:
        told = {"name": "x", "events": events, "policy": CheckpointPolicy(0.0, stop)}
        sweep.ensure(cluster_specs(), Store(root), engine=Ray(address), **told)


def train(root, log="", every=0.0):
    """Train `specs` into a store, two runs a bank, and log every epoch as it ends."""

    def note(text):
        if log:
            with open(log, "a") as file:
                file.write(f"{text}\n")

    events = Events(
        begin=lambda jobs, number, banks, peak: note(f"begin {' '.join(it.id for it in jobs)}"),
        progress=lambda now: note(f"epoch {now.bank} {now.epoch}"),
        stored=lambda jobs: note(f"stored {' '.join(it.id for it in jobs)}"),
        say=note,
    )
    sweep.BANK["cpu"] = 2
    sweep.ensure(
        specs(),
        Store(root),
        name="x",
        device="cpu",
        precision="float32",
        token_budget=2048,
        events=events,
        policy=CheckpointPolicy(every),
    )


def command(*words):
    """Run the command line, and print each epoch that has ended."""
    reached = Checkpoint.reached

    def printed(point, bank, epoch, seconds):
        print(f"epoch {epoch} has ended", flush=True)
        reached(point, bank, epoch, seconds)

    Checkpoint.reached = printed
    sys.argv = ["tsp", *words]
    cli()
