"""The claims with their verdicts, as `tsp report` and the chapters show them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.claims import CLAIMS, evaluate
from tsp.analysis.equation13 import surrogate
from tsp.analysis.records import by_origin, deciding, load_answers, load_evidence, load_runs
from tsp.analysis.units import LENGTH, UNIT, comparable, most_run
from tsp.analysis.verdicts import FAMILIES, UNTESTED, Claim
from tsp.store.runs import Store

A_FEW = 100  # prompts that equation 13 is tried on
MISSING = "–"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def claims(store: Store) -> pd.DataFrame:
    """Every claim of the paper with its verdict (`tsp.analysis.claims.evaluate`).

    Published runs decide; a user's own runs stand beside them, in the columns ``own`` (verdict) and
    ``own_n``. Where no run is published, the user's own decide.
    """
    table, *users = _evaluated(store)
    verdicts, n = (users[0].verdict, users[0].n) if users else ("", 0)
    return table.assign(own=verdicts, own_n=n)


def _evaluated(store: Store, families: Collection[str] = FAMILIES) -> Iterator[pd.DataFrame]:
    """Yield the verdicts of the runs that decide, then those of a user's own runs beside them."""
    runs, *others = load_evidence(store)
    answers = load_answers(store)
    for chosen, length in by_origin(runs).values():
        model = most_run(chosen)
        prompts = last_prompts(store, protocol="tuned", model=model, runs=chosen)
        more = {"answers": answers, "variances": surrogate(prompts)}
        yield evaluate(chosen, *others, whole=length is not None, families=families, **more)


def claims_elsewhere(store: Store) -> pd.DataFrame:
    """Verdicts of the same rules under other conditions, which decide no claim.

    Returns
    -------
    DataFrame
        One row per claim that is tested somewhere, index its statement; a column for the usual
        conditions, of the claims that are decided under others, one for protocol ``paper`` and for
        ``tuned`` after 300 epochs, and one for each other model under its usual conditions: verdict
        and number of units, empty where no runs test the claim. Columns without any are left out.
    """
    runs, *others = load_evidence(store)
    runs, length = deciding(runs)
    usual = most_run(runs)
    alone = runs[runs.model == usual]
    first = f"{Claim.protocol}, {Claim.length} epochs"
    conditions: dict[str, tuple[pd.DataFrame, dict[str, Any]]] = {
        f"{protocol}, {epochs} epochs": (alone, {"protocol": protocol, "length": epochs})
        for protocol, epochs in ((Claim.protocol, Claim.length), ("paper", 300), ("tuned", 300))
    }
    conditions |= {
        name: (runs[runs.model == name], {"whole": length is not None})
        for name in sorted({*runs.model} - {usual})
    }
    columns = {}
    for name, (chosen, about) in conditions.items():
        table = evaluate(chosen, *others, **about).set_index("statement")
        tested = table[(table.n > 0) & (table.verdict != "not tested here")]
        columns[name] = tested.verdict + " (" + tested.n.astype(str) + ")"
    above = [c.statement for c in CLAIMS if f"{c.protocol}, {c.length} epochs" == first]
    columns[first] = columns[first].drop(above, errors="ignore")
    table = pd.DataFrame(columns, index=[claim.statement for claim in CLAIMS])
    return table.dropna(how="all").dropna(how="all", axis=1).fillna("")


def last_prompts(
    store: Store, *, protocol: str, model: str, runs: pd.DataFrame | None = None
) -> list[np.ndarray]:
    """Return the last Standard prompt of each unit of a model that keeps one, (n, d) each."""
    runs = load_runs(store) if runs is None else runs
    runs = runs[(runs.model == model) & (runs.method == "ce")]
    runs = comparable(deciding(runs)[0], protocol=protocol, length=None)
    runs = runs.sort_values("seed", kind="stable")
    stored = {run.id: run for run in store.valid_runs()[0]}
    units = (map(stored.get, ids) for _, ids in runs.groupby(UNIT, sort=False).id)
    keeping = (next((run for run in unit if run and run.prompt_epochs), None) for unit in units)
    first = islice(filter(None, keeping), A_FEW)
    last = (run.prompts[run.prompt_epochs[-1]] for run in first)
    return [prompt.astype(np.promote_types(prompt.dtype, np.float32)) for prompt in last]


def chapter_claims(store: Store, ids: Sequence[str]) -> pd.DataFrame:
    """Some claims as a chapter ends with them: claimed, measured, verdict, units, named effect.

    A protocol other than the usual one is named.
    """
    wanted = list(ids)
    families = {claim.family for claim in CLAIMS if claim.id in wanted}
    table = next(_evaluated(store, families)).set_index("id").loc[wanted]
    names = {"statement": "claimed", "why": "measured", "verdict": "verdict", "n": "units"}
    elsewhere = (table.protocol != Claim.protocol) & (table.n > 0)
    table.loc[elsewhere, "why"] = "under protocol " + table.protocol + ": " + table.why
    known = {claim.id: claim.effect_name for claim in CLAIMS}
    shown = table.effect.notna()
    table["effect"] = [effect(row) for row in table.to_dict("records")]
    table.loc[shown, "effect"] = table.index.map(known)[shown] + ": " + table.effect[shown]
    return table[[*names, "effect"]].rename(columns=names)


def effect(row: Mapping[Any, Any]) -> str:
    """Write an effect with its interval and what the paper prints in a few characters."""
    if np.isnan(row["effect"]):
        return MISSING
    numbers = {name: row[name] for name in ("effect", "low", "high", "printed")}
    digits = _decimals(row["effect"], row["low"], row["high"])
    shown = {name: fixed(number, digits) for name, number in numbers.items()}
    shown["printed"] = f"{row['printed']:.3g}"  # with its own digits
    text = shown["effect"]
    if not np.isnan([row["low"], row["high"]]).any():
        text += f" ({shown['low']} to {shown['high']})"
    if row["verdict"] == UNTESTED.verdict:
        text += f" over {LENGTH} epochs"
    return text if np.isnan(row["printed"]) else f"{text}; printed {shown['printed']}"


def fixed(value: float, digits: int) -> str:
    """Write a number with so many decimals: no negative zero, and an exact 0 as it is.

    >>> fixed(0.125, 1), fixed(-0.01, 1), fixed(0.0, 1)
    ('0.1', '0.0', '0')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}" if value else "0"


def _decimals(effect: float, low: float, high: float) -> int:
    """Return the number of decimals of an effect: two significant digits of its interval's width.

    0 if all numbers are whole; without an interval, two significant digits of the effect.
    """
    numbers = np.array([effect, low, high])
    if (numbers == np.round(numbers)).all():
        return 0
    width = high - low
    size = width if np.isfinite(width) and width > 0 else abs(effect)
    return int(np.clip(1 - np.floor(np.log10(size)), 0, 4)) if size > 0 else 2


def typeset(text: str) -> str:
    """Set the numbers of a text as a book does, for display.

    Powers of ten, true minus signs, ∞, a space before the per cent sign, H₀ and H₁; a p-value of
    0, which is too small for a float, becomes a bound.

    >>> typeset("p = 6.94e-18 for -75 to -0.5")
    'p = 6.94 × 10⁻¹⁸ for −75 to −0.5'
    >>> typeset("p = 0, < 1e-300, smollm2-135m")
    'p < 10⁻³⁰⁰, < 10⁻³⁰⁰, smollm2-135m'
    """
    text = re.sub(r"\bp = 0(?![.\d])", "p < 1e-300", text)
    text = re.sub(r"\binf\b", "∞", text)
    text = re.sub(r"\b(\d+(?:\.\d+)?)e([-+]\d+)\b", _power, text)
    text = re.sub(r"(?<![\w.)])-(?=\.?\d)", "−", text)
    text = re.sub(r"\bH([01])\b", lambda match: "H" + "₀₁"[int(match[1])], text)
    return re.sub(r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%", text)


def _power(match: re.Match[str]) -> str:
    power = "10" + str(int(match[2])).translate(SUPERSCRIPTS)
    return power if match[1] == "1" else f"{match[1]} × {power}"
