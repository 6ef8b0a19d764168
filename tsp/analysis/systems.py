"""Every model, data set and method of the paper and of this project, and what was run of it."""

from itertools import product

import pandas as pd

from tsp.analysis.records import load_runs
from tsp.experiments.paper import APPENDIX_TASKS, MAIN_TASKS, SYSTEMS
from tsp.store.runs import Store
from tsp.training.model_cards import DEFAULT
from tsp.training.spec import REGIMES

OURS = (DEFAULT, "gemma-3-270m")
RELATIVES = {  # the tiny random model that tests run in the architecture of each
    "open-llama-7b": "tiny-llama",
    "deepseek-7b-chat": "tiny-llama",
    "gemma-2b-it": "tiny-gemma",
    "qwen1.5-14b-chat": "tiny-qwen2",
    DEFAULT: "tiny-llama",
    "gemma-3-270m": "tiny-gemma3",
}
METHODS = {False: ("ce", "tsloss"), True: ("ce", "tsloss", "l2", "pairwise")}  # published version
KEYS = ["model", "task", "regime", "method"]
COLUMNS = [*KEYS, "problems", "runs", "relative", "command"]


def systems(store: Store) -> pd.DataFrame:
    """The paper's systems and ours, one row per model, data set, regime and method.

    Returns
    -------
    DataFrame
        `COLUMNS`: the number of ``problems`` or sets of ten and of ``runs``, all at the defaults of
        their protocol and on right answers, TSLoss and the other regularisers at weight 1.
        ``relative``: the tiny random model by which tests train the architecture. ``command``
        trains one run.
    """
    runs = load_runs(store)
    runs = runs[(runs.setting == "") & (runs.lambda_ts == (runs.method != "ce"))]
    counts = runs.groupby(KEYS).agg(problems=("content", "nunique"), runs=("id", "size"))
    cells = _cells()
    table = pd.DataFrame(cells, columns=KEYS).join(counts, on=KEYS)
    table = table.fillna({"problems": 0, "runs": 0}).astype({"problems": int, "runs": int})
    table["relative"] = table.model.map(RELATIVES)
    table["command"] = [_command(*cell) for cell in cells]
    return table[COLUMNS]


def _cells() -> list[tuple[str, str, str, str]]:
    """Model, data set, regime and method of each row."""
    six = (*MAIN_TASKS, *APPENDIX_TASKS)
    models = [
        (system.name, six if system.topology else MAIN_TASKS, system.name == "gemma-2b-it")
        for system in SYSTEMS
    ]
    models += [(OURS[0], six, True), (OURS[1], MAIN_TASKS, False)]
    return [
        cell
        for model, tasks, published in models
        for cell in product([model], tasks, REGIMES, METHODS[published])
    ]


def _command(model: str, task: str, regime: str, method: str) -> str:
    source = "" if model in OURS else " --data hub --protocol paper"
    ten = " --regime multi" if regime == "multi" else ""
    return f"tsp run --model {model} --task {task}{ten} --method {method}{source}"
