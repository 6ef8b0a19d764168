"""The shipped problems, as records and as problems."""

import json
import re

import pytest

from tsp.errors import InputError
from tsp.paths import data_dir
from tsp.problems.loading import load_problems


def shipped(task):
    """Return the shipped records of a task."""
    lines = (data_dir("problems") / f"{task}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def every(task, **source):
    """Return all problems of a task, loaded one by one."""
    with pytest.raises(InputError, match=r"there (?:are|is) \d+") as past_the_end:
        load_problems(task, problem=10**6, **source)
    total = int(re.findall(r"there (?:are|is) (\d+)", str(past_the_end.value))[0])
    return [load_problems(task, problem=k, **source)[0] for k in range(total)]
