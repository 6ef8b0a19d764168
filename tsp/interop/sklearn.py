"""Summaries of prompts as a step of a scikit-learn pipeline."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from tsp.errors import InputError
from tsp.topology import SUMMARY_COLUMNS
from tsp.topology.diagrams import summarize


class PersistenceSummary(TransformerMixin, BaseEstimator):
    """Summarise point clouds, as `tsp.topology.diagrams.summarize` does.

    Parameters
    ----------
    columns
        Columns of `tsp.topology.SUMMARY_COLUMNS` in this order; by default all.

    Notes
    -----
    It takes the input of giotto-tda's ``VietorisRipsPersistence``, so both fit into one
    ``FeatureUnion``. Nothing is learned from data.

    Examples
    --------
    >>> square = [[0, 0], [1, 0], [1, 1], [0, 1]]
    >>> PersistenceSummary(["h0_count", "h1_max_lifespan"]).fit_transform([square]).round(3)
    array([[4.   , 0.414]])
    """

    def __init__(self, columns: Sequence[str] | None = None) -> None:
        self.columns = columns

    def fit(self, X: Any, y: Any = None) -> "PersistenceSummary":
        """Check the columns; raise an InputError for one that `summarize` does not return."""
        self.get_feature_names_out()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the summaries (B, columns) of clouds (B, n, d) or of a list of clouds (n_i, d)."""
        clouds = X if isinstance(X, (list, tuple)) or hasattr(X, "detach") else np.atleast_1d(X)
        if len(clouds) == 0 or np.ndim(clouds[0]) != 2:
            raise InputError("X", type(X).__name__, "give clouds (B, n, d) or a list of (n, d)")
        names = list(self.get_feature_names_out())
        return np.stack([summarize(cloud)[names].to_numpy(float)[0] for cloud in clouds])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns."""
        names = SUMMARY_COLUMNS if self.columns is None else self.columns
        for name in names:
            if name not in SUMMARY_COLUMNS:
                raise InputError("columns", name, f"choose of {', '.join(SUMMARY_COLUMNS)}")
        return np.asarray(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True
