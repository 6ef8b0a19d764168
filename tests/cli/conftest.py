"""A store that the command line made."""

import json

import pytest

from tests.terminal import BBH, TINY, tsp, write


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A store with one run on a made-up problem, the words that made it, and what they printed."""
    folder = tmp_path_factory.mktemp("cli")
    data = write(folder / "bbh.jsonl", json.dumps(BBH))
    words = ["run", "--task", "bbh", "--data", data, "--runs", folder / "runs", *TINY]
    done = tsp(*words)
    assert done.returncode == 0, done.stderr
    return folder / "runs", words, done.stdout
