"""Table 4: iterations at each weight of TSLoss."""

import pandas as pd

from tsp.analysis.records import deciding, load_runs
from tsp.analysis.studies import study
from tsp.analysis.units import STANDARD, UNIT, comparable
from tsp.experiments.paper import reported
from tsp.store.runs import Store
from tsp.training.model_cards import DEFAULT


def table4(store: Store, *, protocol: str = "tuned", model: str = "") -> pd.DataFrame:
    """Table 4: iterations at each weight of TSLoss, the paper's and those of one model here.

    ``model``: by default `tsp.training.model_cards.DEFAULT`.

    Returns
    -------
    DataFrame
        ``lambda_ts``, ``paper`` (nan: never) and the columns of `tsp.analysis.studies.study` for
        the problems and seeds that were trained at the most weights, against weight 0.
    """
    printed = reported("table4").rename(columns={"iterations": "paper"})
    weights, model = printed.lambda_ts.tolist(), model or DEFAULT
    ours = study(store, [], base=STANDARD, protocol=protocol, weights=weights, model=model)
    weight = ours.arm.str.extract(r"λ=(.*)")[0].astype(float).fillna(0.0)
    return printed.merge(ours.assign(lambda_ts=weight), on="lambda_ts", how="left")


def weighted(store: Store, *, protocol: str = "tuned", model: str = "") -> pd.DataFrame:
    """Select a model's runs at the weights of Table 4, of units and seeds with the most of them.

    ``model``: by default `tsp.training.model_cards.DEFAULT`.

    Returns
    -------
    DataFrame
        Rows of `tsp.analysis.records.load_runs`; empty if only one weight is present.
    """
    runs, length = deciding(load_runs(store))
    runs = runs[runs.model.eq(model or DEFAULT) & runs.lambda_ts.isin(reported("table4").lambda_ts)]
    runs = comparable(runs[runs.method.isin(["ce", "tsloss"])], protocol=protocol, length=length)
    weights = runs.groupby([*UNIT, "seed"]).lambda_ts.transform("nunique")
    return runs[(weights == weights.max()) & (runs.lambda_ts.nunique() > 1)]
