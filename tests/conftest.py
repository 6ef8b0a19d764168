"""What tests share: tiny models, made-up problems, a store of runs that were trained."""

import importlib
import os
from functools import cache

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to others
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads only wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # only tests marked `network` use the network

import pytest
import torch
from hypothesis import HealthCheck, settings

from tsp.problems.loading import Problem
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

if os.environ.get("TSP_BROWSER") == "required":  # else tests of the pages skip without these
    for module in ("axe_playwright_python", "jupyter_book", "playwright"):
        importlib.import_module(module)

torch.set_num_threads(1)
PLAN = Plan(token_budget=512, threads=1)
PATIENCE_SECONDS = 600  # longer than any state that a test waits for takes on a busy machine
settings.register_profile(
    "patient", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def tiny():
    """Return a function that loads a tiny model of a family, once a session and dtype."""

    @cache
    def load(name="tiny-llama", dtype=torch.float32):
        return models.load(name, device="cpu", dtype=dtype)

    return load


@pytest.fixture(scope="session")
def smollm():
    """The embedded model, where it is installed."""
    if not models.installed(models.DEFAULT):
        pytest.skip(f"needs `tsp model install {models.DEFAULT}`")
    return models.load(device="cpu")


def problem(question="2+2=?", target="4", **fields):
    """Return a made-up problem that is solved when the text equals the target."""
    usual = {"task": "bbh", "answers": (target,), "metric": "bbh", "source": "local", "row": 0}
    return Problem(question=question, target=target, sha256=f"{question}{target}", **usual | fields)


@pytest.fixture
def store(tmp_path):
    """A store without runs."""
    return Store(tmp_path / "runs")


def spec(**fields):
    """Return the spec of a run that a tiny model trains in a moment."""
    small = {"model": "tiny-llama", "task": "bbh", "n_tokens": 5, "lr": 0.05, "epochs": 4}
    return RunSpec(**small | fields)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A store with the runs of profile `smoke`, trained for this session."""
    from tsp.experiments.catalogue import experiment_specs
    from tsp.experiments.sweep import ensure

    store = Store(tmp_path_factory.mktemp("runs"))
    ensure(experiment_specs("all", "smoke"), store, name="all-smoke", device="cpu")
    return store
