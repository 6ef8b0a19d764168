"""The paper as data: its protocols, the systems it ran and its printed tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsp.errors import InputError
from tsp.paths import data_dir
from tsp.training.protocols import PROTOCOLS as PROTOCOLS

if TYPE_CHECKING:
    import pandas as pd

SEEDS = 3
"""Independent runs that every reported number averages (section 7 of the paper)."""
MAIN_TASKS = ("gsm8k", "mmlu_cf", "longbench")
"""The data sets of Table 3 and Figure 5."""
APPENDIX_TASKS = ("math", "bbh", "hotpotqa")
"""The data sets that only the topology chapter's appendix (Figures 6–19) adds."""
REPORTED = ("table1", "table2", "table3", "table4")
ALPHA = 0.05
"""Level of the family of tests that decide claims, two-sided; shown intervals are at 1 - ALPHA."""


@dataclass(frozen=True)
class System:
    """A language model of the paper."""

    name: str  # in this project, as `--model` takes it and `data/paper/*.csv` writes it
    title: str  # in the paper
    table3: bool = True  # whether Table 3 has it (the 14B model is in the published version alone)
    topology: bool = False  # whether the paper analysed its prompts' topology


SYSTEMS = (
    System("open-llama-7b", "Open-LLaMA-7B"),
    System("deepseek-7b-chat", "DeepSeek-7B-Chat"),
    System("gemma-2b-it", "Gemma-2B-IT", topology=True),
    System("qwen1.5-14b-chat", "Qwen1.5-14B", table3=False),
)


def reported(table: str) -> pd.DataFrame:
    """A table as the paper prints it, read from ``data/paper``.

    Parameters
    ----------
    table
        ``table1`` (notation), ``table2`` (correlations), ``table3`` or ``table4`` (iterations).

    Returns
    -------
    pandas.DataFrame
        ``table1``: symbol, meaning. ``table2``: feature (a column of
        `tsp.topology.diagrams.summarize`), rho, rho_p, u, u_p. ``table3``: model, method, regime,
        task, iterations. ``table4``: lambda_ts, iterations. What the paper prints as missing is
        nan: in Table 2 not applicable, in Table 4 never converged.

    Raises
    ------
    InputError
        For another table.

    Examples
    --------
    >>> reported("table4").iterations.tolist()
    [154.0, 130.0, 112.0, 88.0, nan]
    """
    import pandas as pd

    if table not in REPORTED:
        raise InputError("table", table, f"one of {', '.join(REPORTED)}")
    return pd.read_csv(data_dir("paper") / f"{table}.csv")
