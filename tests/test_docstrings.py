"""The examples in the docstrings give what they print."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("name", "least"), [("loss", 4), ("regularizers", 2), ("topology.diagrams", 7)]
)
def test_examples_in_the_docstrings(name, least):
    result = doctest.testmod(import_module(f"tsp.{name}"))
    assert (result.failed, result.attempted >= least) == (0, True)
