"""The state of this installation: packages, device, models, problems and places."""

import os
import platform

import torch

from tsp import __version__
from tsp.paths import cache_dir, data_dir
from tsp.problems import hub
from tsp.problems.loading import TASKS
from tsp.provenance import installed_version
from tsp.store.runs import Store
from tsp.training import models

NEEDED = ("torch", "transformers", "peft", "giotto-tda", "giotto-ph", "datasets", "math-verify")
BOOK = ("jupyter-book", "jupytext", "papermill", "seaborn")
PACKAGES = dict.fromkeys(NEEDED, "missing") | dict.fromkeys(
    BOOK, "missing: pip install 'tsp[book]'"
)
"""What is reported of each package that is not installed."""


def examine() -> dict[str, dict[str, str]]:
    """Return a table for each subject: packages, device, models, problems and places."""
    device, store = models.resolve_device("auto"), Store()
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    more = "and the hub's" if hub.reachable() else "hub not reachable; --data DIR reads a folder"
    files = {task: (data_dir("problems") / f"{task}.jsonl").read_text() for task in TASKS}
    return {
        "packages": {"tsp": __version__}
        | {package: installed_version(package, why) for package, why in PACKAGES.items()},
        "device": {
            "used by default": device,
            "name": name,
            "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        },
        "models": {model: _model(model) for model in (*models.MODELS, *models.TINY)},
        "problems": {
            task: f"{len(text.splitlines())} shipped, {more}" for task, text in files.items()
        },
        "places": {
            "run store": f"{store.root.resolve()} ({len(store.ids())} runs)",
            "model cache": str(cache_dir()),
        },
    }


def _model(name: str) -> str:
    card = models.MODELS.get(name)
    if card is None:
        return "ready (random, for tests)"
    if card.packages:
        state = "ready" if models.installed(name) else f"run `tsp model install {name}`"
    else:
        state = "from the hub" if hub.reachable() else "hub not reachable"
    return f"{state}; {card.hub_id}, {card.license}"
