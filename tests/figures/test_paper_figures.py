"""Figures draw what is in the store: curves, bars and points are compared with its tables."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PatchCollection, PathCollection
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure

from tests.handmade import pair, stored
from tsp.errors import InputError
from tsp.figures.paper_figures import METHOD_NAMES, figure2, figure3, figure5
from tsp.figures.style import (
    DIMENSION_COLORS,
    METHOD_COLORS,
    draw_barcode,
    draw_complex,
    draw_diagram,
)
from tsp.topology.diagrams import persistence
from tsp.training.spec import METHODS

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
TEN = {"regime": "multi", "contents": tuple("abcdefghij"), "task": "mmlu_cf"}


@pytest.fixture
def ax():
    return Figure().subplots()


def segments(ax):
    """Return colour and ends of every horizontal bar."""
    return [
        (lines.get_color()[0], segment)
        for lines in ax.collections
        if isinstance(lines, LineCollection)
        for segment in lines.get_segments()
    ]


def scattered(ax):
    return [artist.get_offsets() for artist in ax.collections if isinstance(artist, PathCollection)]


def heights(ax, color, style):
    """Return the heights of the lines of one look, the thick one last."""
    lines = [
        line
        for line in ax.lines
        if same_color(line.get_color(), color) and line.get_linestyle() == style
    ]
    return [line.get_ydata() for line in sorted(lines, key=lambda line: line.get_linewidth())]


def panel(fig, title):
    [ax] = [ax for ax in fig.axes if title in ax.get_title()]
    return ax


def texts(fig):
    """Return every piece of text that a reader sees."""
    fig.draw_without_rendering()
    return [text for text in fig.findobj(plt.Text) if text.get_visible() and text.get_text()]


@pytest.mark.parametrize(("scale", "edges", "faces"), [(0.9, 0, 0), (1, 4, 0), (1.5, 6, 4)])
def test_complex_joins_what_is_near(ax, scale, edges, faces):
    draw_complex(SQUARE, scale, ax=ax)
    discs, triangles = (each for each in ax.collections if isinstance(each, PatchCollection))
    assert len(segments(ax)) == edges
    assert len(triangles.get_paths()) == faces
    assert len(discs.get_paths()) == 4
    left, right = discs.get_paths()[0].get_extents().intervalx
    assert right - left == pytest.approx(scale)
    assert scattered(ax)[0].tolist() == SQUARE.tolist()
    with pytest.raises(InputError, match=r"points = '\(4, 3\)'.*\(n, 2\)"):
        draw_complex(np.zeros((4, 3)), 1.0, ax=ax)


def test_barcode_has_a_bar_from_each_birth_to_its_death(ax):
    draw_barcode(persistence(SQUARE), ax, limit=2)
    bars = segments(ax)
    assert [tuple(bar[:, 0]) for _, bar in bars[:4]] == [(0, 1), (0, 1), (0, 1), (0, 2)]
    assert bars[4][1][:, 0] == pytest.approx([1, np.sqrt(2)])
    assert [bar[0, 1] for _, bar in bars] == [0, 1, 2, 3, 4]  # one above the other
    for k, (color, _) in enumerate(bars):
        assert same_color(color[:3], to_rgb(DIMENSION_COLORS[int(k == 4)]))
    [arrow] = ax.lines
    assert (arrow.get_xdata()[0], arrow.get_ydata()[0]) == (2, 3)  # the essential class
    lone = Figure().subplots()
    draw_barcode(persistence([[0.0, 0.0]]), lone)
    assert [bar[:, 0].tolist() for _, bar in segments(lone)] == [[0, 1]]


def test_diagram_has_a_point_for_each_bar(ax):
    draw_diagram(persistence(SQUARE), ax, limit=2)
    h0, h1 = scattered(ax)
    assert h0.tolist() == [[0, 1], [0, 1], [0, 1], [0, 2]]
    assert h1[0].tolist() == pytest.approx([1, np.sqrt(2)])
    assert ax.get_xlim() == ax.get_ylim() == (0, 2)


@pytest.fixture
def two(store):
    single = stored(store, solved=4, n_tokens=6, epochs=4, topology={"h1_count": [5, 3, 1]})
    return single, stored(store, **TEN, seed=1, n_tokens=6, epochs=8)


def test_figure2_draws_both_runs_on_one_scale(store, two):
    fig = figure2(store, single=two[0], multi=two[1])
    looks = zip(two, ("-", "--"), ("one problem", "ten problems"), (4, 8), strict=True)
    for run_id, style, words, last in looks:
        run = store.read(run_id)
        for title, column in (("mean lifespan", "h{}_mean_lifespan"), ("number", "h{}_count")):
            for k, color in DIMENSION_COLORS.items():
                [curve] = heights(panel(fig, title), color, style)
                assert curve.tolist() == run.topology[column.format(k)].tolist()
        diagram = panel(fig, f"diagrams, {words}")
        limit = diagram.get_ylim()[1]
        hollow = [each for each in diagram.collections if not len(each.get_facecolor())]
        filled = [each for each in diagram.collections if len(each.get_facecolor())]
        for epoch, points in ((0, hollow), (last, filled)):
            bars = run.diagrams[run.diagrams.epoch == epoch]
            for k, drawn in enumerate(points):
                deaths = np.minimum(bars.death[bars.dimension == k], limit)
                assert drawn.get_offsets()[:, 1].tolist() == deaths.tolist()
            barcode = segments(panel(fig, f"{words}, epoch {epoch}"))
            births, deaths = np.array([bar[:, 0] for _, bar in barcode]).T
            assert sorted(births) == sorted(bars.birth)
            assert sorted(deaths) == sorted(np.minimum(bars.death, limit))
    scales = {ax.get_xlim()[1] for ax in fig.axes if ax.get_title()[:3] in ("(b)", "(d)")}
    largest = max(store.read(each).diagrams.replace(np.inf, 0).death.max() for each in two)
    assert len(scales) == 1
    assert largest < scales.pop() < 1.2 * largest
    with pytest.raises(InputError, match=f"multi = '{two[0]}': that run's regime is single"):
        figure2(store, single=two[0], multi=two[0])


def test_figure3_draws_density_loops_and_entropy(store, two):
    fig = figure3(store, ids=two)
    for run_id, style in zip(two, ("-", "--"), strict=True):
        checks = store.read(run_id).topology
        curves = {ax.get_ylabel(): heights(ax, METHOD_COLORS["ce"], style)[0] for ax in fig.axes}
        assert curves["n / mean distance"] == pytest.approx(6 / checks.mean_distance.to_numpy())
        assert curves["$H_1$ bars / n"] == pytest.approx(checks.h1_count.to_numpy() / 6)
        assert curves[""] == pytest.approx(checks.persistence_entropy.to_numpy())


def test_figure3_medians_end_with_the_shortest_run(store):
    entropy = [[3, 2, 1], [5, 4, 4], [9, 9, 0, 7, 7]]
    ids = []
    for seed, values in enumerate(entropy):
        fields = {"epochs": 2 * (len(values) - 1), "topology": {"persistence_entropy": values}}
        ids.append(stored(store, seed=seed, **fields))
    fig = figure3(store, ids=ids)
    *each, median = heights(panel(fig, "entropy"), METHOD_COLORS["ce"], "-")
    assert median.tolist() == [5, 4, 1]
    assert [curve[~np.isnan(curve)].tolist() for curve in each] == entropy
    assert "Standard, one problem (3 runs)" in [text.get_text() for text in texts(fig)]


def test_figure3_counts_a_run_once_and_needs_one(store, two):
    labels = [text.get_text() for text in texts(figure3(store, ids=[two[0], two[0]]))]
    assert "Standard, one problem (1 run)" in labels
    with pytest.raises(InputError, match="at least one run"):
        figure3(store, ids=[])


def test_figure5_draws_the_median_total_loss_of_each_method(store):
    plain = [[4, 2, 1, 1], [6, 4, 2, 1], [9, 8, 7, 6]]
    treated = [[5, 3, 1, 0.5], [6, 2, 2, 0.5], [7, 4, 3, 0.25]]
    for seed, (ce, total) in enumerate(zip(plain, treated, strict=True)):
        problem = {"epochs": 4, "contents": (f"p{seed}",), "problem": seed}
        stored(store, ce=ce, **problem)
        losses = {"ce": [value - 0.125 for value in total], "total": total}
        stored(store, method="tsloss", **losses, **problem)
    ax = panel(figure5(store), "3 pairs")
    *each, standard = heights(ax, METHOD_COLORS["ce"], "-")
    assert standard.tolist() == [6, 4, 2, 1]
    assert [curve.tolist() for curve in each] == plain
    assert heights(ax, METHOD_COLORS["tsloss"], "-")[-1].tolist() == [6, 3, 2, 0.5]
    assert heights(ax, METHOD_COLORS["tsloss"], ":")[0].tolist() == [5.875, 2.875, 1.875, 0.375]


def test_figure5_has_a_panel_for_each_model_task_and_regime(store):
    stored(store, task="bbh")  # without a partner
    with pytest.raises(InputError, match=r"protocol = 'tuned'.*tsp sweep figure5"):
        figure5(store)
    for fields in ({}, TEN, {"model": "tiny-llama"}):
        pair(store, standard=4, tsloss=2, **fields)
    titles = [ax.get_title() for ax in figure5(store).axes if ax.get_title()]
    assert titles == [
        "GSM8K, one problem (1 pair)",
        "MMLU-CF, ten problems (1 pair)",
        "GSM8K, one problem (1 pair), tiny-llama",
    ]


def test_figures_are_closed_white_and_legible(store, two):
    pair(store, standard=4, tsloss=2, epochs=4)
    figures = figure2(store, single=two[0], multi=two[1]), figure3(store, ids=two), figure5(store)
    assert plt.get_fignums() == []
    for fig in figures:
        assert to_rgb(fig.get_facecolor()) == (1, 1, 1)
        assert min(text.get_size() for text in texts(fig)) >= 9
        assert fig.get_size_inches()[0] == pytest.approx(7.2)


def test_every_method_has_a_name_and_a_colour_that_no_other_has():
    assert set(METHOD_NAMES) == set(METHOD_COLORS) == set(METHODS)
    assert len(set(METHOD_COLORS.values())) == len(METHODS)
