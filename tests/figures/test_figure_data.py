"""The data behind figures, and figures that move."""

import io
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tests.handmade import stored
from tsp.figures.figure_data import plotted
from tsp.figures.interactive import Live, bars_of, closest_watched, evolution
from tsp.figures.style import DIMENSION_COLORS, METHOD_COLORS, POINT_COLOR
from tsp.paths import ROOT
from tsp.topology.diagrams import persistence


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def data(ax, kind, columns="xy"):
    """Return the values of some columns of what is drawn in one way."""
    table = plotted(ax.figure)
    return table.loc[table.kind == kind, list(columns)].to_numpy().tolist()


def test_a_line_is_read_back_with_its_name_and_axes(ax):
    ax.plot([1, 2, 4], [3.0, 5.0, 1 / 3], label="loss")
    ax.set(xlabel="epoch", ylabel="L", title="one")
    assert np.allclose(data(ax, "line"), [[1, 3], [2, 5], [4, 1 / 3]])
    names = ["panel", "title", "x_axis", "y_axis", "series"]
    assert data(ax, "line", names)[0] == [1, "one", "epoch", "L", "loss"]


def test_what_is_drawn_is_read_back(ax):
    ax.scatter([1, 2], [5, 6], c=[0.25, 0.5])
    assert data(ax, "points", ["x", "y", "value"]) == [[1, 5, 0.25], [2, 6, 0.5]]
    ax.fill_between([1, 2], [0, 1], [4, 5])
    band = {tuple(point) for point in data(ax, "band")}
    assert {(1, 0), (2, 1), (1, 4), (2, 5)} <= band
    ax.axhline(2.5)
    assert np.array_equal(data(ax, "guide"), [[np.nan, 2.5]], equal_nan=True)
    ax.axvspan(6, 7)
    assert np.array_equal(data(ax, "span"), [[6, np.nan], [7, np.nan]], equal_nan=True)
    ax.hlines([1], [0], [3])
    assert data(ax, "segments") == [[0, 1], [3, 1]]
    ax.quiver([0.0], [0.0], [2.0], [1.0])
    assert data(ax, "arrow") == [[0, 0], [2, 1]]


def test_a_tick_of_letters_is_a_name_and_one_of_digits_is_not(ax):
    ax.barh(["slow", "fast"], [3, 9])
    assert data(ax, "bar") == [[0, "slow"], [3, "slow"], [0, "fast"], [9, "fast"]]
    ax.plot([0.7, 2], ["slow", "fast"])
    ax.set_xticks([1, 2], ["1", "2"])
    assert data(ax, "line") == [[0.7, "slow"], [2, "fast"]]


def test_a_mesh_has_its_values_and_a_colour_bar_is_no_panel(ax):
    mesh = ax.pcolormesh(np.arange(6).reshape(2, 3))
    ax.figure.colorbar(mesh)
    assert data(ax, "mesh", ["value", "panel"]) == [[k, 1] for k in range(6)]
    assert data(ax, "mesh")[0] == [0.5, 0.5]


def test_a_moving_figure_is_a_picture_data_and_a_table(ax):
    ax.plot([0, 1], [2, 3])
    hostile = "</script><img src=x onerror=alert(1)>"
    shown = Live("rips", {"name": hostile}, still=ax.figure, alt=f'"{hostile}')._repr_mimebundle_()
    page = shown["text/html"]
    assert hostile not in page
    assert page.count("<script") == page.count("</script>") == 1
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert json.loads(data) == {"name": hostile}
    assert 'src="data:image/png;base64,' in page
    assert pd.read_csv(io.StringIO(shown["text/csv"])).y.tolist() == [2, 3]
    with pytest.raises(ValueError, match="not JSON compliant"):
        Live("rips", {"epsilon": float("nan")}, still=ax.figure, alt="")._repr_mimebundle_()


def test_colours_of_the_page_are_those_of_the_figures():
    sheet = (ROOT / "book" / "_static" / "live.css").read_text()
    light = sheet[: sheet.index("[data-theme")]
    names = {"h0": DIMENSION_COLORS[0], "h1": DIMENSION_COLORS[1]}
    names |= {"point": POINT_COLOR, "arrow": METHOD_COLORS["tsloss"]}
    for name, color in names.items():
        assert f"--live-{name}: {color.lower()};" in light


def test_the_evolution_of_two_prompts(store):
    runs = {name: store.read(stored(store, solved=4, method=name)) for name in ("ce", "tsloss")}
    seen = evolution(runs)
    assert seen["methods"].keys() == runs.keys()
    table = bars_of(seen)
    for name, run in runs.items():
        *_, last = shown = seen["methods"][name]
        assert {one["epoch"] for one in shown} <= set(run.prompt_epochs)
        prompt = run.prompt(last["epoch"]).double().numpy()
        bars, n, points = persistence(prompt), len(prompt), np.array(last["points"])
        assert points.shape == (n, 2)
        assert 0 <= points.min() <= points.max() <= 1
        assert len(last["distances"]) == n * (n - 1) // 2
        first = np.linalg.norm(prompt[0] - prompt[1])
        assert last["distances"][0] == pytest.approx(first, abs=1e-4)
        assert last["h0"] == pytest.approx(sorted(bars[0][:-1, 1]), abs=1e-4)
        assert len(last["h1"]) == len(bars[1])
        assert seen["longest"] >= max(max(one["h0"]) for one in shown)
        rows = table[(table.run == name) & (table.epoch == last["epoch"])]
        assert (rows.dimension == 0).sum() == n - 1
        assert rows[rows.dimension == 1][["birth", "death"]].to_numpy().tolist() == last["h1"]


def test_the_run_with_most_prompts_is_watched(store):
    seldom = store.read(stored(store, solved=4))
    often = store.read(stored(store, solved=4, snapshot_every=4))
    other = stored(store, solved=4, method="tsloss", snapshot_every=1)
    stored(store, solved=4, snapshot_every=1, contents=("another problem",))
    assert closest_watched(store, seldom).id == often.id
    assert closest_watched(store, store.read(other)).id == other
