"""The data of a figure, read from its matplotlib artists."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.collections import (
    Collection,
    LineCollection,
    PathCollection,
    PolyCollection,
    QuadMesh,
)
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.quiver import Quiver
from matplotlib.ticker import FixedFormatter
from matplotlib.transforms import Transform

Vertices = list[tuple[Any, Any, Any]]  # x, y, value


def plotted(figure: Figure) -> pd.DataFrame:
    """Return the data that a figure shows, read from its artists.

    Parameters
    ----------
    figure
        Lines, points, bands, bars and meshes of its axes are read; texts and patches drawn for
        explanation (discs, triangles) are not.

    Returns
    -------
    DataFrame
        One row a vertex: ``panel`` (number of the axes), ``title``, ``x_axis`` and ``y_axis``
        (their labels), ``kind`` (line, points, segments, arrow, band, bar, span, mesh, guide),
        ``series`` (its name in the legend), ``part`` (which of several), ``x``, ``y``, and
        ``value`` where a third number is shown by colour. On an axis of names, ``x`` or ``y`` is
        the name. Arrows have two ends, bars and spans two corners; of a guide or a span, which
        cross the whole panel, the coordinate along it is empty.
    """
    rows = []
    for panel, ax in enumerate(figure.axes, 1):
        if ax.get_label() == "<colorbar>":
            continue
        axes = {"panel": panel, "title": ax.get_title(), "x_axis": ax.get_xlabel()}
        axes |= {"y_axis": ax.get_ylabel()}
        for part, (kind, artist, vertices) in enumerate(_vertices(ax), 1):
            label = str(artist.get_label())
            row = axes | {"kind": kind, "series": "" if label.startswith("_") else label}
            for x, y, value in vertices:
                x, y = (_named(at, axis) for at, axis in ((x, ax.xaxis), (y, ax.yaxis)))
                rows.append(row | {"part": part, "x": x, "y": y, "value": value})
    columns = ["panel", "title", "x_axis", "y_axis", "kind", "series", "part", "x", "y", "value"]
    return pd.DataFrame(rows, columns=columns)


def _named(at: Any, axis: Axis) -> Any:
    """Return the name of a tick if the axis has names, else the number."""
    formatter = axis.get_major_formatter()
    if at is None or not isinstance(formatter, FixedFormatter | StrCategoryFormatter):
        return at if at is None else float(f"{at:.10g}")
    ticks = [float(tick) for tick in axis.get_major_locator()()]
    near = [
        name
        for name, tick in zip(formatter.format_ticks(ticks), ticks, strict=True)
        if abs(tick - at) <= 0.5 and any(letter.isalpha() for letter in name)
    ]
    return near[0] if near else float(f"{at:.10g}")


def _vertices(ax: Axes) -> Iterator[tuple[str, Any, Vertices]]:
    for line in ax.lines:
        yield _of_line(line, ax)
    for image in ax.images:
        values = np.asarray(image.get_array())
        cells = [(x, y, v) for (y, x), v in np.ndenumerate(values)] if values.ndim == 2 else []
        yield "mesh", image, cells
    for artist in ax.collections:
        yield from _of_collection(artist)
    for patch in ax.patches:
        if isinstance(patch, Rectangle):
            ends = patch.get_bbox().get_points()
            across = _across(patch.get_data_transform(), ax)
            kind = "bar" if across is None else "span"
            yield kind, patch, [_kept(point, across) for point in ends]


def _of_line(line: Line2D, ax: Axes) -> tuple[str, Any, Vertices]:
    points = np.column_stack([np.asarray(it, dtype=float) for it in line.get_data()])
    across = _across(line.get_transform(), ax)
    if across is not None:
        return "guide", line, [_kept(points[0], across)]
    return "line", line, [_kept(point, None) for point in points]


def _across(transform: Transform, ax: Axes) -> int | None:
    """Return which coordinate spans the panel instead of counting in data: 0, 1 or None."""
    whole = (ax.get_yaxis_transform(which="grid"), ax.get_xaxis_transform(which="grid"))
    return next((k for k, it in enumerate(whole) if transform == it), None)


def _kept(point: np.ndarray, across: int | None) -> tuple[Any, Any, Any]:
    x, y = (None if k == across else value for k, value in enumerate(point))
    return x, y, None


def _of_collection(artist: Collection) -> Iterator[tuple[str, Any, Vertices]]:
    values: Any = artist.get_array()
    if isinstance(artist, QuadMesh):
        corners = np.asarray(artist.get_coordinates())
        centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
        flat = zip(centres.reshape(-1, 2), np.ravel(values), strict=True)
        yield "mesh", artist, [(x, y, v) for (x, y), v in flat]
    elif isinstance(artist, LineCollection):
        for segment in artist.get_segments():
            yield "segments", artist, [(x, y, None) for x, y in segment]
    elif isinstance(artist, PathCollection):
        points = np.asarray(artist.get_offsets(), dtype=float)
        colors = [None] * len(points) if values is None else np.ravel(values)
        yield "points", artist, [(x, y, v) for (x, y), v in zip(points, colors, strict=True)]
    elif isinstance(artist, Quiver):
        parts: list[Any] = [artist.X, artist.Y, artist.U, artist.V]
        for x, y, u, v in zip(*map(np.ravel, parts), strict=True):
            yield "arrow", artist, [(x, y, None), (x + u, y + v, None)]
    elif isinstance(artist, PolyCollection):
        for path in artist.get_paths():
            yield "band", artist, [(x, y, None) for x, y in np.asarray(path.vertices)]
