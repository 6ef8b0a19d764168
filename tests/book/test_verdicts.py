"""Words on the front page follow the runs."""

import pandas as pd
import pytest

from tests.handmade import stored
from tsp.analysis import tables
from tsp.book.verdicts import FINDINGS, findings
from tsp.store.runs import Store


def counted(**ends):
    """Counts of loops at the first and the last check of each arm."""
    rows = [
        (arm, epoch, n) for arm, pair in ends.items() for epoch, n in zip((0, 4), pair, strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "epoch", "h1_count"])


COUNTS = counted(ce=(9, 1), tsloss=(9, 8), wrong=(9, 2), random=(9, 0))


@pytest.mark.parametrize(
    ("with_tsloss", "words"),
    [
        (2, "TSLoss shortens training"),
        (14, "TSLoss does not shorten training"),
        (None, "Whether TSLoss shortens training is open"),
    ],
)
def test_a_changed_run_changes_what_is_said_of_speed(with_tsloss, words, tmp_path):
    store = Store(tmp_path)
    for k in range(12 if with_tsloss else 2):
        about = {"contents": (f"p{k}",), "problem": k, "epochs": 20}
        stored(store, method="ce", solved=8, **about)
        stored(store, method="tsloss", lambda_ts=1.0, solved=with_tsloss or 8, **about)
    assert findings(tables.claims(store), COUNTS)["speed"] == words


def test_the_control_and_the_loops_with_tsloss_follow_the_counts(tmp_path):
    claims = tables.claims(Store(tmp_path))
    said = findings(claims, COUNTS)
    assert said["success"] == "But success is not why"
    assert said["back"] == "And it brings loops back"
    assert {said[name] for name in FINDINGS} == {other for *_, other in FINDINGS.values()}

    other = counted(ce=(9, 1), tsloss=(9, 0), wrong=(9, 8), random=(9, 0))
    assert findings(claims, other)["success"] == "Success may be why"
    assert findings(claims, other)["back"] == "It does not bring loops back"
    without = findings(claims, COUNTS[COUNTS.arm != "random"])
    assert without["success"] == "Whether success is why is open"
    assert without["back"] == "Whether TSLoss brings loops back is open"
