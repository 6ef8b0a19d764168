"""What the paper's printed numbers say about each other, from ``data/paper`` and the text alone."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from tsp.analysis.stats import rho_from_u
from tsp.experiments.paper import PROTOCOLS, reported

TRAJECTORY = 146  # snapshots that the p-values of Table 2 imply
GEMMA_WIDTH = 2048  # d of Gemma-2B, the width of its embeddings


def rho_p(rho: float, n: Any) -> Any:
    """Two-sided p-value of a rank correlation over n pairs (or several n), by Student's t.

    Examples
    --------
    >>> f"{rho_p(-0.324, 146):.2e}"
    '6.62e-05'
    """
    t = rho * np.sqrt((n - 2) / (1 - rho**2))
    return 2 * stats.t.sf(abs(t), n - 2)


def u_p(u: float, sizes: tuple[int, int], *, ties: float = 1.0) -> float:
    """Two-sided p-value of a Mann-Whitney U: normal, continuity corrected.

    ``ties`` is 1 / sqrt(1 - sum(t³ - t) / (N³ - N)) over tied groups of t, 1 without ties: the
    factor by which U's spread is smaller, and by which Spearman's rho is larger (`rho_from_u`).

    Examples
    --------
    >>> f"{u_p(0.0, (73, 73)):.1e}"
    '1.9e-25'
    """
    a, b = sizes
    spread = np.sqrt(a * b * (a + b + 1) / 12) / ties
    z = (abs(u - a * b / 2) - 0.5) / spread
    return float(min(1.0, 2 * stats.norm.sf(z)))


def implied_n(rho: float, p: float) -> np.ndarray:
    """Numbers of pairs at which the printed rho, before rounding to 0.001, gives the printed p.

    The paper prints a p of at least 0.001 to three decimals, a smaller one to two digits.
    """
    n = np.arange(3, 2000)
    half = (0.001 if p >= 0.001 else 10.0 ** (np.floor(np.log10(p)) - 1)) / 2
    least, most = (rho_p(abs(rho) + change, n) for change in (0.0005, -0.0005))
    return n[(least <= p + half) & (most >= p - half)]


def table2_again() -> pd.DataFrame:
    """Table 2 with what its columns imply about each other, one row per feature that varies.

    Returns
    -------
    DataFrame
        ``feature``; ``rho``, ``rho_p``, ``u``, ``u_p`` as printed; ``n_low``, ``n_high``: the pairs
        that rho and its p fit; ``rho_p_146``, ``u_p_73``: the p-values of 146 snapshots in two
        halves without ties; ``rho_of_u``: the rho that U implies then; ``ties``: the printed rho
        over that one, 1 if they agree to three digits; ``u_p_ties``: U's p-value with that factor.
    """
    half = (TRAJECTORY // 2, TRAJECTORY // 2)
    rows = []
    for row in reported("table2").dropna().to_dict("records"):
        pairs = implied_n(row["rho"], row["rho_p"])
        rho = rho_from_u(row["u"], *half)
        ties = 1.0 if round(rho, 3) == row["rho"] else row["rho"] / rho
        rows.append(
            row
            | {"n_low": pairs.min(), "n_high": pairs.max()}
            | {"rho_p_146": rho_p(row["rho"], TRAJECTORY), "u_p_73": u_p(row["u"], half)}
            | {"rho_of_u": rho, "ties": ties, "u_p_ties": u_p(row["u"], half, ties=ties)}
        )
    return pd.DataFrame(rows)


def savings() -> pd.DataFrame:
    """Table 3 as ratios: iterations with TSLoss over those without, one row per cell."""
    table = reported("table3").pivot(
        index=["model", "regime", "task"], columns="method", values="iterations"
    )
    return table.assign(ratio=table.tsloss / table.ce).reset_index().rename_axis(columns=None)


class Evenness(NamedTuple):
    """How many printed counts are even, and how probable that would be for means of three runs."""

    counts: int  # printed iterations of Table 3
    even: int  # those that are even numbers
    above: int  # those that are more than 2
    chance: float  # probability that so many means of three even counts are all even


def evenness() -> Evenness:
    """Test whether the counts of Table 3 can be means of three independent runs, as stated.

    The count of a single run is even, since answers are apparently checked every second epoch. The
    mean of three even numbers is even only if the sum of their halves is a multiple of three. If
    all printed counts are even nevertheless, they were rounded to even numbers, are medians, or the
    three runs agreed exactly. ``chance`` assumes that a sum of halves is a multiple of three with
    probability one third, as it is if counts are spread over many values; it leaves out counts of
    2, the least possible, which only equal runs have as their mean.
    """
    counts = reported("table3").iterations
    above = int((counts > 2).sum())
    return Evenness(len(counts), int((counts % 2 == 0).sum()), above, float(3.0**-above))


def tables_3_and_4() -> pd.DataFrame:
    """The cell of Table 3 that Table 4 repeats: Gemma-2B-IT, one GSM8K problem."""
    cell = savings().query("model == 'gemma-2b-it' and regime == 'single' and task == 'gsm8k'")
    fourth = reported("table4").set_index("lambda_ts").iterations[[0.0, 1.0]]
    third = cell[["ce", "tsloss"]].to_numpy().ravel()
    return pd.DataFrame({"lambda_ts": fourth.index, "table 3": third, "table 4": fourth.to_numpy()})


def scaled_embeddings() -> dict[str, float]:
    """Return the paper's initial spread and learning rate as a model that scales prompts sees them.

    Until version 5.4 transformers multiplied a Gemma's input embeddings, including prompts that
    are passed in, by the square root of their width. AdamW moves a coordinate by about its
    learning rate a step, so on the scale that the model sees both grow by that factor.

    Returns
    -------
    dict
        ``factor``, ``init_std`` and ``lr`` as the model saw them.
    """
    paper, factor = PROTOCOLS["paper"], float(np.sqrt(GEMMA_WIDTH))
    return {"factor": factor, "init_std": paper.init_std * factor, "lr": paper.lr * factor}
