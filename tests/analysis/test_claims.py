"""Each rule gives each of its verdicts, from runs made up so that the verdict is known."""

from collections import Counter
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tsp.analysis.claims import CLAIMS, VERDICTS, evaluate
from tsp.analysis.claims.accuracy import judge_rho
from tsp.analysis.evidence import gathered, unseen_shares
from tsp.analysis.stats import attainable_rho, median_interval, stratified_rho
from tsp.analysis.verdicts import (
    ALONE,
    FAMILIES,
    Levels,
    contrasts,
    judge_signs,
)
from tsp.experiments.catalogue import experiment_specs
from tsp.experiments.paper import ALPHA, APPENDIX_TASKS, MAIN_TASKS, PROTOCOLS

EPOCHS = 100
CHECKS = np.arange(0, EPOCHS + 1, 10)
NEVER = float("nan")
ALL_SIX = (*MAIN_TASKS, *APPENDIX_TASKS)
CLAIM = {claim.id: claim for claim in CLAIMS}
FEATURES = {
    "h0_count": (40, 40),
    "h1_count": (10, 10),
    "h0_mean_lifespan": (1.0, 1.0),
    "h0_mean_lifespan_scaled": (1.0, 1.0),
    "h1_mean_lifespan": (0.1, 0.1),
    "persistence_entropy": (3.0, 3.0),
    "mean_distance": (1.0, 1.0),
}


class Runs:
    """Made-up runs: the frames that `evaluate` reads."""

    def __init__(self):
        self.runs, self.topology, self.losses, self.more = [], [], [], {}

    def add(self, problem, *, solved=50.0, epochs=EPOCHS, ce=1.0, features=None, **fields):
        run_id = f"run{len(self.runs)}"
        defaults = {
            "model": "smollm2-135m-instruct",
            "task": "gsm8k",
            "regime": "single",
            "method": "ce",
            "protocol": "tuned",
            "content": f"p{problem}",
            "placement": "after_question",
            "n_tokens": 40,
            "lr": PROTOCOLS[fields.get("protocol", "tuned")].lr,
            "seed": 0,
            "init": "gaussian",
            "solved_at_start": False,
        }
        weight = {"lambda_ts": 1.0 if fields.get("method") == "tsloss" else 0.0}
        own = {"id": run_id, "problem": problem, "epochs": epochs, "solved_epoch": solved}
        self.runs.append(defaults | weight | own | fields)
        for epoch in (epoch for epoch in CHECKS if epoch <= epochs):
            values = {name: path(epoch) for name, path in paths(features or {}).items()}
            self.topology.append({"id": run_id, "epoch": epoch} | values)
            self.losses.append({"id": run_id, "epoch": epoch, "ce": ce, "total": ce})
        return self

    def pair(self, problem, without, treated, **fields):
        self.add(problem, solved=without, **fields)
        return self.add(problem, solved=treated, method="tsloss", **fields)

    @property
    def frames(self):
        """Runs, checks, losses, no accuracies; with their columns even where there are none."""
        if not self.runs:
            return [it.iloc[:0] for it in Runs().add(0).frames]
        frames = [pd.DataFrame(it) for it in (self.runs, self.topology, self.losses)]
        return [*frames, pd.DataFrame(columns=["id", "epoch", "accuracy"])]

    def evidence(self, *, protocol="tuned", length=None):
        told = {"protocol": protocol, "length": length}
        return gathered(*self.frames, **told, **self.more)

    def row(self, claim, **told):
        return CLAIM[claim].decide(self.evidence(**told))

    def verdict(self, claim, **told):
        return self.row(claim, **told).verdict

    def evaluated(self, **told):
        return evaluate(*self.frames, **told, **self.more).set_index("id")


def paths(features):
    """Straight lines from the first value to the last."""

    def line(first, last):
        return lambda epoch: first + (last - first) * epoch / EPOCHS

    return {name: line(*ends) for name, ends in (FEATURES | features).items()}


def moving(feature, moves, **more):
    """One run a problem, in which the feature goes from its usual value by the given move."""
    runs = Runs()
    start = FEATURES[feature][0]
    for problem, move in enumerate(moves):
        runs.add(problem, features={feature: (start, start + move)} | more)
    return runs


def paired(solved, **fields):
    """One pair a problem; solved: (without, with TSLoss)."""
    runs = Runs()
    for problem, (without, treated) in enumerate(solved):
        runs.pair(problem, without, treated, **fields)
    return runs


# One number a unit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wins", "ties", "losses", "verdict"),
    [
        (6, 0, 0, "reproduced"),
        (5, 0, 0, "inconclusive"),  # p = 1/16 is the least that five can give
        (5, 1, 0, "inconclusive"),
        (6, 6, 0, "reproduced"),
        (6, 7, 0, "partly"),
        (7, 0, 5, "inconclusive"),
        (0, 0, 6, "not reproduced"),
        (0, 6, 0, "not reproduced"),
        (0, 5, 0, "inconclusive"),
        (3, 15, 0, "not reproduced"),
    ],
)
def test_signs(wins, ties, losses, verdict):
    assert judge_signs(wins, ties, losses)[0] == verdict


def test_speaking_against_a_claim_is_held_to_the_same_level():
    """0 of 6 is below one half at 95 %, since 2 / 64 < 0.05, and not where 0.01 is asked."""
    assert judge_signs(0, 0, 6, alpha=0.05)[0] == "not reproduced"
    assert judge_signs(0, 0, 6, alpha=0.01)[0] == "inconclusive"
    assert judge_signs(0, 0, 8, alpha=0.01)[0] == "not reproduced"
    assert "fewer than 8 changed" in judge_signs(0, 0, 6, alpha=0.01)[1]


def test_power_is_that_at_the_level_that_decides():
    def share(alpha):
        return float(judge_signs(12, 0, 8, alpha=alpha)[1].split("share of ")[1].split(" %")[0])

    assert share(0.001) > share(0.05)
    assert "has 80 % power to detect" in judge_signs(12, 0, 8, alpha=0.001)[1]
    assert judge_signs(12, 0, 8, alpha=0.001)[1].endswith("% (level 0.001)")


def test_median_interval_is_that_of_the_sign_test():
    assert median_interval([3, 1, 2, 5, 4, 6]) == (1, 6)
    assert np.isnan(median_interval([1, 2, 3, 4, 5])).all()
    low, high = median_interval(np.arange(20))
    assert (low, high) == (5, 14)  # the sixth from either end: P(B(20, 1/2) < 6) = 0.0207


def test_contrasts_are_one_family_of_sign_tests():
    table = contrasts({"a": [1.0] * 8, "b": [1, -1, 2, -2, 0, np.nan], "c": []}).set_index("name")
    a, b, c = table.loc["a"], table.loc["b"], table.loc["c"]
    assert (a.n, a.above, a.below, a["median"]) == (8, 8, 0, 1)
    assert (b.n, b.above, b.below) == (5, 2, 2)
    assert a.p == pytest.approx(2 / 2**8)
    assert a.p_holm == pytest.approx(3 * 2 / 2**8)
    assert (a.low, a.high) == (1, 1)
    assert np.isnan([b.low, b.shows, c.shows, c["median"]]).all()
    assert c.p == 1
    assert a.shows == pytest.approx(0.8 ** (1 / 8), abs=1e-3)  # at 0.05 / 3 all eight must agree


# Runs of which a verdict is known ------------------------------------------------------------


def course(by):
    """Entropy that makes its whole fall by an epoch."""
    runs = moving("persistence_entropy", [-0.2] * 6)
    for row in runs.topology:
        row["persistence_entropy"] = 3 - 0.2 * min(1, row["epoch"] / by)
    return runs


def by_regime(multi, single):
    """Sets and problems whose H1 count ends at the given values, from 10."""
    runs = Runs()
    for regime, ends in (("multi", multi), ("single", single)):
        for problem, last in enumerate(ends):
            runs.add(problem, regime=regime, features={"h1_count": (10, last)})
    return runs


def at_equal_steps():
    """Each loses the same number of loops a step, and a set takes two steps an epoch."""
    runs = Runs()
    for problem in range(6):
        for regime, steps in (("multi", 2), ("single", 1)):
            runs.add(problem, regime=regime)
            for row in runs.topology[-len(CHECKS) :]:
                row["h1_count"] = max(0, 100 - row["epoch"] * steps / 2) + problem / 10
    return runs


def removing(*shares, tasks=ALL_SIX):
    """Data sets whose problems lose the given shares of their loops."""
    runs = Runs()
    for task, removed in zip(tasks, shares, strict=True):
        for problem, share in enumerate(removed):
            runs.add(problem, task=task, features={"h1_count": (10, 10 - 10 * share)})
    return runs


SIGNS = {
    "h0-lifespan-accuracy": ("h0_mean_lifespan", 1),
    "h1-count-accuracy": ("h1_count", -1),
    "entropy-accuracy": ("persistence_entropy", -1),
}


def solved_or_not(feature, values, solved, drift=0.0, **fields):
    """One run a problem, solved at 30 or never; the feature drifts alike in all."""
    runs = Runs()
    for problem, (value, right) in enumerate(zip(values, solved, strict=True)):
        features = {feature: (value, value + drift)}
        runs.add(problem, solved=30.0 if right else NEVER, features=features, **fields)
    return runs


def ordered(claim, right, drift=0.0):
    """Problems in the claimed order of a feature, the worst first; which of them are solved."""
    feature, sign = SIGNS[claim]
    values = 5 + sign * np.arange(len(right)) / 10
    return solved_or_not(feature, values, right, sign * drift)


EVERY_OTHER = np.arange(60) % 2 == 0
WEAK = np.r_[[False] * 20, np.arange(360) % 2 == 0, [True] * 20]  # rho = 0.16


def ending(n, plain, treated, **more):
    """Pairs whose H1 count ends at the given numbers."""
    runs = Runs()
    for problem in range(n):
        runs.add(problem, features={"h1_count": (10, plain)})
        runs.add(problem, method="tsloss", features={"h1_count": (10, treated)}, **more)
    return runs


def costing(ratios):
    """Pairs whose cross-entropies have the given ratios."""
    runs = Runs()
    for problem, ratio in enumerate(ratios):
        runs.add(problem, ce=0.5).add(problem, ce=0.5 * ratio, method="tsloss")
    return runs


WEIGHTS = (0.0, 0.1, 0.5, 1.0)


def weighted(*rows, weights=WEIGHTS):
    """Problems with one run a weight, solved at the given epochs."""
    runs = Runs()
    for problem, row in enumerate(rows):
        for weight, epoch in zip(weights, row, strict=True):
            method = "tsloss" if weight else "ce"
            runs.add(problem, solved=epoch, method=method, lambda_ts=weight)
    return runs


FALLING, RISING, DIP = (90.0, 70.0, 50.0, 40.0), (40.0, 50.0, 70.0, NEVER), (90.0, 50.0, 60.0, 40.0)
ten = partial(weighted, weights=(0.0, 10.0))


def losses_of(n, *, last, wave=0.0, weights=(*WEIGHTS, 10.0), epochs=100):
    """Total loss by weight: a line from 1 to ``last``, with a wave of the given height."""
    runs = Runs()
    for problem in range(n):
        for weight in weights:
            method = "tsloss" if weight else "ce"
            runs.add(problem, method=method, lambda_ts=weight, epochs=epochs)
    runs.losses = [
        {"id": run["id"], "epoch": epoch, "ce": 1.0}
        | {"total": 1 + (last - 1) * epoch / epochs + wave * run["lambda_ts"] * (epoch % 2)}
        for run in runs.runs
        for epoch in range(epochs + 1)
    ]
    return runs


def diverging():
    runs = losses_of(6, last=0.01)
    ten = {run["id"] for run in runs.runs if run["lambda_ts"] == 10}
    for row in runs.losses:
        row["total"] = np.nan if row["id"] in ten and row["epoch"] > 50 else row["total"]
    return runs


def varying(ratios):
    deaths = 1.0 + np.arange(len(ratios))
    runs = Runs().add(0)
    found = {"soft_variance": ratios * deaths, "death_variance": deaths}
    runs.more = {"variances": pd.DataFrame(found)}
    return runs


BY_SIZE = ("gemma-2b-it", "open-llama-7b", "qwen1.5-14b-chat")


def on_models(*treated, names=BY_SIZE, n=6, without=80.0):
    """Under protocol `paper`, solved at 80 without TSLoss and at the given epochs with it."""
    runs = Runs()
    for problem in range(n):
        for name, solved in zip(names, treated, strict=True):
            runs.pair(problem, without, solved, model=name, protocol="paper")
    return runs


qwen = partial(on_models, names=BY_SIZE[2:])


def asked(shares, *, many=50):
    """Prompts of each method on each problem, and how many of 50 they answer right."""
    about = {"model": "smollm2-135m-instruct", "task": "gsm8k"}
    one = [about | {"sha256": f"h{k}", "longest": 40, "precision": "float32"} for k in range(many)]
    runs = Runs()
    answers = [it | {"id": "no prompt", "correct": k < 5} for k, it in enumerate(one)]
    for problem, by_method in enumerate(shares):
        for method, right in zip(("ce", "tsloss", "l2", "pairwise"), by_method, strict=True):
            runs.add(problem, method=method, lambda_ts=float(method != "ce"))
            told = runs.runs[-1]["id"]
            answers += [it | {"id": told, "correct": k < right} for k, it in enumerate(one)]
    runs.more = {"answers": pd.DataFrame(answers)}
    return runs


BETTER, MIXED = (10, 13, 11, 12), (10, 13, 14, 9)  # without, TSLoss, L2, pairwise

# Every verdict of every rule -----------------------------------------------------------------

REPRODUCED, PARTLY, READING, NOT, OPEN, DEFINITION, UNTESTED = VERDICTS
GONE = {"h1_count": (10, 1)}
WIDER = {"h0_mean_lifespan_scaled": (1.0, 1.2)}
FAST, SLOW = [0, 0.1, 0.2, 0.3], [6, 6.1, 6.2, 6.3, 6.4]
CASES = {
    "h0-count-constant": [(Runs().add(0), DEFINITION)],
    "h1-count-falls": [
        (moving("h1_count", [-5] * 8), REPRODUCED),
        (moving("h1_count", [-5] * 6 + [0] * 7), PARTLY),
        (moving("h1_count", [5] * 8), NOT),
        (moving("h1_count", [0] * 8), NOT),
        (moving("h1_count", [-5] * 5), OPEN),
    ],
    "loops-vanish": [
        (moving("h1_count", [-10] * 6), REPRODUCED),
        (moving("h1_count", [-5] * 6), NOT),
        (moving("h1_count", [-10] * 5), OPEN),
    ],
    "h0-lifespan-grows": [
        (moving("h0_mean_lifespan", [1.0] * 6, **WIDER), REPRODUCED),
        (moving("h0_mean_lifespan", [1.0] * 6), PARTLY),  # as the cloud does
        (moving("h0_mean_lifespan", [-0.5] * 6, **WIDER), NOT),
        (moving("h0_mean_lifespan", [1.0] * 5, **WIDER), OPEN),
    ],
    "entropy-falls": [
        (moving("persistence_entropy", [-0.1] * 8), REPRODUCED),
        (moving("persistence_entropy", [-0.1] * 6 + [0] * 7), PARTLY),
        (moving("persistence_entropy", [-1.5] * 8), PARTLY),  # by half is not a little
        (moving("persistence_entropy", [0.1] * 8), NOT),
        (moving("persistence_entropy", [-0.1] * 5), OPEN),
    ],
    "entropy-early": [
        (course(by=20), REPRODUCED),
        (course(by=100), NOT),
        (moving("persistence_entropy", [-0.1] * 5), OPEN),
        (Runs().add(0, epochs=5), UNTESTED),  # one check has no course
    ],
    "density-minimal": [
        (moving("mean_distance", [0.05] * 6, **GONE), REPRODUCED),
        (moving("mean_distance", [0.25] * 6, **GONE), NOT),  # n / D falls to 0.8 of it
        (moving("mean_distance", [-0.05] * 6, **GONE), NOT),
        (moving("mean_distance", [0.05] * 6), NOT),
        (moving("mean_distance", [0.05] * 5, **GONE), OPEN),
    ],
    "h1-falls-faster-multi": [
        (by_regime(FAST, SLOW), REPRODUCED),
        (at_equal_steps(), PARTLY),
        (by_regime(SLOW, FAST), NOT),
        (by_regime(FAST[:2], SLOW), OPEN),  # p = 2/21 at least
        (by_regime(FAST, []), UNTESTED),
    ],
    **{
        claim: [
            (ordered(claim, np.arange(10) >= 5), REPRODUCED),
            (ordered(claim, WEAK), PARTLY),
            (ordered(claim, EVERY_OTHER, drift=100.0), READING),
            (ordered(claim, EVERY_OTHER), NOT),
            (ordered(claim, np.arange(10) < 5), NOT),
            (ordered(claim, np.array([0, 0, 1, 0, 1, 0, 1, 1]) == 1), OPEN),
            (ordered(claim, np.arange(5) > 2), OPEN),  # too few, however clear
            (ordered(claim, [True] * 10), OPEN),
        ]
        for claim in SIGNS
    },
    "h1-lifespan-accuracy": [
        (solved_or_not("h1_mean_lifespan", np.arange(300) // 2, [True, False] * 150), REPRODUCED),
        (solved_or_not("h1_mean_lifespan", np.arange(20), np.arange(20) > 9), NOT),
        (solved_or_not("h1_mean_lifespan", np.arange(20) // 2, [True, False] * 10), OPEN),
    ],
    "same-everywhere": [
        (removing(*[[0.85, 0.9, 0.95]] * 6), REPRODUCED),
        (removing(*[[0.9] * 3] * 5, [0.4] * 3), PARTLY),  # loops fall, but not alike
        (removing(*[[0.9] * 3] * 5, [0.4, 0.8, 0.9]), OPEN),
        (removing(*[[0.9] * 3] * 5, tasks=ALL_SIX[:5]), OPEN),
        (removing(*[[0.9] * 3] * 5, [-0.2]), NOT),
    ],
    "tsloss-fewer-iterations": [
        (paired([(60, 36)] * 6), REPRODUCED),
        (paired([(NEVER, 90)] * 6), REPRODUCED),  # a known sign, and any ratio below 0.9
        (paired([(60, 36)] * 6 + [(40, 40)] * 7), PARTLY),  # in fewer than half
        (paired([(60, 50)] * 6), PARTLY),  # sooner, but by less than printed
        (paired([(60, 60)] * 6), NOT),  # equivalent
        (paired([(90, NEVER), (NEVER, 90)] * 4), OPEN),
        (paired([(60, 50), (50, 60)] * 4), NOT),  # above the printed ratio, if not equivalent
        (paired([(40, 60)] * 6), NOT),
        (paired([(90, NEVER)] * 6), NOT),
        (paired([(60, 36)] * 5), OPEN),
        (paired([(60, 30), (30, 60)] * 4), OPEN),
        (paired([(NEVER, NEVER)] * 9), OPEN),
        (paired([(60, 36)] * 6, solved_at_start=True), UNTESTED),
    ],
    "tsloss-halves-iterations": [
        (paired([(80, 30)] * 6), REPRODUCED),
        (paired([(80, 30)] * 6 + [(NEVER, NEVER)] * 9), REPRODUCED),
        (paired([(80, 60)] * 8), NOT),
        (paired([(80, 30), (80, 70)] * 4), OPEN),
        (paired([(80, 30)] * 5), OPEN),
        # What only TSLoss solves may have taken any share of the iterations: no evidence against.
        (paired([(80, 60)] * 4 + [(NEVER, 90)] * 4), OPEN),
    ],
    "tsloss-as-effective": [
        (paired([(60, 90)] * 54), REPRODUCED),  # 1.96 √2 / 56 < 0.05
        (paired([(60, 90)] * 53), OPEN),
        (paired([(60, NEVER)] * 6 + [(60, 60)] * 4), NOT),
        (paired([(60, NEVER)] * 2 + [(60, 60)] * 52), OPEN),
    ],
    "tsloss-simpler-topology": [
        (ending(6, 40, 1), REPRODUCED),
        (moving("h1_count", []), UNTESTED),
        (ending(6, 1, 40), NOT),
        (ending(6, 4, 4), NOT),
        (ending(5, 40, 1), OPEN),
    ],
    "tsloss-lower-loss": [
        (costing([0.5] * 6), REPRODUCED),
        (costing([0.5] * 6 + [1.0] * 7), PARTLY),
        (costing([1.5] * 6), NOT),
        (costing([0.95, 1.05] * 4), NOT),  # alike
        (costing([0.7, 1.4] * 4), OPEN),
        (costing([0.5] * 5), OPEN),
    ],
    "lambda-monotone": [
        (weighted(*[FALLING] * 6), REPRODUCED),
        (weighted(*[FALLING] * 6, *[(NEVER,) * 4] * 9), REPRODUCED),
        (weighted(*[DIP] * 6), PARTLY),  # the trend falls, one of its three steps does not
        (weighted(*[(NEVER, NEVER, 80.0, 60.0)] * 6), PARTLY),  # from never to never is no fall
        (weighted(*[RISING] * 6), NOT),
        (weighted(*[DIP, RISING] * 4), NOT),  # neither, and the printed trend is excluded
        (weighted(*[FALLING, RISING] * 4), OPEN),
        (weighted(*[FALLING] * 5), OPEN),
        (weighted(*[(90.0, 40.0)] * 6, weights=(0.0, 1.0)), UNTESTED),
    ],
    "lambda-ten-fails": [
        (ten(*[(60.0, NEVER)] * 36), REPRODUCED),  # 0.025 ** (1 / 36) > 0.9
        (ten(*[(60.0, NEVER)] * 35), OPEN),
        (ten(*[(60.0, NEVER)] * 2, *[(60.0, 90.0)] * 11), NOT),
        (ten(*[(NEVER, NEVER)] * 6), UNTESTED),
    ],
    "all-weights-converge": [
        (losses_of(6, last=0.01), REPRODUCED),
        (losses_of(6, last=0.3), NOT),
        (losses_of(6, last=0.01, wave=0.05), NOT),  # 0.5 high at weight 10 alone
        (diverging(), NOT),
        (losses_of(5, last=0.01), OPEN),
        (losses_of(6, last=0.01, epochs=90), UNTESTED),
        (losses_of(6, last=0.01, weights=(0.0, 1.0)), UNTESTED),
    ],
    "lambda-ten-oscillates": [
        (losses_of(6, last=0.01, wave=0.05), REPRODUCED),
        (losses_of(6, last=0.01), NOT),
        (losses_of(5, last=0.01, wave=0.05), OPEN),
        (losses_of(6, last=0.01, weights=(0.0, 1.0)), UNTESTED),
    ],
    "variances-equal": [
        (varying([0.8, 0.9, 1.1] * 3), PARTLY),  # two pairs of points speak against it
        (varying([0.1, 0.2, 0.3] * 3), NOT),
        (varying([3.0] * 6), NOT),
        (varying([0.2, 1.0, 3.0] * 3), OPEN),
        (Runs().add(0), NOT),  # without trained prompts by those two pairs alone
    ],
    "small-models-gain-more": [
        (on_models(40.0, 60.0, 70.0), REPRODUCED),
        (on_models(70.0, 60.0, 40.0), NOT),
        (on_models(40.0, 60.0, 70.0, n=5), OPEN),
        (on_models(40.0, 60.0, names=BY_SIZE[:2]), UNTESTED),
    ],
    "qwen-fourfold": [
        (qwen(20.0), REPRODUCED),
        (qwen(22.0), NOT),
        (qwen(20.0, n=5), OPEN),
        (on_models(30.0, names=BY_SIZE[2:], without=NEVER), OPEN),
        (on_models(20.0, names=BY_SIZE[:1]), UNTESTED),
    ],
    "better-downstream": [
        (asked([BETTER] * 7), REPRODUCED),
        # Ahead of no regulariser in 9 of 20, behind in none.
        (asked([(13, 13, 11, 12)] * 11 + [BETTER] * 9), PARTLY),
        (asked([(10, 9, 11, 12)] * 8), NOT),
        (asked([MIXED] * 8), NOT),  # L2 is better still
        (asked([MIXED] * 6), OPEN),  # 1/32 against 0.05 / 3
        (asked([BETTER, (14, 13, 11, 12)] * 8), OPEN),
        (asked([BETTER] * 5), OPEN),
        (asked([BETTER] * 7, many=49), UNTESTED),
    ],
}


@pytest.mark.parametrize(
    ("claim", "runs", "verdict"),
    [(claim, runs, verdict) for claim, cases in CASES.items() for runs, verdict in cases],
)
def test_verdicts(claim, runs, verdict):
    protocol = runs.runs[0]["protocol"] if runs.runs else "tuned"
    found = runs.row(claim, protocol=protocol)
    assert found.verdict == verdict, found.why
    assert not found.low > found.effect or np.isnan(found.effect)
    assert not found.high < found.effect


def test_every_claim_can_be_confirmed_and_refuted():
    assert list(CASES) == [claim.id for claim in CLAIMS]
    given = {claim: {verdict for _, verdict in cases} for claim, cases in CASES.items()}
    assert given.pop("h0-count-constant") == {DEFINITION}
    for claim, verdicts in given.items():
        assert {NOT, OPEN} < verdicts, claim
        assert verdicts & {REPRODUCED, PARTLY}, claim


@pytest.mark.parametrize(
    ("claim", "runs", "effect", "printed"),
    [
        ("loops-vanish", moving("h1_count", [-5] * 6), 0.5, None),
        ("entropy-early", course(by=20), 1, None),
        ("entropy-early", course(by=100), 0.2, None),
        ("density-minimal", moving("mean_distance", [0.25] * 6, **GONE), 0.2, None),
        ("same-everywhere", removing(*[[0.9] * 3] * 5, [-0.2]), 1.1, None),
        ("tsloss-fewer-iterations", paired([(60, 36)] * 6), 0.6, 2 / 3),
        ("tsloss-halves-iterations", paired([(80, 30)] * 6), 0.375, 0.5),
        ("tsloss-as-effective", paired([(60, NEVER)] + [(60, 60)] * 9), -0.1, 0),
        ("tsloss-simpler-topology", ending(6, 40, 1, epochs=50), 5.5 - 25, None),
        ("tsloss-lower-loss", costing([0.75] * 6), 0.75, None),
        ("lambda-monotone", weighted(*[FALLING] * 6), -1, -1),
        ("lambda-monotone", weighted(*[(*FALLING[:3], NEVER)] * 6), 0, -1),
        ("lambda-ten-fails", ten(*[(60.0, NEVER)] * 2, *[(60.0, 90.0)] * 11), 2 / 13, 1),
        # Fifty rises, nine times higher; of the loss's first value.
        ("lambda-ten-oscillates", losses_of(6, last=1, wave=0.05), 50 * 0.05 * 9, None),
        ("variances-equal", varying([0.8, 0.9, 1.1] * 3), 0.9, 1),
        ("qwen-fourfold", qwen(20.0), 0.25, 0.25),
    ],
)
def test_effects_by_hand(claim, runs, effect, printed):
    row = runs.row(claim, protocol=runs.runs[0]["protocol"])
    assert row.effect == pytest.approx(effect)
    np.testing.assert_allclose(row.printed, np.nan if printed is None else printed)


@pytest.mark.parametrize(
    ("claim", "runs", "words"),
    [
        ("h0-count-constant", Runs().add(0).add(1, features={"h0_count": (1, 40)}), "1 of 2 runs"),
        ("entropy-falls", moving("persistence_entropy", [-1.5] * 8), "median fall 50.0%"),
        (
            "h0-lifespan-grows",
            moving("h0_mean_lifespan", [1.0] * 6, **WIDER),
            "longer in 6 of 6, median change +20.0% of the first value",
        ),
        ("h1-falls-faster-multi", at_equal_steps(), "50% at equal optimiser steps"),
        ("h0-lifespan-accuracy", ordered("h0-lifespan-accuracy", [True] * 10), "at no check"),
        ("h0-lifespan-accuracy", ordered("h0-lifespan-accuracy", np.arange(5) > 2), "too few"),
        (
            "tsloss-fewer-iterations",
            paired([(60, 36)] * 6 + [(NEVER, NEVER)] * 9),
            "9 units that neither solves and 0 that the untrained",
        ),
        ("lambda-monotone", weighted(*[DIP] * 6), "90 at 0, 50 at 0.1, 60 at 0.5, 40 at 1"),
        ("lambda-ten-fails", ten(*[(60.0, NEVER)] * 36), "unsolved; p = 0.0"),
        ("variances-equal", Runs().add(0), "variance of the deaths 18"),  # of 1, 1, 10: 2 x 81 / 9
        ("better-downstream", asked([BETTER] * 7), "tsloss 26.0%, ce 20.0%"),
        ("better-downstream", asked([BETTER] * 7), "no prompt 10.0%"),
    ],
)
def test_reasons_tell_the_numbers(claim, runs, words):
    assert words in runs.row(claim).why


# The phenomenon ------------------------------------------------------------------------------


def test_seeds_and_snapshots_are_not_units():
    """Three problems of five seeds are three units; the median of the seeds is their value."""
    runs = Runs()
    for problem in range(3):
        for seed, last in enumerate((0, 0, 0, 90, 90)):
            runs.add(problem, seed=seed, features={"h1_count": (10, last)})
    row = runs.row("h1-count-falls")
    assert (row.verdict, row.n, row.effect) == (OPEN, 3, -10)


def test_regimes_are_compared_within_tasks():
    """Sets of a task of few loops beside problems of a task of many say nothing of regimes."""
    runs = Runs()
    for problem in range(5):
        for task, last in (("gsm8k", 0.0), ("mmlu_cf", 9.0)):
            many = {"multi": 4, "single": 1} if task == "gsm8k" else {"multi": 1, "single": 4}
            for regime, k in many.items():
                for copy in range(k):
                    here = {"h1_count": (10, last + (problem * 7 + copy * 3) % 11 / 100)}
                    runs.add(10 * problem + copy, task=task, regime=regime, features=here)
    row = runs.row("h1-falls-faster-multi")
    assert row.verdict == OPEN
    assert 0.2 < row.effect < 0.8
    assert "(25 sets, 25 problems)" in row.why


def test_regimes_are_compared_where_both_are_over_the_same_checks():
    runs = by_regime(FAST, SLOW)
    for problem in range(5):
        runs.add(problem, task="math", features={"h1_count": (10, 0)})
    row = runs.row("h1-falls-faster-multi")
    assert (row.effect, row.n) == (1, 9)
    runs = Runs()
    for problem in range(5):
        runs.add(problem, regime="multi", epochs=50, features={"h1_count": (10, 0)})
        runs.add(problem, features={"h1_count": (10, 0)})
    row = runs.row("h1-falls-faster-multi")
    assert (row.verdict, row.effect) == (OPEN, 0.5)


def test_data_sets_that_are_alike_are_seldom_called_unlike():
    """Six samples of one distribution differ more than the distributions, which do not."""
    rng, lows = np.random.default_rng(0), []
    for _ in range(20):
        shares = rng.uniform(0, 1, (6, 8))
        row = removing(*shares).row("same-everywhere")
        lows.append(row.low)
        assert row.low <= row.effect <= row.high
    assert np.mean(np.array(lows) > 0) <= 0.1


# Topology and accuracy -----------------------------------------------------------------------


def test_a_difference_between_tasks_is_not_a_correlation():
    low, high = [1.0, 1.1] * 5, [9.0, 9.1] * 5
    right = [[0, 0, 0, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 1, 1, 1, 1, 1]]
    assert stats.spearmanr([*low, *high], [*right[0], *right[1]]).pvalue < 0.05
    runs = Runs()
    for task, values, solved in zip(ALL_SIX, (low, high), right, strict=False):
        for problem, (value, one) in enumerate(zip(values, solved, strict=True)):
            features = {"h0_mean_lifespan": (value, value)}
            runs.add(problem, task=task, solved=30.0 if one else NEVER, features=features)
    row = runs.row("h0-lifespan-accuracy")
    assert row.n == 20
    assert abs(row.effect) < 1e-9


def test_check_is_one_that_all_runs_have():
    runs = Runs()
    for problem in range(12):  # two thirds solved at 10, stopped at 60; of the rest half at 50
        solved, epochs = (10.0, 60) if problem < 8 else (50.0 if problem < 10 else NEVER, 100)
        runs.add(problem, solved=solved, epochs=epochs, features={"h1_count": (10, 10 + problem)})
    assert runs.row("h1-count-accuracy").n == 12


def test_problems_that_need_no_training_and_short_runs_do_not_correlate():
    runs = ordered("h1-count-accuracy", np.arange(10) >= 5)
    for problem in range(10, 14):
        runs.add(problem, solved_at_start=True)
    runs.add(14, epochs=20, features={"h1_count": (10, 10)})
    assert runs.row("h1-count-accuracy").n == 10


@pytest.mark.parametrize("sign", [1, -1])
def test_only_the_claimed_end_of_the_interval_counts(sign):
    """Of rho = 0.3 (-0.4 to 0.75) the printed 0.7 may be true, and -0.7 may not."""
    x, y = np.arange(12.0), sign * np.isin(np.arange(12), (1, 4, 6, 8, 9, 11))
    for printed, verdict in ((0.7 * sign, OPEN), (-0.7 * sign, NOT)):
        found = judge_rho(x, y, np.zeros(12), ALONE, printed=printed, pooled=(0.0, 0.0))
        assert found.verdict == verdict


@pytest.mark.parametrize("printed", [0.8, -0.8])
def test_numbers_that_return_over_snapshots_are_read_wrongly(printed):
    """At half the printed size, and of its sign, they return."""
    x, y, strata = np.arange(60.0), EVERY_OTHER, np.zeros(60)
    for share, verdict in ((1.0, READING), (0.5, READING), (0.49, NOT), (0.0, NOT), (-1.0, NOT)):
        found = judge_rho(x, y, strata, ALONE, printed=printed, pooled=(share * printed, 0.0))
        assert found.verdict == verdict


def test_what_unequal_groups_cannot_reach_is_not_held_against_them():
    """4 of 40 solved: no order gives more than 0.52, so the printed 0.866 is not the measure."""
    x, y, strata = np.arange(40.0), np.arange(40) >= 36, np.zeros(40)
    most = attainable_rho(x, y, strata, sign=1)
    assert most == pytest.approx(stats.spearmanr(x, y).statistic)
    assert most == pytest.approx(0.52, abs=0.01)
    told = judge_rho(x, y, strata, ALONE, printed=0.866, pooled=(0.0, 0.0))
    assert told.verdict == REPRODUCED
    assert "attainable with so many solved: 0.52" in told.why
    assert attainable_rho(x, y, np.repeat([0, 1], 20), sign=1) < 0.9


def test_shuffling_gives_the_exact_p_and_stays_within_strata():
    x, y = np.arange(8.0), np.arange(8) >= 4
    rho, p = stratified_rho(x, y, np.zeros(8))
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert p == pytest.approx(2 / 70, abs=0.005)  # of 70 splits, this one and its mirror
    y = np.array([0, 0, 0, 1, 0, 0, 0, 1])
    _, p = stratified_rho(x, y, np.repeat([0, 1], 4))
    assert p == pytest.approx(2 / 16, abs=0.015)  # this of 4 x 4 arrangements, and its mirror
    assert stratified_rho(np.r_[x[1:], np.nan], y, np.zeros(8))[1] == 1


# With and without TSLoss ---------------------------------------------------------------------


def test_only_runs_that_differ_in_tsloss_alone_are_paired():
    runs = Runs()
    for problem in range(6):
        runs.add(problem, solved=60.0)
        for other in ({"seed": 1}, {"lambda_ts": 10.0}, {"lr": 0.5}, {"content": f"x{problem}"}):
            runs.add(problem, solved=40.0, method="tsloss", **other)
    assert runs.verdict("tsloss-fewer-iterations") == UNTESTED


def test_the_best_of_many_cells_must_be_that_much_clearer():
    def with_best(sooner, later):
        runs = paired([(80, 30)] * sooner + [(80, 50)] * later)
        for task in ALL_SIX[1:3]:
            for problem in range(6):
                runs.pair(problem, 80.0, 78.0, task=task)
        return runs.row("tsloss-halves-iterations")

    assert with_best(5, 1).verdict == OPEN  # 7 / 64
    row = with_best(8, 1)
    assert (row.verdict, row.p) == (OPEN, pytest.approx(3 * 2 * 10 / 512))  # alone 0.04
    assert with_best(11, 1).verdict == REPRODUCED  # 3 x 2 x 13 / 4096


def test_oscillation_is_compared_over_equally_many_epochs():
    runs = losses_of(6, last=0.01)
    short = {run["id"] for run in runs.runs if run["lambda_ts"] == 1}
    for run in runs.runs:
        run["epochs"] = 20 if run["id"] in short else 100
    for row in runs.losses:
        row["total"] += 0.1 * (row["epoch"] % 2)
    runs.losses = [it for it in runs.losses if it["id"] not in short or it["epoch"] <= 20]
    row = runs.row("lambda-ten-oscillates")
    assert (row.verdict, row.effect) == (NOT, 0)


# Problems that no prompt was trained on ------------------------------------------------------


def test_a_problem_without_all_four_methods_does_not_count():
    methods = ("ce", "tsloss", "l2", "pairwise")
    runs = asked([BETTER] * 7)
    answers, l2 = runs.more["answers"], runs.runs[2]["id"]

    def shares(kept, fewest=50):
        runs.more["answers"] = kept
        return unseen_shares(runs.evidence(), methods=methods, fewest=fewest)

    assert len(shares(answers[answers.id != l2])) == 6  # L2 on the first problem was not asked
    fewer = answers.drop(answers.index[answers.id.eq(l2)][0])
    assert shares(fewer).empty  # 49 were put to all
    assert len(shares(fewer, fewest=49)) == 7
    runs.add(0, method="persistence", lambda_ts=1.0)  # a fifth that the others lack
    fifth = answers[answers.id == "no prompt"].assign(id=runs.runs[-1]["id"])
    assert len(shares(pd.concat([answers, fifth]))) == 7


# Enough runs ---------------------------------------------------------------------------------

UNTESTABLE = {"h0-count-constant", "same-everywhere", "variances-equal"}  # without a p
BY_INTERVAL = {"tsloss-as-effective", "lambda-ten-fails"}  # whatever p is
TESTS = Counter(claim.family for claim in CLAIMS if claim.id not in UNTESTABLE)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda it: it.id)
def test_the_profile_that_a_claim_names_can_decide_it(claim):
    """Where all units but one, which is lost, agree, the test passes Holm's first step."""
    if claim.id in UNTESTABLE | BY_INTERVAL:
        return
    specs = experiment_specs(claim.needs, claim.profile)
    plain = [it for it in specs if it.method == "ce" and not it.wrong_answers]
    units = {(it.model, it.task, it.regime, it.problem) for it in plain if it.seed == 0}
    cells = Counter((model, task, regime) for model, task, regime, _ in units)
    if claim.profile == "paper":
        units = {unit[1:] for unit in units}  # a problem on all models
        p = 2.0 ** (2 - len(units))
    elif claim.family == "table 2":
        strata = np.repeat(np.arange(len(cells)), list(cells.values()))
        x = np.concatenate([np.arange(many) for many in cells.values()])
        half = np.concatenate([np.arange(many) >= many // 2 for many in cells.values()])
        p = stratified_rho(x[1:], half[1:], strata[1:])[1]
    elif claim.id == "h1-falls-faster-multi":
        units = sorted(units)[1:]
        strata = np.unique([" ".join(unit[:2]) for unit in units], return_inverse=True)[1]
        sets = np.array([unit[2] == "multi" for unit in units])
        p = stratified_rho(-1.0 * sets, sets, strata)[1]
    elif claim.id == "tsloss-halves-iterations":
        single = [many for (_, _, regime), many in cells.items() if regime == "single"]
        p = len(single) * 2.0 ** (2 - min(single))
    else:
        p = 2.0 ** (2 - len(units))
    assert p < ALPHA / TESTS[claim.family]
    lengths = {it.epochs for it in plain if it.protocol == claim.protocol}
    assert max(lengths) >= claim.length


# Families ------------------------------------------------------------------------------------


def varied(n=20):
    """Problems whose loops fall by 1, 2, ... of 40 and whose entropy falls a little or not."""
    runs = Runs()
    for k in range(n):
        features = {"h1_count": (40, 39 - k), "persistence_entropy": (3.0, 3.0 - 0.01 * (k % 3))}
        runs.add(k, solved=20.0 + 3 * k, features=features)
    return runs


def test_holm_over_the_claims_takes_back_what_one_test_alone_would_give():
    """H1 falls in six of six problems, p = 1/32; the other tests of its family cost it that."""
    runs = moving("h1_count", [-5] * 6)
    table = runs.evaluated()
    falls = table.loc["h1-count-falls"]
    made = table[table.family == "phenomenon"].p.dropna()
    assert falls.p == pytest.approx(2 / 64)
    assert len(made) > 1
    assert falls.p_holm == pytest.approx(min(1, falls.p * len(made)))
    assert (falls.verdict, runs.verdict("h1-count-falls")) == (OPEN, REPRODUCED)
    strong = moving("h1_count", [-5] * 20).evaluated().loc["h1-count-falls"]
    assert (strong.verdict, strong.p_holm < 0.05) == (REPRODUCED, True)


def test_tests_of_one_family_change_nothing_in_another():
    before = varied().evaluated()
    runs = varied()
    for k in range(20):
        runs.add(k, solved=10.0 + 3 * k, method="tsloss", features={"h1_count": (10, 30)})
    after = runs.evaluated()
    assert before.p[before.family == "TSLoss"].isna().all()
    assert after.p[after.family == "TSLoss"].notna().sum() > 2
    told = before.family.isin(["phenomenon", "table 2"]) & (before.index != "h0-count-constant")
    pd.testing.assert_frame_equal(before[told], after[told])
    assert set(before.family) == set(FAMILIES)


def test_intervals_of_a_family_hold_together():
    """At 1 - ALPHA / m for the m tests that were made in it."""
    table = varied().evaluated()
    m = int(table.p[table.family == "phenomenon"].notna().sum())
    falls = table.loc["h1-count-falls"]
    changes = -1.0 - np.arange(20)
    assert (falls.low, falls.high) == median_interval(changes, ALPHA / m)
    assert (falls.low, falls.high) != median_interval(changes, ALPHA)
    assert falls.estimate == falls.effect == np.median(changes)
    verdict = CLAIM["h1-count-falls"].decide(varied().evidence(), Levels(0.01, 0.001))
    assert verdict.low == median_interval(changes, 0.001)[0]


# Which runs decide ---------------------------------------------------------------------------


def test_without_runs_nothing_is_tested():
    runs, topology, *_ = Runs().frames
    table = evaluate(runs, topology).set_index("id")
    assert table.index.tolist() == list(CLAIM)
    needing = table.drop(["h0-count-constant", "variances-equal"])
    assert set(needing.verdict) == {UNTESTED}
    assert "`tsp sweep table4 --profile full`" in table.why["lambda-ten-fails"]


def test_a_length_that_no_run_has_is_not_tested_but_shorter_runs_are_shown():
    gone = moving("h1_count", [-10] * 20)
    row = gone.evaluated().loc["loops-vanish"]
    assert (row.verdict, row.n, row.effect) == (UNTESTED, 20, 0)
    assert np.isnan([row.p, row.p_holm]).all()
    assert "`tsp sweep tuned-length --profile full`" in row.why
    assert "over 100 epochs: 20 of 20 units as claimed" in row.why
    own = gone.evaluated(whole=False).loc["loops-vanish"]  # a user's runs are as long as they are
    assert (own.verdict, own.n) == (REPRODUCED, 20)
    for run in gone.runs:
        run["epochs"] = 300
    assert gone.evaluated().loc["loops-vanish"].verdict == REPRODUCED


def test_published_verdicts_take_the_stated_length_and_read_no_further():
    runs = moving("h1_count", [-5] * 20)
    for problem in range(20, 40):
        runs.add(problem, epochs=90, features={"h1_count": (10, 90)})
        runs.add(problem, method="tsloss", features={"h1_count": (10, 90)})
    runs.topology += [
        it | {"epoch": 300, "h1_count": 90} for it in runs.topology if it["epoch"] == 100
    ]
    row = runs.evaluated().loc["h1-count-falls"]
    assert (row.n, row.effect) == (20, -5)


def test_the_protocol_chooses_the_runs():
    runs = Runs()
    for problem in range(20):
        runs.add(problem, protocol="paper", features={"h1_count": (10, 0)})
    found = [runs.evaluated(protocol=it).loc["h1-count-falls"] for it in (None, "paper")]
    assert [it.verdict for it in found] == [UNTESTED, REPRODUCED]
    assert [it.protocol for it in found] == ["tuned", "paper"]
    assert set(runs.evaluated().protocol) == {"tuned", "paper"}  # that each claim names


@pytest.mark.parametrize(("seeds", "difference"), [((0,), 5), ((0, 1), 5), ((0, 1, 2), 7)])
def test_pairs_are_read_over_an_odd_number_of_seeds(seeds, difference):
    """By seed, TSLoss ends with 5, 30 and 7 loops more: of two seeds the first counts alone."""
    runs = Runs()
    for problem in range(6):
        for seed in seeds:
            for method, end in (("ce", 0), ("tsloss", (5, 30, 7)[seed])):
                runs.add(problem, seed=seed, method=method, features={"h1_count": (10, end)})
    assert runs.row("tsloss-simpler-topology").effect == difference


def test_models_are_not_pooled_and_the_one_with_the_most_runs_decides():
    runs = moving("h1_count", [-5] * 8)
    for problem in range(7):
        runs.add(problem, model="gemma-3-270m", features={"h1_count": (10, 15)})
    row = runs.evaluated().loc["h1-count-falls"]
    assert (row.n, row.verdict) == (8, "reproduced")


def test_a_stratum_with_one_set_gives_no_interval():
    runs = moving("h1_count", [-5, -4, -3])
    for problem in range(6):
        runs.add(f"set{problem}", regime="multi", features={"h1_count": (10, 2 + problem / 9)})
    assert np.isfinite(runs.row("h1-falls-faster-multi").low)
    runs.add("alone", task="bbh", regime="multi", features={"h1_count": (10, 2)})
    runs.add("single", task="bbh", features={"h1_count": (10, 8)})
    assert np.isnan(runs.row("h1-falls-faster-multi").low)


def test_the_trend_with_the_weight_is_that_of_the_medians():
    runs = Runs()
    for problem, counts in enumerate([(80, 60, 40, 20)] * 4 + [(80, 60, 20, 40)] * 3):
        for weight, solved in zip((0.0, 0.1, 0.5, 1.0), counts, strict=True):
            method = "tsloss" if weight else "ce"
            runs.add(problem, solved=solved, method=method, lambda_ts=weight)
    row = runs.row("lambda-monotone")
    assert row.effect == -1  # medians 80 60 40 20, though three of seven units differ
    assert row.low == -1 < row.high
