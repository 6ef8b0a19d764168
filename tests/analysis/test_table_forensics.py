"""The printed numbers' relations, against scipy and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tsp.analysis import table_forensics as printed
from tsp.analysis.stats import rho_from_u


@given(st.integers(0, 2**32 - 1), st.integers(4, 40), st.integers(4, 40), st.booleans())
def test_p_values_are_scipys_and_ties_have_one_factor(seed, a, b, tied):
    """Random values in two groups: the closed formulas against the library."""
    n, rng = a + b, np.random.default_rng(seed)
    values = (rng.integers(0, 4, size=n) if tied else rng.permutation(n)).astype(float)
    counts = np.unique(values, return_counts=True)[1]
    if len(counts) == 1:
        return
    ties = 1 / np.sqrt(1 - (counts**3 - counts).sum() / (n**3 - n))
    u = stats.mannwhitneyu(values[:a], values[a:], method="asymptotic")
    rho = stats.spearmanr(values, np.repeat([0, 1], [a, b]))
    assert printed.u_p(u.statistic, (a, b), ties=ties) == pytest.approx(u.pvalue)
    assert rho.statistic == pytest.approx(rho_from_u(u.statistic, a, b) * ties)
    if abs(rho.statistic) < 1:
        assert printed.rho_p(rho.statistic, n) == pytest.approx(rho.pvalue)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (73, 73), (10, 136)])
def test_no_rho_with_two_groups_is_above_the_ceiling(sizes):
    ordered = stats.spearmanr(np.arange(sum(sizes)), np.repeat([0, 1], sizes)).statistic
    assert rho_from_u(0, *sizes) == pytest.approx(ordered)


def test_table_2_says_everything_twice():
    """Its p-values fit 146 snapshots in two halves, and each rho is its U."""
    table = printed.table2_again().set_index("feature")
    assert (table.n_low <= 146).all()
    fits = printed.implied_n(0.018, 0.826)  # rho from 0.0175 to 0.0185, p from 0.8255 to 0.8265
    assert (fits[0], fits[-1]) == (143, 161)
    assert (table.n_high >= 146).all()
    assert table.rho_of_u.drop("h1_count").round(3).equals(table.rho.drop("h1_count"))
    assert table.ties["h1_count"] == pytest.approx(1.065, abs=2e-3)
    assert (table.ties.drop("h1_count") == 1).all()
    assert table.u_p_73["h1_count"] > 2 * table.u_p["h1_count"]  # not without its ties
    assert table.u_p_ties.to_numpy() == pytest.approx(table.u_p.to_numpy(), rel=0.03)


def test_the_tables_of_iterations():
    both = printed.tables_3_and_4()
    assert both["table 3"].tolist() == both["table 4"].tolist() == [154, 88]
    table = printed.savings()
    assert len(table) == 18
    assert table.ratio.min() == 0.5
    assert table[table.model == "gemma-2b-it"].ratio.min() == pytest.approx(62 / 118)
    assert printed.evenness() == (36, 36, 31, pytest.approx(3.0**-31))


def test_values_of_the_constants():
    scaled = printed.scaled_embeddings()
    assert scaled["factor"] == pytest.approx(45.25, abs=0.01)
    assert scaled["init_std"] == pytest.approx(0.905, abs=1e-3)
    assert scaled["lr"] == pytest.approx(2.26e-3, abs=1e-5)
