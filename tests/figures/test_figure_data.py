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
from tsp.store.runs import Store
from tsp.topology.diagrams import persistence


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def told(ax, kind):
    found = plotted(ax.figure)
    return found[found.kind == kind]


def test_a_line_is_read_back_with_its_name_and_axes(ax):
    ax.plot([1, 2, 4], [3.0, 5.0, 1 / 3], label="loss")
    ax.set(xlabel="epoch", ylabel="L", title="one")
    found = told(ax, "line")
    assert found.x.tolist() == [1, 2, 4]
    assert found.y.tolist() == pytest.approx([3, 5, 1 / 3])
    assert set(found.series) == {"loss"}
    names = ["panel", "title", "x_axis", "y_axis"]
    assert found[names].iloc[0].tolist() == [1, "one", "epoch", "L"]


def test_points_keep_what_their_colour_says(ax):
    ax.scatter([1, 2], [5, 6], c=[0.25, 0.5])
    assert told(ax, "points")[["x", "y", "value"]].to_numpy().tolist() == [
        [1, 5, 0.25],
        [2, 6, 0.5],
    ]


def test_a_band_has_both_edges_and_a_guide_has_one_coordinate(ax):
    ax.fill_between([1, 2], [0, 1], [4, 5])
    ax.axhline(2.5)
    ax.axvspan(6, 7)
    band = {(x, y) for x, y in told(ax, "band")[["x", "y"]].to_numpy()}
    assert {(1, 0), (2, 1), (1, 4), (2, 5)} <= band
    assert told(ax, "guide")[["x", "y"]].isna().to_numpy().tolist() == [[True, False]]
    assert told(ax, "span").x.tolist() == [6, 7]
    assert told(ax, "span").y.isna().all()


def test_bars_over_names_are_told_by_name(ax):
    ax.barh(["slow", "fast"], [3, 9])
    found = told(ax, "bar")
    assert found.y.tolist() == ["slow", "slow", "fast", "fast"]
    assert found.x.tolist() == [0, 3, 0, 9]


def test_ticks_that_are_numbers_name_nothing(ax):
    ax.plot([0.7, 2], [1, 2])
    ax.set_xticks([1, 2], ["1", "2"])
    assert told(ax, "line").x.tolist() == [0.7, 2]


def test_a_mesh_has_its_values_and_a_colour_bar_is_no_panel(ax):
    mesh = ax.pcolormesh(np.arange(6).reshape(2, 3))
    ax.figure.colorbar(mesh)
    found = told(ax, "mesh")
    assert found.value.tolist() == list(range(6))
    assert set(found.panel) == {1}
    assert found[["x", "y"]].iloc[0].tolist() == [0.5, 0.5]


def test_segments_and_arrows_have_both_ends(ax):
    ax.hlines([1], [0], [3])
    ax.quiver([0.0], [0.0], [2.0], [1.0])
    assert told(ax, "segments")[["x", "y"]].to_numpy().tolist() == [[0, 1], [3, 1]]
    assert told(ax, "arrow")[["x", "y"]].to_numpy().tolist() == [[0, 0], [2, 1]]


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


def test_numbers_that_json_lacks_are_refused(ax):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Live("rips", {"epsilon": float("nan")}, still=ax.figure, alt="")._repr_mimebundle_()


def test_colours_of_the_page_are_those_of_the_figures():
    sheet = (ROOT / "book" / "_static" / "live.css").read_text()
    light = sheet[: sheet.index("[data-theme")]
    names = {"h0": DIMENSION_COLORS[0], "h1": DIMENSION_COLORS[1]}
    names |= {"point": POINT_COLOR, "arrow": METHOD_COLORS["tsloss"]}
    for name, color in names.items():
        assert f"--live-{name}: {color.lower()};" in light


def test_the_evolution_of_two_prompts(tmp_path):
    store = Store(tmp_path)
    runs = {
        method: store.read(stored(store, solved=4, method=method)) for method in ("ce", "tsloss")
    }
    seen = evolution(runs)
    assert seen["methods"].keys() == runs.keys()
    for name, run in runs.items():
        shown = seen["methods"][name]
        assert {it["epoch"] for it in shown} <= set(run.prompt_epochs)
        last = shown[-1]
        prompt = run.prompt(last["epoch"]).double().numpy()
        bars = persistence(prompt)
        n = len(prompt)
        assert len(last["points"]) == n
        assert len(last["distances"]) == n * (n - 1) // 2
        assert last["distances"][0] == pytest.approx(
            np.linalg.norm(prompt[0] - prompt[1]), abs=1e-4
        )
        assert last["h0"] == pytest.approx(sorted(bars[0][:-1, 1]), abs=1e-4)
        assert len(last["h1"]) == len(bars[1])
        assert np.all((np.array(last["points"]) >= 0) & (np.array(last["points"]) <= 1))
    assert seen["longest"] >= max(max(it["h0"]) for it in shown)
    bars = bars_of(seen)
    last = bars[(bars.run == "tsloss") & (bars.epoch == shown[-1]["epoch"])]
    assert (last.dimension == 0).sum() == n - 1
    assert last[last.dimension == 1][["birth", "death"]].to_numpy().tolist() == shown[-1]["h1"]


def test_the_run_with_most_prompts_is_watched(tmp_path):
    store = Store(tmp_path)
    seldom = store.read(stored(store, solved=4))
    often = store.read(stored(store, solved=4, snapshot_every=4))
    other = stored(store, solved=4, method="tsloss", snapshot_every=1)
    stored(store, solved=4, snapshot_every=1, contents=("another problem",))
    assert closest_watched(store, seldom).id == often.id
    assert closest_watched(store, store.read(other)).id == other
