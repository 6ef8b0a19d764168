"""Persistent homology against diagrams worked out by hand, other libraries, and theorems."""

import itertools
import warnings

import gudhi
import numpy as np
import pandas as pd
import pytest
import ripser
import torch
from gtda.homology import VietorisRipsPersistence
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from tsp.errors import InputError
from tsp.topology import diagrams as module
from tsp.topology.diagrams import (
    SUMMARY_COLUMNS,
    analyse,
    betti_curve,
    lifespans,
    normalized_entropy,
    persistence,
    persistence_entropy,
    summarize,
)
from tsp.topology.rips import RESOLUTION, _float_ranks, _positions

PROPERTY = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
clouds = {"seed": seeds, "n": st.integers(2, 24), "d": st.sampled_from([1, 2, 3, 16])}
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


def cloud(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def polygon(n: int) -> np.ndarray:
    angle = 2 * np.pi * np.arange(n) / n
    return np.column_stack([np.cos(angle), np.sin(angle)])


def by_birth(diagram: np.ndarray) -> np.ndarray:
    """Return the bars longer than zero, sorted by birth, then death."""
    diagram = np.asarray(diagram, dtype=float).reshape(-1, 2)
    diagram = diagram[diagram[:, 1] > diagram[:, 0]]
    return diagram[np.lexsort((diagram[:, 1], diagram[:, 0]))]


def gudhi_diagrams(X: np.ndarray) -> list[np.ndarray]:
    tree = gudhi.RipsComplex(distance_matrix=squareform(pdist(X))).create_simplex_tree(2)
    tree.compute_persistence(homology_coeff_field=2)
    return [tree.persistence_intervals_in_dimension(k) for k in (0, 1)]


def ripser_diagrams(X: np.ndarray) -> list[np.ndarray]:
    return ripser.ripser(squareform(pdist(X)), distance_matrix=True, maxdim=1)["dgms"]


def giotto_diagrams(X: np.ndarray) -> list[np.ndarray]:
    rips = VietorisRipsPersistence(metric="precomputed", reduced_homology=False)
    bars = rips.fit_transform([squareform(pdist(X))])[0]
    return [bars[bars[:, 2] == k, :2] for k in (0, 1)]


@pytest.mark.parametrize(
    ("points", "deaths", "loops"),
    [
        (TRIANGLE, [1, 1], []),
        (SQUARE, [1, 1, 1], [[1, np.sqrt(2)]]),
        ([[0, 0], [0.1, 0], [10, 0], [10.1, 0]], [0.1, 0.1, 9.9], []),
        # close, not coincident: expanding the square of a difference would lose 1e-9 here
        ([[1000, 0], [1000 + 2**-30, 0], [1000, 5]], [2**-30, 5], []),
        (np.ones((5, 3)), [], []),
        ([[1.0, 2.0]], [], []),
    ],
    ids=["triangle", "square", "two pairs", "close", "coincident", "one"],
)
def test_diagrams_by_hand(points, deaths, loops):
    diagrams = persistence(points)
    assert diagrams[0] == pytest.approx(np.array([[0, t] for t in [*deaths, np.inf]]), rel=1e-13)
    assert diagrams[1] == pytest.approx(np.array(loops).reshape(-1, 2), rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [4, 5, 6, 7, 8, 9, 10, 12, 13, 20])
def test_polygon_on_a_circle(n, dtype):
    # Edges up to k steps along the circle keep one loop as long as k < n/3; with k = ceil(n/3)
    # three chords reach around the circle and their triangles fill it.
    side, filled = 2 * np.sin(np.pi / n), 2 * np.sin(np.pi * -(-n // 3) / n)
    diagrams = persistence(polygon(n).astype(dtype))  # rounding makes no bars
    assert diagrams[0][:-1] == pytest.approx(np.array([[0, side]] * (n - 1)))
    assert diagrams[1] == pytest.approx(np.array([[side, filled]]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_a_triangular_lattice_has_no_loop(seed, dtype):
    # Every triangle is filled as soon as its sides are present. Turned and rounded, these differ
    # in the last digit, which must not become a bar.
    rows, columns = np.mgrid[:4, :4].reshape(2, -1)
    lattice = np.column_stack([rows + columns / 2, columns * np.sqrt(3) / 2])
    angle, side = np.random.default_rng(seed).uniform([0, 0.5], [6, 3])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert len(persistence((side * lattice @ turn).astype(dtype))[1]) == 0


@pytest.mark.parametrize("library", [ripser_diagrams, giotto_diagrams])  # gudhi: see below
@given(**clouds)
@PROPERTY
def test_agrees_with_other_libraries(library, seed, n, d):
    X = cloud(n, d, seed=seed)
    ours, theirs = persistence(X), [by_birth(bars) for bars in library(X)]
    for k in (0, 1):
        assert ours[k].shape == theirs[k].shape
        assert ours[k] == pytest.approx(theirs[k], rel=1e-6)


@pytest.mark.parametrize(
    "place",
    [
        lambda X: X,
        lambda X: X.round(),  # ties, and coincident points
        lambda X: X.round() + 1e-9 * X,  # ties but for less than float32 tells apart
        lambda X: X[np.arange(len(X)) // 2] + 1e-12 * X,  # pairs of points nearly coincident
        lambda X: X + 1e9,
        lambda X: X * 1e145,
        lambda X: X * 1e-145,
    ],
    ids=["drawn", "tied", "nearly tied", "nearly coincident", "far", "huge", "tiny"],
)
@given(**clouds)
@PROPERTY
def test_pairs_exactly_as_gudhi_does(place, seed, n, d):
    # From the same float64 distances: a pairing decided in float32 differs in the last digits.
    X = place(cloud(n, d, seed=seed))
    ours, theirs = persistence(X), [by_birth(bars) for bars in gudhi_diagrams(X)]
    assert np.array_equal(ours[0], theirs[0])
    lasting = theirs[1][:, 1] - theirs[1][:, 0] > RESOLUTION * theirs[1][:, 1]
    assert np.array_equal(ours[1], theirs[1][lasting])


def test_ranks_beyond_the_integers_of_float32():
    count = 2**24 + 3  # the edges of 5794 points
    ranks = _float_ranks(count)
    assert (ranks[1:] > ranks[:-1]).all()
    assert np.array_equal(_positions(ranks), np.arange(count))


def test_random_planar_clouds_do_have_loops():
    # Otherwise the comparisons with other libraries might compare empty diagrams.
    assert all(len(persistence(cloud(24, 2, seed=seed))[1]) > 0 for seed in range(10))


@given(seed=seeds, size=st.floats(0, 0.5))
@PROPERTY
def test_stability(seed, size):
    # Points that move by at most e change distances, hence the diagrams, by at most 2e.
    X = cloud(14, 2, seed=seed)
    move = cloud(14, 2, seed=seed + 1)
    move *= size / np.linalg.norm(move, axis=1, keepdims=True)
    before, after = persistence(X), persistence(X + move)
    for k in (0, 1):
        assert gudhi.bottleneck_distance(before[k], after[k]) <= 2 * size + 1e-9


@given(seed=seeds)
@PROPERTY
def test_invariant_to_isometry_and_order(seed):
    X = cloud(15, 3, seed=seed)
    rotation = np.linalg.qr(cloud(3, 3, seed=seed + 1))[0]
    order = np.random.default_rng(seed).permutation(15)
    before, after = persistence(X), persistence((X @ rotation + 5.0)[order])
    for k in (0, 1):
        assert after[k] == pytest.approx(before[k], rel=1e-9)


@pytest.mark.parametrize("factor", [1e-60, 1e-3, 7.5, 1e9, 1e60])
def test_growth_scales_lifespans_and_leaves_the_rest(factor):
    before, after = (summarize(cloud(30, 2) * s).iloc[0] for s in (1.0, factor))
    assert before["h1_count"] > 0
    for name in SUMMARY_COLUMNS:
        grows = name.endswith("_lifespan") or name == "mean_distance"
        assert after[name] == pytest.approx(before[name] * (factor if grows else 1)), name


def test_coincident_points_count_once():
    twice = persistence(np.concatenate([SQUARE, SQUARE[:2], SQUARE[:1]]))
    for k in (0, 1):
        assert np.array_equal(twice[k], persistence(SQUARE)[k])
    for points in (np.ones((5, 3)), [[1.0, 2.0]]):
        row = summarize(points).iloc[0]
        assert row["h0_count"] == 1
        assert (row.drop("h0_count") == 0).all()


def test_batch_equals_one_by_one():
    batch = cloud(4, 20, 2)
    batch[1] = batch[1, :1]  # few bars beside many: nothing is padded
    diagrams, table = persistence(batch), summarize(batch)
    assert len(diagrams) == len(table) == 4
    for i, single in enumerate(batch):
        for k in (0, 1):
            assert np.array_equal(diagrams[i][k], persistence(single)[k])
        pd.testing.assert_series_equal(table.iloc[i], summarize(single).iloc[0], check_names=False)


def test_a_square_input_is_a_cloud_and_does_not_warn():
    distances = squareform(pdist(cloud(6, 2)))  # symmetric with a zero diagonal, yet six points
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagrams = persistence(distances)
    assert np.array_equal(diagrams[0], by_birth(gudhi_diagrams(distances)[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors(dtype):
    X = torch.as_tensor(cloud(12, 4)).to(dtype).requires_grad_()
    expected = persistence(X.detach().double().numpy())
    assert all(np.array_equal(persistence(X)[k], expected[k]) for k in (0, 1))
    assert expected[0].dtype == np.float64


def test_summary_of_the_square_by_hand():
    # Lifespans 1, 1, 1 and r = sqrt(2) - 1, sum S = 3.414; distances 1 four times, sqrt(2) twice.
    r = np.sqrt(2) - 1
    total = 3 + r
    entropy = -3 * (1 / total) * np.log(1 / total) - (r / total) * np.log(r / total)
    distance = (4 + 2 * np.sqrt(2)) / 6
    table = summarize(SQUARE)
    assert tuple(table.columns) == SUMMARY_COLUMNS
    expected = [4, 1, 1, r, 1, r, entropy, entropy / np.log(4), distance, 1 / distance]
    assert table.iloc[0].tolist() == pytest.approx([*expected, r / distance])
    assert table["h0_count"].dtype == table["h1_count"].dtype == np.int64


def test_means_and_maxima_of_unequal_bars_by_hand():
    row = summarize([[0.0], [1.0], [3.0], [8.0]]).iloc[0]  # H0 deaths 1, 2, 5
    names = ["h0_mean_lifespan", "h0_max_lifespan", "mean_distance"]
    assert row[names].tolist() == pytest.approx([8 / 3, 5, (1 + 3 + 8 + 2 + 7 + 5) / 6])
    assert row["h1_count"] == row["h1_mean_lifespan"] == row["h1_max_lifespan"] == 0


def test_given_diagrams_are_not_computed_again():
    single = {0: np.array([[0, 2.0], [0, np.inf]]), 1: np.array([[3.0, 4.0]])}
    row = summarize(SQUARE, diagrams=single).iloc[0]
    assert (row["h0_mean_lifespan"], row["h1_mean_lifespan"]) == (2, 1)
    batch = np.stack([SQUARE, 2 * SQUARE])
    pd.testing.assert_frame_equal(summarize(batch, diagrams=persistence(batch)), summarize(batch))
    with pytest.raises(InputError, match="diagrams = 1: give one dict for each of the 2 clouds"):
        summarize(batch, diagrams=[single])


def test_analysis_of_a_run_by_hand():
    run = {20: torch.tensor(2 * SQUARE), 0: SQUARE, 5: SQUARE}
    ((topology, bars),) = analyse([run], show=[[20, 0]])
    clouds = np.stack([SQUARE, SQUARE, 2 * SQUARE])
    assert topology["epoch"].tolist() == [0, 5, 20]
    pd.testing.assert_frame_equal(topology.drop(columns="epoch"), summarize(clouds))
    h0, loop = [[0.0, 0.0, 1.0]] * 3 + [[0.0, 0.0, np.inf]], [1, 1, np.sqrt(2)]
    square = pd.DataFrame([*h0, loop], columns=["dimension", "birth", "death"])
    square = square.astype({"dimension": np.int64})
    expected = pd.concat([square * [1, 2, 2], square], ignore_index=True)
    expected.insert(0, "epoch", [20] * 5 + [0] * 5)
    pd.testing.assert_frame_equal(bars, expected)


def test_runs_of_several_sizes_are_analysed_as_one_by_one(monkeypatch):
    sizes = [(7, 3), (5, 3), (7, 3), (7, 2)]
    runs = [{epoch: cloud(*size, seed=epoch) for epoch in (10, 0, 20)} for size in sizes]
    show = [[0, 20], [10], [20, 10, 0], [0]]
    batches, diagrams = [], module._diagrams
    monkeypatch.setattr(module, "_diagrams", lambda X: batches.append(len(X)) or diagrams(X))
    results = analyse(runs, show=show)
    assert sorted(batches) == [3, 3, 6]  # one call a size
    for run, shown, tables in zip(runs, show, results, strict=True):
        for table, alone in zip(tables, analyse([run], show=[shown])[0], strict=True):
            pd.testing.assert_frame_equal(table, alone)


def test_lifespans_and_entropy_by_hand():
    assert lifespans(np.array([[0, 1.0], [2.0, 5.0], [0, np.inf]])).tolist() == [1, 3]
    for bars in ([], [3.0], [0.0, 0.0], [0.0, 3.0]):
        assert persistence_entropy(np.array(bars)) == normalized_entropy(np.array(bars)) == 0
    assert persistence_entropy(np.full(7, 0.3)) == pytest.approx(np.log(7))
    assert normalized_entropy(np.full(7, 0.3)) == pytest.approx(1)
    assert persistence_entropy(np.array([1.0, 3.0])) == pytest.approx(0.562335145)
    assert normalized_entropy(np.array([1.0, 3.0])) == pytest.approx(0.811278124)  # in bits


def test_bars_of_length_zero_add_nothing_to_an_entropy():
    """Diagrams of other libraries may have them; ours do not."""
    bars = {0: np.array([[0.0, 2.0], [1.0, 1.0]]), 1: np.array([[3.0, 3.0]])}
    row = summarize(SQUARE, diagrams=bars).iloc[0]
    assert row["persistence_entropy"] == row["normalized_entropy"] == 0
    for entropy in (persistence_entropy, normalized_entropy):
        assert entropy(np.array([1.0, 0.0, 3.0])) == entropy(np.array([1.0, 3.0]))


@given(seed=seeds)
@PROPERTY
def test_betti_curve_against_linear_algebra(seed):
    # Equations 10 and 11: dimensions of kernels over images, from ranks over Z/2.
    X = cloud(9, 2, seed=seed)
    D, diagrams = squareform(pdist(X)), persistence(X)
    scale = diagrams[1].mean() if len(diagrams[1]) == 1 else 1.2  # where the one loop is alive
    edges = [e for e in itertools.combinations(range(9), 2) if D[e] <= scale]
    filled = [t for t in itertools.combinations(range(9), 3)
              if all(e in edges for e in itertools.combinations(t, 2))]  # fmt: skip
    rank_1 = rank_mod_2([[v in e for v in range(9)] for e in edges])
    rank_2 = rank_mod_2([[set(e) <= set(t) for e in edges] for t in filled])
    assert betti_curve(diagrams[0], [scale]) == 9 - rank_1
    assert betti_curve(diagrams[1], [scale]) == len(edges) - rank_1 - rank_2


def rank_mod_2(rows):
    """Rank of a matrix over Z/2, by elimination."""
    numbers = [sum(bit << k for k, bit in enumerate(row)) for row in rows]
    rank = 0
    while numbers:
        pivot = numbers.pop()
        if pivot:
            rank += 1
            low = pivot & -pivot
            numbers = [x ^ pivot if x & low else x for x in numbers]
    return rank


@pytest.mark.parametrize("function", [persistence, summarize])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[0.0]] * 3 + [[np.nan]], "X = nan: give finite .* in row 3$"),
        ([[[0.0]], [[np.inf]]], "X = inf: give finite .* in row 0 of cloud 1$"),
        ([[0.0, -np.inf]], "X = -inf: give finite"),
        ([[0.0, -1e200]], r"X = -1e\+200: .* at most 1e\+150"),
        ([0.0, 1.0], r"\(n, d\) or \(B, n, d\)"),
        (np.zeros((1, 1, 2, 2)), r"\(n, d\) or \(B, n, d\)"),
        (np.zeros((0, 3)), "at least one point"),
        (np.zeros((3, 0)), "one dimension"),
        (np.zeros((0, 3, 2)), "at least one point"),
        ([[1.0], [1.0, 2.0]], "real numbers"),
        ([["a", "b"]], "real numbers"),
    ],
)
def test_wrong_input_is_refused(function, wrong, message):
    with pytest.raises(InputError, match=message):
        function(wrong)
