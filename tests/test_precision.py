from dataclasses import replace

import pytest
import torch

from tsp.errors import InputError
from tsp.training import precision
from tsp.training.precision import choose


def test_what_is_asked_for_is_taken(tiny):
    assert choose("float32", tiny()) == "float32"
    assert choose("bfloat16", tiny()) == "bfloat16"
    with pytest.raises(
        InputError, match=r"precision = 'half': choose one of auto, float32, bfloat16"
    ):
        choose("half", tiny())


@pytest.mark.parametrize(
    ("low", "told"), [(0.5, "bfloat16"), (0.89, "bfloat16"), (0.95, "float32")]
)
def test_the_faster_one_is_chosen_if_it_is_clearly_faster(tiny, monkeypatch, low, told):
    frozen = tiny("tiny-qwen2")
    seconds = {torch.float32: 1.0, torch.bfloat16: low}
    monkeypatch.setattr(precision, "SMALL", 0)
    monkeypatch.setattr(precision, "_timed", lambda model, rows: seconds[model.dtype])
    assert choose("auto", frozen) == told
    assert (torch.bfloat16 in frozen.copies) == (told == "bfloat16")
    frozen.copies.clear()


def test_nothing_is_measured_for_a_small_model_or_another_dtype(tiny, monkeypatch):
    monkeypatch.setattr(precision, "_timed", lambda *_: pytest.fail("measured"))
    assert choose("auto", tiny()) == "float32"
    monkeypatch.setattr(precision, "SMALL", 0)
    assert choose("auto", tiny("tiny-llama", torch.float64)) == "float32"


def test_a_measurement_is_of_a_pass_and_its_gradient(tiny):
    rows = precision._rows(tiny(), 100)
    assert len(rows) == precision.ROWS["cpu"]
    assert {row.own for row in rows} == {precision.LENGTH}
    assert len(precision._rows(tiny(), 1)) == 1
    assert precision._timed(tiny(), rows) > 0


def test_without_room_for_a_copy_nothing_is_measured(tiny, monkeypatch):
    monkeypatch.setattr(precision, "SMALL", 0)
    monkeypatch.setattr(precision, "_timed", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(precision, "free_memory", lambda device: 60_000)
    frozen = replace(tiny(), copies={})
    assert choose("auto", frozen) == "float32"
    assert not frozen.copies
