"""The summaries as a scikit-learn transformer, alone and beside giotto-tda's."""

import numpy as np
import pandas as pd
import pytest
import torch
from gtda.diagrams import PersistenceEntropy
from gtda.homology import VietorisRipsPersistence
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tsp import PersistenceSummary
from tsp.errors import InputError
from tsp.topology import SUMMARY_COLUMNS
from tsp.topology.diagrams import summarize

FEW = ["h0_mean_lifespan", "h1_count"]


@pytest.fixture(scope="module")
def clouds():
    """Noise and rings, ten of each, and which is which."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, (10, 12))
    rings = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], 2)
    return np.concatenate([rng.normal(size=(10, 12, 3)), rings]), np.repeat([0, 1], 10)


def test_it_gives_what_summarize_gives(clouds):
    X, _ = clouds
    made = PersistenceSummary().fit_transform(X)
    np.testing.assert_array_equal(made, summarize(X).to_numpy())
    few = PersistenceSummary(FEW)
    np.testing.assert_array_equal(few.fit_transform(X), summarize(X)[FEW].to_numpy())
    np.testing.assert_array_equal(few.transform(torch.tensor(X)), few.transform(X))
    uneven = [X[0], X[1, :7]]
    np.testing.assert_array_equal(few.transform(uneven)[1], summarize(uneven[1])[FEW].iloc[0])


def test_its_names_its_copy_and_its_tables_are_scikit_learns(clouds):
    few = PersistenceSummary(FEW)
    assert few.get_feature_names_out().tolist() == FEW
    assert PersistenceSummary().get_feature_names_out().tolist() == list(SUMMARY_COLUMNS)
    copy = clone(few)
    assert copy is not few
    assert copy.get_params() == {"columns": FEW}
    table = few.set_output(transform="pandas").fit_transform(clouds[0])
    pd.testing.assert_frame_equal(table, summarize(clouds[0])[FEW].astype(float))


def test_beside_giotto_tda_in_a_union_and_a_grid_search(clouds):
    X, y = clouds
    theirs = make_pipeline(VietorisRipsPersistence(), PersistenceEntropy())
    both = FeatureUnion([("ours", PersistenceSummary(FEW)), ("theirs", theirs)])
    assert both.fit_transform(X).shape == (20, len(FEW) + 2)
    np.testing.assert_array_equal(both.transform(X)[:, :2], summarize(X)[FEW].to_numpy())
    names = FeatureUnion([("ours", PersistenceSummary(FEW))]).fit(X).get_feature_names_out()
    assert names.tolist() == [f"ours__{name}" for name in FEW]
    steps = [("topology", both), ("scale", StandardScaler()), ("say", LogisticRegression())]
    choices = {"topology__ours__columns": [FEW, ["h1_max_lifespan"]]}
    search = GridSearchCV(Pipeline(steps), choices, cv=3).fit(X, y)
    assert search.best_score_ > 0.9
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()


def test_its_bars_are_as_many_as_giotto_tdas(clouds):
    """giotto-tda leaves the essential class out, and pads with bars of length zero."""
    X, _ = clouds
    diagrams = VietorisRipsPersistence().fit_transform(X)
    long = diagrams[..., 1] - diagrams[..., 0] > 1e-6
    ours = PersistenceSummary(["h0_count", "h1_count"]).transform(X)
    for k in (0, 1):
        theirs = (long & (diagrams[..., 2] == k)).sum(1)
        np.testing.assert_array_equal(ours[:, k], theirs + (k == 0))


@pytest.mark.parametrize(
    ("columns", "X", "pattern"),
    [
        (["h2_count"], [[[0.0]]], "columns = 'h2_count': choose of h0_count"),
        (None, [[0.0, 1.0]], r"X = 'list': give clouds \(B, n, d\)"),
        (None, [], r"X = 'list': give clouds"),
        (None, None, r"X = 'NoneType': give clouds"),
        (None, [[[np.nan]]], "X = nan: give finite coordinates"),
    ],
)
def test_wrong_input_is_named(columns, X, pattern):
    with pytest.raises(InputError, match=pattern):
        PersistenceSummary(columns).fit_transform(X)
