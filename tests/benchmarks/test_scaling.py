"""The time of a sweep whose banks are handed out to several devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scaling import makespan, scaling
from tests.conftest import spec

LOADING = {"a": 1.0, "b": 2.0}


def test_banks_go_to_the_first_device_that_is_free():
    """By hand: device 0 takes a (1 + 3), device 1 a (1 + 2), then b (2 + 1), then 0 takes a (2)."""
    banks = [("a", 3.0), ("a", 2.0), ("b", 1.0), ("a", 2.0)]
    assert makespan(banks, 2, loading=LOADING) == 6.0
    assert makespan(banks, 1, loading=LOADING) == 1 + 3 + 2 + 2 + 1 + 1 + 2


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.1, 100)), min_size=1, max_size=30),
    st.integers(1, 12),
)
def test_no_schedule_is_shorter_than_its_longest_bank_or_its_share(banks, devices):
    whole = sum(seconds for _, seconds in banks)
    end = makespan(banks, devices, loading={"a": 0.0, "b": 0.0})
    longest = max(seconds for _, seconds in banks)
    assert end >= max(longest, whole / devices) - 1e-9
    assert end <= whole / devices + longest + 1e-9  # Graham's bound for lists


def test_a_sweep_scales_to_as_many_devices_as_it_has_banks():
    specs = [spec(seed=k) for k in range(8)]
    shape = {"devices": (1, 2, 4, 8), "bank": 2, "loading": {"tiny-llama": 0}}
    table = scaling(specs, lambda spec: 3600.0, **shape)
    assert table.hours.tolist() == [8, 4, 2, 2]
    assert table.speedup.tolist() == [1, 2, 4, 4]
    assert table.efficiency.tolist() == [1, 1, 1, 0.5]
    assert set(table.least) == {2}
    loaded_once = {"devices": (1,), "bank": 1, "loading": {"tiny-llama": 3600.0}}
    assert scaling(specs, lambda spec: 0.0, **loaded_once).hours.tolist() == pytest.approx([1])
