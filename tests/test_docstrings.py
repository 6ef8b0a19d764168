"""The examples in the docstrings give what they print."""

import doctest
from importlib import import_module

import pytest

from tsp.paths import PACKAGE, ROOT

SHOWN = [path for path in PACKAGE.rglob("*.py") if "    >>> " in path.read_text("utf-8")]
NAMES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SHOWN)


def test_the_examples_are_found():
    assert {"tsp.loss", "tsp.regularizers", "tsp.topology.diagrams"} <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_the_docstrings(name):
    result = doctest.testmod(import_module(name))
    assert (result.failed, result.attempted > 0) == (0, True)
