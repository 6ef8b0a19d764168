"""The statistics against values by hand and scipy."""

import math
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tsp.analysis.stats import (
    block_rho,
    detectable_difference,
    detectable_rho,
    detectable_share,
    difference_power,
    feature_tests,
    holm,
    holm_levels,
    mann_whitney,
    median_interval,
    paired_difference,
    paired_ratio,
    ranks,
    rho_from_u,
    signed_rank,
    spearman,
)
from tsp.errors import InputError

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
NAN = math.nan


def test_spearman_by_hand():
    # Ranks differ by 0, 1, 1, 0, 0: rho = 1 - 6 * 2 / (5 * 24) = 0.9
    result = spearman([10, 30, 20, 40, 50], [1, 2, 3, 4, 5])
    t = 0.9 * math.sqrt(3 / (1 - 0.81))
    assert result == (pytest.approx(0.9), pytest.approx(2 * stats.t.sf(t, 3)), 5)


def test_mann_whitney_by_hand():
    # 4 beats 1 and 3, 2 beats 1, 6 beats all three; 5 ties nothing: U = 2 + 1 + 3 = 6 of 9.
    assert mann_whitney([4, 2, 6], [1, 3, 5]) == (6.0, pytest.approx(0.7), 6)
    assert mann_whitney([1, 1], [1, 2]).statistic == 1.0  # two ties are half each


@pytest.mark.parametrize(
    ("test", "x", "y"),
    [
        (spearman, [1, 1, 1], [1, 2, 3]),
        (spearman, [1, 2, 3], [2, 2, 2]),
        (spearman, [1, 2], [1, 2]),
        (spearman, [1, NAN, 3], [1, 2, 3]),
        (mann_whitney, [], [1.0]),
        (mann_whitney, [1.0], []),
        (mann_whitney, [1.0, NAN], [2.0]),
    ],
)
def test_statistics_that_do_not_exist_are_nan(test, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = test(x, y)
    assert np.isnan(result[:2]).all()
    assert result.n == (len(x) if test is spearman else len(x) + len(y))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: rho_from_u(0, 0, 3), "u, n1, n2 = "),
        (lambda: rho_from_u(0, 3, 0), "u, n1, n2 = "),
        (lambda: rho_from_u(-1, 2, 2), "u, n1, n2 = "),
        (lambda: rho_from_u(5, 2, 2), "u, n1, n2 = "),
        (lambda: rho_from_u(NAN, 2, 2), "u, n1, n2 = "),
        (lambda: spearman([1, 2, 3], [1, 2]), None),
        (lambda: row_of(snapshots(), "a", "a"), "group = 'a': .*true .right. and false .wrong."),
        (lambda: paired_ratio([0, 2], [1, 2], cap=9), "leave out pairs solved before training"),
        (lambda: paired_ratio([1, 2], [1, 12], cap=9), "at most cap"),
        (lambda: paired_ratio([1, 2], [1], cap=9), None),
        (lambda: paired_ratio([1, 2], [1, 2], cap=NAN), "at most cap"),
        (lambda: paired_ratio([1, 2], [1, 2], cap=np.inf), "at most cap"),
        (lambda: paired_ratio([1, 2], [1, 2], cap=[9] * 3), None),
        (lambda: paired_difference(-1, 0, 0, 5), "n = "),
        (lambda: paired_difference(3, 2, 1, 5), "n = "),
        (lambda: paired_difference(0, 0, 0, 0), "n = "),
    ],
)
def test_wrong_input_is_refused(wrong, message):
    with pytest.raises(InputError if message else ValueError, match=message):
        wrong()


# Table 2 -------------------------------------------------------------------------------------


def snapshots(**columns: list) -> pd.DataFrame:
    frame = {"right": [0, 0, 0, 1, 1, 1], "a": [1.0, 2, 3, 4, 5, 6]}
    return pd.DataFrame(frame | columns)


def row_of(frame, feature, group="right"):
    table = feature_tests(frame, features=[feature], accuracy="right", group=group)
    return table.iloc[0]


def test_feature_tests_by_hand():
    frame = snapshots(b=[2.0, 9, 4, 3, 1, 8], score=[0, 0.1, 0, 1, 0.9, 1])
    table = feature_tests(frame, features=["a", "b"], accuracy="score", group="right")
    correlations = [stats.spearmanr(frame[name], frame.score) for name in "ab"]
    expected = {
        "feature": ["a", "b"],
        "rho": [result.statistic for result in correlations],
        "rho_p": [result.pvalue for result in correlations],
        "n": [6, 6],
        "u": [0.0, 6.0],  # b: 2 beats 1; 9 all three; 4 beats 3, 1
        "u_p": [0.1, 0.7],
        "n_wrong": [3, 3],
        "n_right": [3, 3],
        "reason": ["", ""],
    }
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected))


def test_snapshots_with_gaps_are_left_out_of_their_row():
    frame = snapshots(b=[1.0, 2, 3, 4, 5, NAN])
    frame["right"] = pd.array([False, False, False, True, True, True], dtype="boolean")
    table = feature_tests(frame, features=["a", "b"], accuracy="right", group="right")
    assert table[["n", "n_right"]].to_numpy().tolist() == [[6, 3], [5, 2]]
    frame.loc[0, "right"] = pd.NA
    assert row_of(frame, "a")["n"] == 5


@pytest.mark.parametrize(
    ("right", "reason", "u_exists"),
    [
        ([1] * 6, "the accuracy is constant; no snapshot is wrong", False),
        ([0] * 6, "the accuracy is constant; no snapshot is right", False),
        ([NAN] * 4 + [0, 1], "fewer than three snapshots", True),
        ([NAN] * 6, "fewer than three snapshots", False),
    ],
)
def test_degenerate_groups_have_a_reason(right, reason, u_exists):
    row = row_of(snapshots(right=right), "a")
    assert np.isnan(row["rho"])
    assert np.isfinite(row["u"]) == u_exists
    assert row["reason"] == reason


# Pairs of runs -------------------------------------------------------------------------------


def test_paired_ratio_by_hand():
    # Ratios 1/2, 1/4, 1, 3 and, of runs never solved, 80/100 (a win), 100/50 (a loss), 1 (a tie).
    result = paired_ratio([20, 40, 7, 10, NAN, 50, NAN], [10, 10, 7, 30, 80, NAN, NAN], cap=100)
    assert result[:5] == (7, 3, 2, 2, 1)
    assert result.p == pytest.approx(1)  # 3 against 2 is as even as five can be
    assert (result.low, result.high) == (0, np.inf)  # those that only one side solves are bounds
    at_cap = paired_ratio([NAN, 5], [100, NAN], cap=[100, 9])  # solved at the cap is sooner
    assert at_cap[:5] == (2, 1, 0, 1, pytest.approx((1 + 9 / 5) / 2))
    none, one = paired_ratio([], [], cap=10), paired_ratio([4], [2], cap=10)
    assert (none.n, none.p) == (0, 1)
    assert np.isnan([none.median_ratio, none.low, none.high, one.low, one.high]).all()
    assert (one.median_ratio, one.p) == (0.5, 1)


@given(seed=seeds)
@PROPERTY
def test_exchanging_the_sides_exchanges_wins_and_losses(seed):
    rng = np.random.default_rng(seed)
    left, right = rng.integers(1, 101, size=(2, 9)).astype(float)
    left[rng.random(9) < 0.2] = NAN
    one, other = (paired_ratio(a, b, cap=100) for a, b in ((left, right), (right, left)))
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert one.p == other.p
    assert one.median_ratio == pytest.approx(1 / other.median_ratio)


def test_the_interval_of_a_ratio_is_that_of_its_median():
    result = paired_ratio([20] * 20, np.arange(1, 21), cap=20)
    assert (result.low, result.high) == (6 / 20, 15 / 20)  # the sixth from either end
    assert paired_ratio([20] * 20, np.arange(1, 21), cap=20, alpha=0.01).low == 4 / 20


def test_the_interval_of_a_ratio_holds_whatever_a_censored_run_would_have_needed():
    """Three of ten are bounds. At 5 % the ends are the second values from either end."""
    ce, ts = np.full(10, 10.0), np.arange(11.0, 21.0)
    one, two = ts.copy(), ts.copy()
    one[0], two[:2] = NAN, NAN
    assert paired_ratio(ce, one, cap=20)[5:7] == (1.3, 2.0)
    assert paired_ratio(ce, two, cap=20)[5:7] == (1.4, np.inf)
    assert paired_ratio(two, ce, cap=20)[5:7] == (0, 1 / 1.4)


def test_a_ratio_and_its_reciprocal_are_of_one_size():
    """Log ratios -a, -a, -a, -b and a: the one that rises has the mean of the ranks 2 to 5."""
    standard, treated = [60, 60, 60, 50, 40], [40, 40, 40, 48, 60]
    assert signed_rank(standard, treated, cap=100).statistic == 3.5


def test_a_difference_of_paired_shares_by_hand():
    """Of 10: 6 both, 3 gained, 1 lost. (4 - 2) / 12, and 0.5 - 1 / 36 over 12 under the root."""
    result = paired_difference(6, 3, 1, 10)
    assert result.estimate == pytest.approx(0.2)
    assert result.error == pytest.approx(math.sqrt((1 / 2 - 1 / 36) / 12))
    half = 1.959964 * result.error
    assert (result.low, result.high) == pytest.approx((1 / 6 - half, 1 / 6 + half))
    turned = paired_difference(6, 1, 3, 10)
    assert (turned.estimate, turned.low) == pytest.approx((-0.2, -result.high))
    assert paired_difference(0, 1, 0, 1).high == 1.0
    assert paired_difference(6, 3, 1, 10, alpha=0.01).low < result.low


@pytest.mark.parametrize(("gained", "lost"), [(0.05, 0.03), (0.2, 0.1), (0.0, 0.02)])
def test_the_interval_of_a_difference_of_paired_shares_covers_it(gained, lost):
    """In 95 % of samples or more; exactly, over all that 40 units can show."""
    n, covered = 40, 0.0
    for more in range(n + 1):
        for less in range(n + 1 - more):
            counts = [more, less, n - more - less]
            chance = stats.multinomial.pmf(counts, n, [gained, lost, 1 - gained - lost])
            result = paired_difference(0, more, less, n)
            covered += chance * (result.low <= gained - lost <= result.high)
    assert covered > 0.94


def test_signed_rank_by_hand():
    # log ratios -log 2, -log 4, +log 3: ranks 1, 3, 2; the positive ranks sum to 2. Of the eight
    # choices of signs, those with a smaller sum of 2 or less: sums 0, 1, 2 and 6, 5, 4: 6 of 8.
    assert signed_rank([20, 40, 10], [10, 10, 30], cap=100) == (2, pytest.approx(6 / 8), 3)
    # Both never solved: left out; one: its sign, with the size that the cap gives at least.
    # log(100/50) is as large as the first: ranks 2.5, 1, 2.5.
    result = signed_rank([20, NAN, NAN, 50], [10, 80, NAN, NAN], cap=100)
    assert (result.statistic, result.n) == (2.5, 3)
    assert signed_rank([100, 100], [NAN, NAN], cap=100)[1:] == (pytest.approx(0.5), 2)
    assert signed_rank([5, NAN], [5, NAN], cap=9)[1:] == (1.0, 0)


@given(seed=seeds)
@PROPERTY
def test_signed_rank_is_scipys_where_nothing_is_censored(seed):
    left, right = np.random.default_rng(seed).integers(1, 10**6, size=(2, 11)).astype(float)
    wanted = stats.wilcoxon(np.log(right / left), method="exact")
    result = signed_rank(left, right, cap=10**6)
    assert result[:2] == (wanted.statistic, pytest.approx(wanted.pvalue))


@given(seed=seeds)
@PROPERTY
def test_signed_rank_with_ties_counts_all_choices_of_signs(seed):
    generator = np.random.default_rng(seed)
    change = generator.integers(1, 4, size=9) * generator.choice([-1, 1], size=9)
    ranks = stats.rankdata(np.abs(change))
    sums = np.array(list(product([0, 1], repeat=9))) @ ranks
    low, high = (
        np.mean(side) for side in (sums <= ranks[change > 0].sum(), sums >= ranks[change > 0].sum())
    )
    result = signed_rank(np.ones(9), 2.0**change, cap=100)
    assert result.p == pytest.approx(min(1.0, 2 * min(low, high)))
    shuffled = generator.permutation(change)
    assert signed_rank(np.ones(9), 2.0**shuffled, cap=100) == result


# Families of tests ---------------------------------------------------------------------------


def test_median_interval_is_that_of_the_sign_test():
    assert median_interval([3, 1, 2, 5, 4, 6]) == (1, 6)
    assert np.isnan(median_interval([1, 2, 3, 4, 5])).all()
    # The sixth from either end: P(B(20, 1/2) < 6) = 0.0207.
    assert median_interval(np.arange(20)) == (5, 14)


@given(st.lists(st.floats(0, 1) | st.just(NAN), max_size=8))
def test_holm_rejects_what_the_procedure_rejects(p):
    """Step down by the definition: compare the k-th smallest of m with alpha / (m - k)."""
    adjusted, levels, alpha = holm(p), holm_levels(p), 0.05
    made = sorted((i for i, value in enumerate(p) if value == value), key=lambda i: p[i])
    rejected = set()
    for k, i in enumerate(made):
        assert levels[i] == pytest.approx(alpha / (len(made) - k))
        if p[i] >= alpha / (len(made) - k):
            assert np.allclose(levels[made[k:]], levels[i])
            break
        rejected.add(i)
    assert {i for i, value in enumerate(p) if value < levels[i]} == rejected
    assert {i for i in made if adjusted[i] < alpha - 1e-12} <= rejected
    assert {i for i in made if adjusted[i] < alpha + 1e-12} >= rejected
    assert np.isnan(adjusted).tolist() == np.isnan(levels).tolist() == np.isnan(p).tolist()


# Whole blocks --------------------------------------------------------------------------------


def trained(rng, *, tied, runs=10, checks=20):
    """Runs that start wrong and end right at an epoch of their own; the feature follows the clock,
    and, where tied, that epoch."""
    frames = []
    for run in range(runs):
        solved = rng.integers(4, checks - 4)
        time = np.arange(checks)
        feature = time - (solved if tied else 0) + rng.normal(scale=0.5, size=checks)
        frames.append(pd.DataFrame({"run": run, "x": feature, "y": (time >= solved) * 1.0}))
    return pd.concat(frames)


@pytest.mark.parametrize("tied", [True, False])
def test_exchanged_runs_keep_the_clock_and_lose_the_tie(tied):
    rows = trained(np.random.default_rng(0), tied=tied)
    test = block_rho(rows.x, rows.y, blocks=rows.run, strata=np.zeros(len(rows)))
    assert test.rho == pytest.approx(spearman(rows.x, rows.y).statistic)
    assert test.blocks == 10
    assert test.low > 0.3  # the clock alone correlates
    assert (test.p < 0.01) == tied
    assert (test.low < test.rho < test.high) != tied
    assert test.low < test.mean < test.high
    assert abs(test.mean - test.rho) < 0.1 or tied


def test_seeds_of_a_problem_are_one_block(monkeypatch):
    """Problems differ in difficulty and in the start's loops, by chance; seeds repeat a problem.

    Exchanging runs would take five seeds for five problems and find what is not there.
    """
    monkeypatch.setattr(ranks, "EXCHANGES", 199)
    rng, time, p = np.random.default_rng(2), np.arange(10), []
    run = np.repeat(np.arange(30), 10)
    for _ in range(120):
        level, solved = rng.normal(scale=3, size=6), rng.integers(2, 8, size=6)
        level, solved = (np.repeat(values, 5)[:, None] for values in (level, solved))
        x = (time + level + rng.normal(scale=0.3, size=(30, 10))).ravel()
        y = (time >= solved).ravel()
        strata = np.zeros(300)
        tests = [block_rho(x, y, blocks=blocks, strata=strata) for blocks in (run // 5, run)]
        p.append([test.p for test in tests])
    by_problem, by_run = (np.array(p) < 0.1).mean(axis=0)
    assert 0.02 < by_problem < 0.2
    assert by_run > 0.3


def test_only_runs_of_a_stratum_and_length_are_exchanged():
    rows = trained(np.random.default_rng(0), tied=True, runs=3)
    alone = block_rho(rows.x, rows.y, blocks=rows.run, strata=rows.run)
    assert alone.blocks == 0
    assert np.isnan(alone.p)
    short = rows[(rows.run > 0) | (rows.index < 15)]
    assert block_rho(short.x, short.y, blocks=short.run, strata=np.zeros(len(short))).blocks == 2
    constant = np.ones(len(rows))
    assert np.isnan(block_rho(constant, rows.y, blocks=rows.run, strata=0 * rows.run).rho)


# Power ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [9, 12, 30])
def test_detectable_share_has_the_power_it_promises(n):
    share = detectable_share(n)
    wins = np.arange(n + 1)
    rejected = [stats.binomtest(int(k), n).pvalue <= 0.05 and k > n / 2 for k in wins]
    assert 0.8 <= stats.binom.pmf(wins, n, share)[rejected].sum() < 0.82
    assert share < detectable_share(n, alpha=0.01)


@pytest.mark.parametrize("test", ["fisher", "z"])
def test_two_shares_are_told_apart_with_the_power_promised(test):
    """Against scipy's own tests, table by table; two shares of 12 are few enough to enumerate."""
    n, share = 12, 0.1

    def rejects(a, b):
        if test == "fisher":
            return stats.fisher_exact([[a, n - a], [b, n - b]]).pvalue < 0.05
        p, q = a / n, b / n
        error = math.sqrt((p * (1 - p) + q * (1 - q)) / n)
        return a != b and (error == 0 or 2 * stats.norm.sf(abs(p - q) / error) < 0.05)

    table = np.array([[rejects(a, b) for b in range(n + 1)] for a in range(n + 1)])

    def power(other):
        counts = np.arange(n + 1)
        return stats.binom.pmf(counts, n, share) @ table @ stats.binom.pmf(counts, n, other)

    powers = difference_power(share, [0.1, 0.5, 0.9], n, test=test)
    assert powers == pytest.approx([power(other) for other in (0.1, 0.5, 0.9)])
    gain = detectable_difference(share, n, test=test)
    assert power(share + gain) >= 0.8 > power(share + gain - 0.001)


@pytest.mark.parametrize("n", [12, 60])
def test_detectable_rho_has_the_power_it_promises(n):
    """By simulation from a normal pair, whose Spearman rho is 6/pi asin(r/2)."""
    r = 2 * np.sin(np.pi * detectable_rho(n) / 6)
    x, noise = np.random.default_rng(0).normal(size=(2, 2000, n))
    y = r * x + np.sqrt(1 - r**2) * noise
    p = [stats.spearmanr(a, b).pvalue for a, b in zip(x, y, strict=True)]
    assert 0.74 < np.mean(np.array(p) < 0.05) < 0.86
    assert np.isnan(detectable_rho(3))
