"""The paper as data: its protocols, the systems it ran, its printed tables and its claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsp.errors import InputError
from tsp.paths import data_dir
from tsp.protocols import PROTOCOLS, Protocol

if TYPE_CHECKING:
    import pandas as pd


__all__ = [
    "ALPHA",
    "APPENDIX_TASKS",
    "CLAIMS",
    "MAIN_TASKS",
    "PROTOCOLS",
    "REPORTED",
    "SEEDS",
    "SYSTEMS",
    "VERDICTS",
    "Claim",
    "Protocol",
    "System",
    "reported",
]

SEEDS = 3
"""Independent runs that every reported number averages (section 7 of the paper)."""

MAIN_TASKS = ("gsm8k", "mmlu_cf", "longbench")
"""The data sets of Table 3 and Figure 5."""

APPENDIX_TASKS = ("math", "bbh", "hotpotqa")
"""The data sets that only the topology chapter's appendix (Figures 6–19) adds."""


@dataclass(frozen=True)
class System:
    """A language model of the paper.

    Attributes
    ----------
    name
        Its name in this project, as ``--model`` takes it and as ``data/paper/*.csv`` writes it.
    title
        Its name in the paper.
    hub_id
        Its id on the Hugging Face hub.
    table3
        Whether Table 3 has rows for it (the 14B model is in the published version alone).
    topology
        Whether the paper analysed its prompts' topology.
    """

    name: str
    title: str
    hub_id: str
    table3: bool = True
    topology: bool = False


SYSTEMS = (
    System("open-llama-7b", "Open-LLaMA-7B", "openlm-research/open_llama_7b"),
    System("deepseek-7b-chat", "DeepSeek-7B-Chat", "deepseek-ai/deepseek-llm-7b-chat"),
    System("gemma-2b-it", "Gemma-2B-IT", "google/gemma-2b-it", topology=True),
    System("qwen1.5-14b-chat", "Qwen1.5-14B", "Qwen/Qwen1.5-14B-Chat", table3=False),
)

REPORTED = ("table1", "table2", "table3", "table4")


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
        `tsp.topology.summarize`), rho, rho_p, u, u_p. ``table3``: model, method, regime,
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


ALPHA = 0.05
"""Level of the family of tests that decide claims, two-sided; shown intervals are at 1 - ALPHA."""

FIGURE4_EPOCHS = 100
"""By then, says the paper, the total loss is near zero at every weight (section 4.4)."""

VERDICTS = (
    "reproduced",
    "partly",
    "not reproduced",
    "inconclusive",
    "true by definition",
    "not tested here",
)


@dataclass(frozen=True)
class Claim:
    """A statement of the paper and the rule that decides it from independent runs.

    Attributes
    ----------
    id
        A name for tables, links and `tsp.claims.RULES`.
    source
        Where the paper says it.
    statement
        What it says, in our words.
    needs
        The experiment whose runs decide it.
    rule
        When which verdict is given; `tsp.claims` is this text as code.
    protocol
        The protocol under which the deciding runs are trained.
    profile
        The profile that is large enough to decide it.
    model
        The model it is about, where it is not the profile's.
    """

    id: str
    source: str
    statement: str
    needs: str
    rule: str
    protocol: str = "tuned"
    profile: str = "full"
    model: str = ""

    @property
    def command(self) -> str:
        """What to type for the runs that decide the claim."""
        model = f" --model {self.model}" if self.model else ""
        return f"tsp sweep {self.needs} --profile {self.profile}{model}"


HOLM = f"p < {ALPHA} after Holm over the claims that are tested"
PLAIN = (
    "one problem (or set of ten) on one model, the median of its runs without TSLoss; all runs of "
    "a seed start from one prompt, so the verdict is about problems, given such starts"
)
PAIR = (
    "one problem (or set of ten) on one model, medians over seeds (of two, the sooner) of runs "
    "that differ in TSLoss alone; both start from their seed's one prompt, and one problem on two "
    "models, or in a set and alone, is two units"
)


def _signs(event: str, unit: str, *, estimate: str = "the median change") -> str:
    return (
        f"Unit: {unit}. Reproduced when {event} in more units than the reverse by a two-sided "
        f"sign test ({HOLM}, unchanged units set aside) and in at least half of all; partly when "
        "in fewer than half of all; not reproduced when the exact interval, at the same level, of "
        "the share of all units in which it happens lies below one half; inconclusive otherwise. "
        f"Estimate: {estimate}."
    )


def _share(event: str, unit: str, *, estimate: str) -> str:
    return (
        f"Unit: {unit}. Reproduced when {event} in more than half of all units by a two-sided "
        f"binomial test ({HOLM}); not reproduced when in fewer than half, by the same test; "
        f"inconclusive otherwise. Estimate: {estimate}."
    )


RHO = (
    "Unit: one problem (or set of ten) on one model, the mean of its runs without TSLoss. Each "
    "model, task and regime is a stratum, read at the check, of those that all its runs have, at "
    "which the share of its units solved so far is nearest one half; runs that need no training, "
    "or of less than half the longest's length, are apart; strata where all or none are solved say "
    "nothing. rho "
    "is Spearman's over ranks taken within strata, p is from shuffling within strata. "
    "At least six units are needed. "
)


def _correlation(sign: str) -> str:
    return (
        f"{RHO}Reproduced when {HOLM} and rho is {sign}; not reproduced when p is so small and it "
        "is not, or when the interval at the same level excludes half of the paper's rho, or of "
        "the largest that so many solved and unsolved units allow where that is smaller, and "
        "everything beyond; inconclusive otherwise. Estimate: rho."
    )


CLAIMS = (
    Claim(
        "h0-count-constant",
        "abstract; section 2.3, Figure 2 (c), Table 2",
        "The number of H0 features stays the same throughout training.",
        "phenomenon",
        "True by definition: distinct points are that many components at scale zero. The runs are "
        "only checked for coincident points.",
    ),
    Claim(
        "h1-count-falls",
        "section 1; section 2.3, Figure 2 (c)",
        "Training removes loops: the number of H1 features goes down.",
        "phenomenon",
        _signs("the H1 count is lower at the last check than at the first", PLAIN),
    ),
    Claim(
        "loops-vanish",
        "section 1",
        "The number of loops eventually approaches zero.",
        "phenomenon",
        _share(
            "at the last check at most a tenth of the first loops are left",
            f"{PLAIN}; those that begin without loops are apart",
            estimate="the median share that is left",
        ),
    ),
    Claim(
        "h0-lifespan-grows",
        "section 2.3, Figure 2 (a), (b) and (d)",
        "H0 features live longer and longer while the prompt is trained.",
        "phenomenon",
        _signs("the mean H0 lifespan is longer at the last check than at the first", PLAIN)
        + " Reproduced so, but the median change of the lifespan divided by the mean distance, "
        "which stays the same when a cloud merely grows, is not positive: partly.",
    ),
    Claim(
        "entropy-falls",
        "section 1; appendix A.1.3, Figure 19",
        "Persistence entropy goes down a little.",
        "phenomenon",
        _signs("the entropy is lower at the last check than at the first", PLAIN)
        + " A median fall of more than a tenth is not a little: partly.",
    ),
    Claim(
        "entropy-early",
        "section 2.3, Figure 3 (b)",
        "Persistence entropy falls rapidly at first and then stabilises.",
        "phenomenon",
        _share(
            "the entropy falls, and at least half of its fall is in the first quarter of the "
            "epochs,",
            PLAIN,
            estimate="the median share of the fall in the first quarter",
        ),
    ),
    Claim(
        "density-minimal",
        "section 2.3, Figure 3 (a)",
        "Loops vanish while the density of the cloud falls only minimally.",
        "phenomenon",
        _share(
            "the H1 count falls and the density n / D (D: mean distance) falls too, by at most a "
            "tenth of its first value,",
            PLAIN,
            estimate="the median fall of the density, as a share of its first value",
        ),
    ),
    Claim(
        "h1-falls-faster-multi",
        "section 2.3, Figure 2 (c)",
        "Loops disappear faster when ten problems are trained on together than with one.",
        "phenomenon",
        "Unit: one problem, or one set of ten, the median of its runs without TSLoss; models and "
        "tasks that have both are strata. Measured: the H1 count as a share of its first value, "
        "averaged over the checks up to the last of the stratum's shortest run. Reproduced when "
        "sets lie below single problems by a rank test that shuffles within strata "
        f"({HOLM}); not reproduced when above; inconclusive otherwise. Reproduced so, but at equal "
        "optimiser steps, of which a set takes two an epoch, a set is not faster in most "
        "comparisons: partly. A problem may be in a set too: that makes both more alike and the "
        "test more careful. Estimate: the share of comparisons of a set with a problem of its "
        "stratum in which the set is faster.",
    ),
    Claim(
        "h0-lifespan-accuracy",
        "section 2.3, Table 2",
        "Prompts whose H0 features live longer answer more accurately.",
        "phenomenon",
        _correlation("positive"),
    ),
    Claim(
        "h1-count-accuracy",
        "section 2.3, Table 2",
        "Prompts with fewer loops answer more accurately.",
        "phenomenon",
        _correlation("negative"),
    ),
    Claim(
        "entropy-accuracy",
        "section 2.3, Table 2",
        "Prompts of lower persistence entropy answer more accurately.",
        "phenomenon",
        _correlation("negative"),
    ),
    Claim(
        "h1-lifespan-accuracy",
        "section 2.3, Table 2",
        "The mean H1 lifespan has nothing to do with accuracy.",
        "phenomenon",
        f"{RHO}Reproduced when the interval, at the level that Holm gives the test, lies within "
        "-0.324 and 0.324, the smallest size that Table 2 calls a correlation; not reproduced when "
        f"{HOLM} and it does not; inconclusive otherwise. Estimate: rho.",
    ),
    Claim(
        "same-everywhere",
        "section 4.2; appendix A.2, Figures 6-19",
        "In all six data sets the topology evolves alike: loops disappear.",
        "phenomenon",
        f"Unit: {PLAIN}. No test of its own, that is h1-count-falls. Reproduced when the median "
        "change of the H1 count is negative in each of the six data sets; not reproduced when it "
        "is not in one; inconclusive while a data set has no runs. Estimate: the share of data "
        "sets in which it is.",
    ),
    Claim(
        "tsloss-fewer-iterations",
        "abstract; section 4.3, Table 3",
        "With TSLoss at weight 1 a prompt needs fewer iterations until its problems are solved.",
        "table3",
        _signs(
            "the run with TSLoss is solved first", PAIR, estimate="the median ratio of iterations"
        )
        + " Pairs of which neither run, or already the untrained prompt, solves the problems say "
        "nothing about it and are counted apart.",
    ),
    Claim(
        "tsloss-halves-iterations",
        "section 4.3, Table 3; published version",
        "The saving reaches about one half.",
        "table3",
        f"Unit: {PAIR}. Each model, task and regime with at least six units that either run "
        "solves is a cell, as in Table 3. Reproduced when in the cell with the smallest median "
        "ratio of iterations more units need at most half of them than more, by a two-sided sign "
        f"test whose p, times the number of cells, has {HOLM}; not reproduced when in every cell "
        "more units need over half, by such a test with so small a p in each; inconclusive "
        "otherwise. Estimate: that smallest ratio.",
    ),
    Claim(
        "tsloss-as-effective",
        "abstract; section 4.3",
        "With TSLoss prompts still come to solve their problems.",
        "table3",
        _share(
            "the run with TSLoss is solved too",
            f"{PAIR}, where the run without is solved",
            estimate="the share in which it is",
        ),
    ),
    Claim(
        "tsloss-simpler-topology",
        "section 3; published version",
        "Prompts trained with TSLoss end with fewer loops than prompts trained without.",
        "table3",
        _signs(
            "the H1 count at the pair's last common check is lower with TSLoss",
            PAIR,
            estimate="the median difference",
        ),
    ),
    Claim(
        "tsloss-lower-loss",
        "section 4.5, Figure 5",
        "With TSLoss the loss curve comes down faster.",
        "figure5",
        _signs(
            "the cross-entropy, the part of the loss that both have, averaged over the common "
            "epochs, is lower with TSLoss",
            PAIR,
            estimate="the median difference",
        ),
    ),
    Claim(
        "lambda-monotone",
        "section 4.4, Table 4",
        "From weight 0 to 1 every increase of lambda_ts shortens training.",
        "table4",
        _signs(
            "iterations go down with lambda_ts (0, 0.1, 0.5, 1; Kendall's tau below 0)",
            "one problem (or set of ten) on one model with all four weights, the median over the "
            "seeds that have them (of two, the sooner); what no weight solves is apart",
            estimate="the median tau",
        )
        + " Reproduced so, but the median of the iterations does not fall at every one of the "
        "three steps: partly.",
    ),
    Claim(
        "lambda-ten-fails",
        "section 4.4, Table 4",
        "At lambda_ts = 10 training never arrives at a correct answer.",
        "table4",
        _share(
            "weight 10 leaves the problem unsolved",
            f"{PAIR}, at weight 10, where the run without is solved",
            estimate="the share in which it does",
        ),
    ),
    Claim(
        "all-weights-converge",
        "section 4.4, Figure 4",
        "At every weight the total loss is near zero after about 100 epochs.",
        "table4",
        _share(
            f"the mean total loss of the five epochs to {FIGURE4_EPOCHS} is below a tenth of the "
            "first at each of the weights 0, 0.1, 0.5, 1 and 10",
            "one problem (or set of ten) on one model with all five weights, the median over seeds",
            estimate="the median share, at the weight that leaves most",
        ),
    ),
    Claim(
        "lambda-ten-oscillates",
        "section 4.4, Figure 4",
        "At lambda_ts = 10 the total loss oscillates notably while it converges.",
        "table4",
        _signs(
            "the rises of the total loss from epoch to epoch, added up and divided by its first "
            "value, are larger at weight 10 than at weight 1 in as many epochs",
            PAIR.replace("TSLoss alone", "its weight alone"),
            estimate="the median difference",
        ),
    ),
    Claim(
        "variances-equal",
        "appendix A.1.2, equation 13",
        "Var(s_i) is about the variance of the H0 deaths, since s_i is about point i's death.",
        "baselines",
        "A statement about every cloud, so one is enough against it. Not reproduced when for two "
        "tight pairs of points on a line the variances differ by more than a factor of two; "
        "inconclusive otherwise. The chapter shows how far they differ for trained prompts.",
    ),
    Claim(
        "small-models-gain-more",
        "section 4.3, Table 3",
        "The smaller the model, the more TSLoss saves.",
        "table3",
        _signs(
            "the ratio of iterations rises with the model's size (Kendall's tau above 0)",
            "one problem (or set of ten) trained on at least three models, pairs that are solved",
            estimate="the median tau",
        ),
        protocol="paper",
        profile="paper",
    ),
    Claim(
        "qwen-fourfold",
        "published version",
        "On Qwen1.5-14B TSLoss shortens training four times.",
        "table3",
        f"Unit: {PAIR}, of those that either run solves. Reproduced when more units need at most "
        f"a quarter of the iterations than more, by a two-sided sign test ({HOLM}); not reproduced "
        "when more need over a quarter, likewise; inconclusive otherwise. Estimate: the median "
        "ratio.",
        protocol="paper",
        profile="paper",
        model="qwen1.5-14b-chat",
    ),
    Claim(
        "better-downstream",
        "published version",
        "TSLoss answers unseen problems better than no regulariser, L2 or the pairwise loss.",
        "baselines",
        _signs(
            "the share of at least fifty held-out problems that the prompt trained with TSLoss "
            "answers right is higher than the other's",
            "one problem on one model that was trained with all four, the median over seeds",
            estimate="the median difference",
        )
        + " Three such tests, against no regulariser, L2 and the pairwise loss, must all agree, "
        "and the weakest is given; where TSLoss is not ahead in more units than behind of each, "
        "the strongest of those against it, its p times three. `tsp heldout --data DIR` asks.",
    ),
)
"""What the paper claims, in its order."""
