"""Interactive figures: the data for the scripts in ``book/_static/live``."""

import base64
import html
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist

from tsp.experiments.find_or_train import repeats_of
from tsp.figures.figure_data import plotted
from tsp.store.runs import Run, Store
from tsp.topology.diagrams import Diagrams, lifespans, persistence

DIGITS = 4  # of a number that a page gets: less than a pixel
SNAPSHOTS = 26  # of a run: a page's slider needs no more


@dataclass(frozen=True)
class Live:
    """A figure that the book's scripts make interactive; without them it is a picture.

    Parameters
    ----------
    kind
        The script that draws it: ``"rips"``, ``"prompt"`` or ``"hand"``.
    data
        The script's input, for JSON.
    still, alt
        The picture, and its description.
    table
        The data to download, if more than is `plotted` in the picture.
    """

    kind: str
    data: Any
    still: Figure
    alt: str
    table: pd.DataFrame | None = None

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        file = io.BytesIO()
        self.still.savefig(file, format="png", dpi=150)
        picture = base64.b64encode(file.getvalue()).decode()
        # "<" could end the script element early, whatever the data contain.
        data = json.dumps(self.data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
        shown = (
            f'<div class="live" data-live="{html.escape(self.kind)}"><img class="live-still" '
            f'src="data:image/png;base64,{picture}" alt="{html.escape(self.alt)}">'
            f'<script type="application/json">{data}</script></div>'
        )
        table = plotted(self.still) if self.table is None else self.table
        return {"text/html": shown, "text/csv": table.to_csv(index=False)}


def closest_watched(store: Store, run: Run) -> Run:
    """Return the stored run that repeats a run's training and keeps the most prompts."""
    return max([run, *repeats_of(store, run)], key=lambda one: len(one.prompt_epochs))


def evolution(runs: Mapping[str, Run]) -> dict[str, Any]:
    """Return the data of a figure ``"prompt"``: snapshots of runs, in one projection.

    Parameters
    ----------
    runs
        Runs with stored prompts, by name. At most 26 epochs that all of them keep are shown.

    Returns
    -------
    dict
        ``methods``: for each run a list of snapshots with ``epoch``, ``points`` (n, 2) on the two
        principal axes of the last snapshots together, scaled to 0..1, ``distances`` in d dimensions
        of the pairs i < j row by row, ``h0`` the finite deaths and ``h1`` the (birth, death) pairs.
        ``longest``: end of the bars' axis; ``digits``: of a scale.
    """
    kept = sorted(set.intersection(*(set(run.prompt_epochs) for run in runs.values())))
    spread = np.linspace(0, len(kept) - 1, min(SNAPSHOTS, len(kept))).round().astype(int)
    epochs = [kept[k] for k in np.unique(spread)]
    last = np.vstack([_points(run, epochs[-1]) for run in runs.values()])
    axes = np.linalg.svd(last - last.mean(0), full_matrices=False)[2][:2]
    reach = 2.2 * np.abs((last - last.mean(0)) @ axes.T).max()

    def snapshot(run: Run, epoch: int) -> dict[str, Any]:
        points = _points(run, epoch)
        bars = cast(Diagrams, persistence(points))
        return {
            "epoch": epoch,
            "points": _short(0.5 + (points - last.mean(0)) @ axes.T / reach),
            "distances": _short(pdist(points)),
            "h0": _short(np.sort(lifespans(bars[0]))),  # born at 0
            "h1": _short(bars[1][np.argsort(bars[1][:, 0] - bars[1][:, 1])]),
        }

    methods = {name: [snapshot(run, epoch) for epoch in epochs] for name, run in runs.items()}
    longest = max(death for shown in methods.values() for one in shown for death in one["h0"])
    return {"methods": methods, "longest": round(1.2 * longest, DIGITS), "digits": 2}


def bars_of(seen: Mapping[str, Any]) -> pd.DataFrame:
    """Return the bars of an `evolution`, one a row: ``run epoch dimension birth death``."""
    rows = [
        (name, one["epoch"], dimension, birth, death)
        for name, snapshots in seen["methods"].items()
        for one in snapshots
        for dimension, bars in ((0, [(0.0, death) for death in one["h0"]]), (1, one["h1"]))
        for birth, death in bars
    ]
    return pd.DataFrame(rows, columns=["run", "epoch", "dimension", "birth", "death"])


def _points(run: Run, epoch: int) -> np.ndarray:
    return run.prompt(epoch).double().numpy()


def _short(values: np.ndarray) -> list[Any]:
    return np.round(values, DIGITS).tolist()
