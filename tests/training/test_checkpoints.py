"""A bank that is interrupted at checkpoints becomes what it would have been."""

import json
import time
from functools import partial
from types import SimpleNamespace

import pytest

from tests.conftest import PLAN, problem, spec
from tsp.experiments.banks import CheckpointPolicy
from tsp.training import checkpoints
from tsp.training.checkpoints import Checkpoint, key_of
from tsp.training.stopping import Interrupted
from tsp.training.trainer import train_bank

ANSWERS = [problem("2+2=?", "4"), problem("What is red?", "blood or a rose")]
ANSWERS += [problem(f"{k}+{k}=?", f"{2 * k}") for k in range(3, 11)]
BANKS = {
    "methods": [spec(method=name, epochs=9) for name in ("ce", "tsloss", "l2", "persistence")],
    "early stop": [spec(early_stop=True, epochs=60, check_every=1), spec(epochs=60, seed=1)],
    "released": [
        spec(protocol="released", epochs=9, lr=0.05),
        spec(epochs=9, weighting="gradient"),
    ],
    "ten problems": [spec(regime="multi", epochs=9, check_every=1), spec(epochs=9, method="ce")],
    "diverging": [spec(epochs=9), spec(epochs=9, lambda_ts=1e300)],
}


def flip(path, place=None):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    place = len(content) // 2 if place is None else place
    content[place] ^= 1
    path.write_bytes(content)


def outcome(results):
    """Everything that runs leave except their time."""
    return [
        (item.epochs, item.checks, {e: p.tolist() for e, p in item.prompts.items()}, item.failure)
        for item in results
    ]


def enough(seen, often):
    return int(len(seen) >= often)


@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("often", [1, 4])
def test_a_bank_stopped_at_checkpoints_is_what_it_would_have_been(tmp_path, tiny, name, often):
    specs = BANKS[name]
    chosen = [
        ANSWERS if item.regime == "multi" else [ANSWERS[k % 2]] for k, item in enumerate(specs)
    ]
    expected = train_bank(specs, tiny(), chosen, plan=PLAN)
    key = key_of(["a"], PLAN, "cpu")
    reached, results, rounds = [0], None, 0
    while results is None:
        seen = []
        stop = partial(enough, seen, often)
        point = Checkpoint(tmp_path / "a", key, every=0, stop=stop)
        again = {"plan": PLAN, "on_progress": seen.append, "checkpoint": point}
        try:
            results = train_bank(specs, tiny(), chosen, **again)
        except Interrupted as stopped:
            reached.append(int(stopped.what.split()[-1]))
        assert seen[0].epoch == max(reached[rounds], 1)  # nothing is trained twice
        rounds += 1
    assert rounds > 2
    assert json.dumps(outcome(results)) == json.dumps(outcome(expected))


def test_a_checkpoint_is_written_when_its_seconds_are_over(tmp_path, tiny, monkeypatch):
    point = Checkpoint(tmp_path / "a", key_of(["a"], PLAN, "cpu"))
    assert point.every == CheckpointPolicy().every == 30
    now, kept, state = [time.monotonic()], [], tmp_path / "a" / "state.json"

    def reached():  # is asked at the end of every epoch
        now[0] += 12
        kept.append(json.loads(state.read_text())["epoch"] if state.exists() else 0)
        return 0

    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: now[0]))
    point.stop = reached
    train_bank([spec(epochs=9)], tiny(), [ANSWERS[:1]], plan=PLAN, checkpoint=point)
    assert kept == [0, 0, 0, 3, 3, 3, 6, 6, 6]


def test_a_checkpoint_of_something_else_or_damaged_is_not_used(tmp_path, tiny, caplog):
    def trained(key):
        seen = []
        point = Checkpoint(tmp_path / "a", key, every=0)
        train_bank(
            [spec()], tiny(), [ANSWERS[:1]], plan=PLAN, checkpoint=point, on_progress=seen.append
        )
        return seen[0].epoch

    key = key_of(["a"], PLAN, "cpu")
    assert trained(key) == 1
    assert trained(key) == 4  # the last checkpoint of four epochs
    assert trained(key | {"runs": ["b"]}) == 1
    assert "another plan" in caplog.text
    for path in sorted((tmp_path / "a").iterdir()):
        flip(path)
        assert trained(key | {"runs": ["b"]}) == 1
        assert trained(key | {"runs": ["b"]}) == 4
    next((tmp_path / "a").glob("prompts-*")).unlink()
    assert trained(key | {"runs": ["b"]}) == 1
    assert "No such file" in caplog.text
