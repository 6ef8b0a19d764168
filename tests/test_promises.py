"""The page of promises names tests that are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "book" / "promises.md").read_text()
NAMED = re.findall(r"^(test_\w+\.py)::(\w+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda it: it)
def test_a_promise_is_held_by_a_test(file, name):
    assert f"\ndef {name}(" in (TESTS / file).read_text()


def test_every_promise_names_a_test():
    promises = re.findall(r"^\*\*.+?$(.*?)(?=^\*\*|^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert len(promises) > 20
    assert all("```{held}" in told for told in promises)
