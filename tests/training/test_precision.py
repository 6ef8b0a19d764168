"""The precision of the training passes: the one asked for, or the device's best."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tsp.errors import InputError
from tsp.training import precision
from tsp.training.precision import choose, fast_bfloat16


def test_what_is_asked_for_is_taken(tiny):
    assert choose("float32", tiny()) == "float32"
    assert choose("bfloat16", tiny()) == "bfloat16"
    remedy = r"precision = 'half': choose one of auto, float32, bfloat16"
    with pytest.raises(InputError, match=remedy):
        choose("half", tiny())


@pytest.mark.parametrize("fast", [True, False])
def test_slow_bfloat16_is_warned_of(tiny, monkeypatch, caplog, fast):
    """A sweep goes on in the precision of its stored runs, which may be another machine's."""
    monkeypatch.setattr(precision, "fast_bfloat16", lambda device: fast)
    choose("bfloat16", tiny())
    assert ("bfloat16 is slow on this cpu" in caplog.text) is not fast


@pytest.fixture
def small_counts(monkeypatch):
    """Tiny models are not too small to choose for."""
    monkeypatch.setattr(precision, "SMALL", 0)


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_chosen_where_the_device_is_fast_at_it(tiny, monkeypatch, small_counts, fast):
    monkeypatch.setattr(precision, "fast_bfloat16", lambda device: fast)
    assert choose("auto", tiny()) == ("bfloat16" if fast else "float32")
    assert choose("auto", tiny("tiny-llama", torch.float64)) == "float32"
    monkeypatch.setattr(precision, "free_memory", lambda device: 60_000)  # no room for a copy
    assert choose("auto", replace(tiny(), copies={})) == "float32"


def test_a_small_model_stays_in_float32(tiny, monkeypatch):
    monkeypatch.setattr(precision, "fast_bfloat16", lambda device: True)
    assert choose("auto", tiny()) == "float32"


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx2 avx512f", False)],
)
def test_a_processor_says_whether_it_multiplies_bfloat16(monkeypatch, flags, fast):
    monkeypatch.setattr(Path, "read_text", lambda path: f"vendor_id : x\nflags\t\t: {flags}\n")
    assert fast_bfloat16("cpu") is fast


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_does_from_ampere_on(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fast_bfloat16("cuda") is fast
