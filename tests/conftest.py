"""What the tests share: tiny models, made-up problems, one bank that was really trained."""

import importlib
import os

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to others
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads only wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test but those marked `network` may reach out

import pytest
import torch
from hypothesis import HealthCheck, settings
from typer.testing import CliRunner

from tsp.problems.loading import Problem
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

if os.environ.get("TSP_BROWSER") == "required":  # what the tests of the pages else skip without
    for module in ("axe_playwright_python", "jupyter_book", "playwright"):
        importlib.import_module(module)

torch.set_num_threads(1)
PLAN = Plan(token_budget=512, threads=1)
PATIENCE_SECONDS = 600  # a backstop: no state that a test waits for takes as long on a busy machine
# Hypothesis, too, takes the time that it takes.
told = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("patient", **told)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def tiny():
    """Load a tiny model of a family, once a session and dtype."""
    loaded = {}

    def get(name="tiny-llama", dtype=torch.float32):
        key = (name, dtype)
        if key not in loaded:
            loaded[key] = models.load(name, device="cpu", dtype=dtype)
        return loaded[key]

    return get


@pytest.fixture(scope="session")
def smollm():
    """The embedded model, where it is installed."""
    if not models.installed(models.DEFAULT):
        pytest.skip(f"needs `tsp model install {models.DEFAULT}`")
    return models.load(device="cpu")


def repetitions(few, many, marks=()):
    """Values of a parameter: a sample for every change, and what `make torture` tries."""
    return [
        pytest.param(few, marks=marks, id="sample"),
        pytest.param(many, marks=pytest.mark.torture, id="torture"),
    ]


def problem(question="2+2=?", target="4", **fields):
    """A made-up problem that is right when the text equals the target."""
    told = {"task": "bbh", "answers": (target,), "metric": "bbh", "source": "local", "row": 0}
    return Problem(question=question, target=target, sha256=f"{question}{target}", **told | fields)


def call(*arguments):
    """Run the command line in this process."""
    from tsp.cli.main import app

    return CliRunner().invoke(app, [str(it) for it in arguments])


def spec(**fields):
    """A run that a tiny model trains in a moment."""
    few = {"model": "tiny-llama", "task": "bbh", "n_tokens": 5, "lr": 0.05, "epochs": 4}
    return RunSpec(**few | fields)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A store with the runs of profile `smoke`, trained for this session."""
    from tsp.experiments.catalogue import experiment_specs
    from tsp.experiments.sweep import ensure

    store = Store(tmp_path_factory.mktemp("runs"))
    ensure(experiment_specs("all", "smoke"), store, name="all-smoke", device="cpu")
    return store
