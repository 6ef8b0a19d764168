"""Every model, data set and method of the paper and of this project, and what was run of it."""

from itertools import product

import numpy as np
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
COLUMNS = (
    *("model", "task", "regime", "method", "state", "problems", "runs"),
    *("relative", "command"),
)


def systems(store: Store) -> pd.DataFrame:
    """The paper's systems and ours, one row a model, data set, regime and method.

    Returns
    -------
    DataFrame
        `COLUMNS`. ``state``: ``"published"`` (with how many ``problems`` or sets of ten and
        ``runs``, all at the defaults of their protocol and on right answers, TSLoss and the other
        regularisers at weight 1), ``"run"`` where none of these runs is published, ``"not run"``.
        ``relative``: the tiny random model by which tests train the architecture. ``command``
        trains one run.
    """
    runs = load_runs(store)
    runs = runs[(runs.setting == "") & (runs.lambda_ts == (runs.method != "ce"))]
    keys = ["model", "task", "regime", "method"]
    counts = runs.groupby(keys).agg(
        problems=("content", "nunique"), runs=("id", "size"), public=("published", "any")
    )
    table = pd.DataFrame(_cells(), columns=keys).join(counts, on=keys)
    table["state"] = np.select(
        [table.public.eq(True), table.runs > 0], ["published", "run"], "not run"
    )
    table = table.fillna({"problems": 0, "runs": 0}).astype({"problems": int, "runs": int})
    table["relative"] = table.model.map(RELATIVES)
    table["command"] = [_command(*cell) for cell in _cells()]
    return table[list(COLUMNS)]


def _cells() -> list[tuple[str, str, str, str]]:
    cells = [
        cell
        for system in SYSTEMS
        for cell in product(
            [system.name],
            (*MAIN_TASKS, *APPENDIX_TASKS) if system.topology else MAIN_TASKS,
            REGIMES,
            METHODS[system.name == "gemma-2b-it"],
        )
    ]
    cells += product([OURS[0]], (*MAIN_TASKS, *APPENDIX_TASKS), REGIMES, METHODS[True])
    return [*cells, *product([OURS[1]], MAIN_TASKS, REGIMES, METHODS[False])]


def _command(model: str, task: str, regime: str, method: str) -> str:
    source = "" if model in OURS else " --data hub --protocol paper"
    ten = " --regime multi" if regime == "multi" else ""
    return f"tsp run --model {model} --task {task}{ten} --method {method}{source}"
