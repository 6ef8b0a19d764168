"""The data of a figure, read from its matplotlib artists."""

from collections.abc import Iterable, Iterator
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
from matplotlib.patches import Rectangle
from matplotlib.quiver import Quiver
from matplotlib.ticker import FixedFormatter
from matplotlib.transforms import Transform

Vertex = Any  # x, y, value


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
        One row per vertex: ``panel`` (number of the axes), ``title``, ``x_axis`` and ``y_axis``
        (their labels), ``kind`` (line, points, segments, arrow, band, bar, span, mesh, guide),
        ``series`` (its name in the legend), ``part`` (which of several), ``x``, ``y``, and
        ``value`` where a third number is shown by colour. On an axis of names, ``x`` or ``y`` is
        the name. Arrows have two ends, bars and spans two corners; of a guide or a span, which
        cross the whole panel, the coordinate along it is empty.
    """
    columns = ["panel", "title", "x_axis", "y_axis", "kind", "series", "part", "x", "y", "value"]
    rows = []
    for panel, ax in enumerate(figure.axes, 1):
        if ax.get_label() == "<colorbar>":
            continue
        about = (panel, ax.get_title(), ax.get_xlabel(), ax.get_ylabel())
        for part, (kind, artist, vertices) in enumerate(_parts(ax), 1):
            label = str(artist.get_label())
            series = "" if label.startswith("_") else label
            for x, y, value in vertices:
                place = (_named(x, ax.xaxis), _named(y, ax.yaxis))
                rows.append((*about, kind, series, part, *place, value))
    return pd.DataFrame(rows, columns=columns)


def _named(at: Any, axis: Axis) -> Any:
    """Return the name of a tick if the axis has names, else the number."""
    formatter = axis.get_major_formatter()
    if at is not None and isinstance(formatter, FixedFormatter | StrCategoryFormatter):
        ticks = [float(tick) for tick in axis.get_major_locator()()]
        for name, tick in zip(formatter.format_ticks(ticks), ticks, strict=True):
            if abs(tick - at) <= 0.5 and any(letter.isalpha() for letter in name):
                return name
    return at if at is None else float(f"{at:.10g}")


def _parts(ax: Axes) -> Iterator[tuple[str, Any, Iterable[Vertex]]]:
    """Yield each artist with its kind and vertices."""
    for line in ax.lines:
        points = np.column_stack(line.get_data(orig=False))
        across = _across(line.get_transform(), ax)
        kind = "line" if across is None else "guide"
        yield kind, line, _plain(points if across is None else points[:1], across)
    for image in ax.images:
        values = np.asarray(image.get_array())
        yield "mesh", image, ((x, y, v) for (y, x), v in np.ndenumerate(values) if values.ndim == 2)
    for artist in ax.collections:
        yield from _collection(artist)
    for patch in ax.patches:
        if isinstance(patch, Rectangle):
            across = _across(patch.get_data_transform(), ax)
            kind = "bar" if across is None else "span"
            yield kind, patch, _plain(patch.get_bbox().get_points(), across)


def _collection(artist: Collection) -> Iterator[tuple[str, Any, Iterable[Vertex]]]:
    """Yield the parts of a collection."""
    values: Any = artist.get_array()
    if isinstance(artist, QuadMesh):
        corners = np.asarray(artist.get_coordinates())
        centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
        yield "mesh", artist, np.column_stack([centres.reshape(-1, 2), np.ravel(values)])
    elif isinstance(artist, LineCollection):
        for segment in artist.get_segments():
            yield "segments", artist, _plain(segment)
    elif isinstance(artist, PathCollection):
        points = np.asarray(artist.get_offsets(), dtype=float)
        colored = values is not None
        yield "points", artist, np.column_stack([points, values]) if colored else _plain(points)
    elif isinstance(artist, Quiver):
        arrows: list[Any] = [artist.X, artist.Y, artist.U, artist.V]
        for x, y, u, v in zip(*map(np.ravel, arrows), strict=True):
            yield "arrow", artist, _plain([(x, y), (x + u, y + v)])
    elif isinstance(artist, PolyCollection):
        for path in artist.get_paths():
            yield "band", artist, _plain(path.vertices)


def _plain(points: Any, across: int | None = None) -> list[Vertex]:
    """Return vertices without values; a coordinate that spans the panel is left out."""
    return [(None if across == 0 else x, None if across == 1 else y, None) for x, y in points]


def _across(transform: Transform, ax: Axes) -> int | None:
    """Return which coordinate spans the panel instead of counting in data: 0, 1 or None."""
    whole = (ax.get_yaxis_transform(which="grid"), ax.get_xaxis_transform(which="grid"))
    return next((k for k, each in enumerate(whole) if transform == each), None)
