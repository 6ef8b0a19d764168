"""Figures of the appendix, from runs written by hand."""

import numpy as np
import pytest

from tests.figures.test_paper_figures import panel
from tests.handmade import stored
from tsp.analysis.geometry import gaussian_counts
from tsp.errors import InputError
from tsp.figures.appendix import (
    FIGURES,
    average_bars,
    barcodes_by_task,
    figure6,
    figure19,
    lifespans_by_task,
    lifespans_of,
    plain_runs,
)
from tsp.figures.style import DIMENSION_COLORS
from tsp.topology.diagrams import lifespans, persistence

MODEL = {"model": "smollm2-135m-instruct"}


def test_every_figure_of_the_appendix_has_its_data_set():
    """The list in appendix A.2."""
    assert sorted(FIGURES.values()) == list(range(7, 19))
    ends = {("gsm8k", "single"): 7, ("math", "multi"): 10, ("bbh", "single"): 11}
    ends |= {("mmlu_cf", "multi"): 14, ("hotpotqa", "single"): 15, ("longbench", "multi"): 18}
    assert FIGURES | ends == FIGURES


def test_only_plain_runs_at_the_defaults(store):
    first = stored(store, contents=("a",))
    second = stored(store, contents=("b",), seed=1)
    for other in ({"method": "tsloss"}, {"n_tokens": 8}, {"protocol": "paper"}, {"task": "math"}):
        stored(store, **other)
    assert {run.id for run in plain_runs(store, task="gsm8k")} == {first, second}
    assert len(plain_runs(store)) == 3
    assert plain_runs(store, task="bbh") == []


def lengths(run, epoch):
    return np.sort(lifespans(persistence(run.prompt(epoch))[0]))[::-1]


def test_average_bars_by_hand(store):
    """Two data sets weigh the same, however many runs they have."""
    runs = [
        store.read(stored(store, task=task, seed=seed, n_tokens=5, epochs=2))
        for task, seed in (("gsm8k", 0), ("gsm8k", 1), ("math", 2))
    ]
    first, second, other = (lengths(run, 2) for run in runs)
    wanted = ((first + second) / 2 + other) / 2
    np.testing.assert_allclose(average_bars(runs, dimension=0, end=True), wanted)
    # A run with fewer bars counts as zero beyond them.
    short = store.read(stored(store, n_tokens=3, epochs=2))
    average = average_bars([short, runs[1]], dimension=0, end=False)
    assert len(average) == 4
    np.testing.assert_allclose(average[2:], lengths(runs[1], 0)[2:] / 2)


def test_lifespans_are_the_finite_bars_of_both_ends(store):
    run = store.read(stored(store, n_tokens=6, epochs=4))
    bars = lifespans_of([run])
    for when, epoch in (("start", 0), ("end", 4)):
        shown = bars[(bars.dimension == 0) & (bars.when == when)]
        assert sorted(shown.lifespan, reverse=True) == pytest.approx(lengths(run, epoch))
    assert np.isfinite(bars.lifespan).all()


def test_each_data_set_has_a_row_of_barcodes_and_one_of_lifespans(store):
    for seed in range(2):
        stored(store, seed=seed, epochs=4)
    stored(store, task="math", regime="multi", contents=tuple("abcdefghij"), epochs=4)
    for draw, column in ((barcodes_by_task, "end"), (lifespans_by_task, "$H_1$")):
        fig = draw(store, **MODEL)
        panels = np.reshape(fig.axes, (2, 4))
        assert [ax.get_ylabel() for ax in panels[:, 0]] == ["GSM8K", "MATH"]
        assert panels[0, 1].get_title() == f"one problem, {column}"
        assert panels[0, 3].get_title() == f"ten problems, {column}"
        drawn = [[ax.has_data() for ax in row] for row in panels]
        assert drawn == [[True, True, False, False], [False, False, True, True]]
        with pytest.raises(InputError, match="tsp sweep phenomenon"):
            draw(store, model="x")


def test_small_multiples_count_the_bars_of_a_run(store):
    """A curve starts at the number of finite bars per run and ends at 0."""
    runs = [store.read(stored(store, seed=seed, epochs=4)) for seed in range(2)]
    barcode = barcodes_by_task(store, **MODEL).axes[1]
    loops = len(persistence(runs[0].prompt(4))[1])
    assert [text.get_text() for text in barcode.texts] == [f"$H_0$: 40, $H_1$: {loops}"]
    start, end, gaussian = lifespans_by_task(store, **MODEL).axes[0].lines
    for line in (start, end, gaussian):
        assert line.get_ydata()[[0, -1]].tolist() == [39, 0]
    x, y = end.get_data()
    both = np.concatenate([lengths(run, 4) for run in runs])
    assert y[100] == pytest.approx((both > x[100]).sum() / 2)


def test_figure19_averages_data_sets(store):
    """Thin lines: means over runs; thick: the mean over data sets, to the last common check."""
    stored(store, task="gsm8k", epochs=4, topology={"h1_count": [9, 8, 7]})
    stored(store, task="gsm8k", epochs=4, seed=1, topology={"h1_count": [7, 6, 5]})
    stored(store, task="math", epochs=2, topology={"h1_count": [4, 1]})
    fig = figure19(store, **MODEL)
    ax = panel(fig, "one problem")
    loops = [line for line in ax.lines if line.get_color() == DIMENSION_COLORS[1]]
    [thick] = [line.get_ydata().tolist() for line in loops if line.get_linewidth() == 2]
    assert thick == [(8 + 4) / 2, (7 + 1) / 2]
    assert [8, 7, 6] in [line.get_ydata().tolist() for line in loops]
    low, high = np.quantile(gaussian_counts(40, 3), [0.025, 0.975])
    assert ax.patches[0].get_y() == pytest.approx(low)
    assert ax.patches[0].get_height() == pytest.approx(high - low)


def test_figure6_has_a_row_for_each_regime(store):
    stored(store, epochs=4)
    stored(store, regime="multi", contents=tuple("abcdefghij"), epochs=4)
    titles = [ax.get_title() for ax in figure6(store, **MODEL).axes]
    assert "one problem: 1 run, 1 data set" in titles
    assert any(title.startswith("ten problems") for title in titles)
    with pytest.raises(InputError, match="model = 'x'"):
        figure6(store, model="x")
