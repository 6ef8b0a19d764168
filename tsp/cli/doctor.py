"""What is installed here, which models and data are within reach, which device is used."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from tsp.paths import cache_dir, data_dir
from tsp.problems import hub
from tsp.problems.loading import TASKS
from tsp.store.runs import Store
from tsp.training import models

PACKAGES = ("torch", "transformers", "peft", "giotto-tda", "giotto-ph", "datasets", "math-verify")
BOOK = ("jupyter-book", "jupytext", "papermill", "seaborn")


def examine() -> dict[str, dict[str, str]]:
    """One table a subject: versions, device, models, problems, runs."""
    return {
        "packages": {name: _version(name) for name in (*PACKAGES, *BOOK)},
        "device": _device(),
        "models": {name: _model_state(name) for name in models.known()},
        "problems": {task: _problem_state(task) for task in TASKS},
        "places": _places(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing: pip install 'tsp[book]'" if name in BOOK else "missing"


def _device() -> dict[str, str]:
    used = models.resolve_device("auto")
    name = torch.cuda.get_device_name() if used == "cuda" else platform.processor() or "CPU"
    return {
        "used by default": used,
        "name": name,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
    }


def _model_state(name: str) -> str:
    card = models.MODELS.get(name)
    if card is None:
        return "ready (random, for tests)"
    if card.embedded:
        state = "ready" if models.installed(name) else f"run `tsp model install {name}`"
    else:
        state = "from the hub" if hub.reachable() else "hub not reachable"
    return f"{state}; {card.hub_id}, {card.license}"


def _problem_state(task: str) -> str:
    lines = (data_dir("problems") / f"{task}.jsonl").read_text().splitlines()
    more = "and the hub's" if hub.reachable() else "hub not reachable; --data DIR reads a folder"
    return f"{len(lines)} shipped, {more}"


def _places() -> dict[str, str]:
    store = Store()
    return {
        "run store": f"{store.root.resolve()} ({len(store.ids())} runs)",
        "model cache": str(cache_dir()),
    }
