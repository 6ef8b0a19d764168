"""On a GPU the properties are a CPU's, also with contexts that are kept on the host."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import PLAN, problem, spec
from tests.test_trainer import assert_checks_are_those_of_generate, assert_equal_results, mixed
from tsp.budget import fitted
from tsp.members import encode_all
from tsp.memory import predict
from tsp.models import load
from tsp.tiny import TINY
from tsp.trainer import train_bank

pytestmark = pytest.mark.gpu


@pytest.fixture(params=sorted(TINY))
def frozen(request):
    return load(request.param, device="cuda", dtype=torch.float64)


@pytest.mark.parametrize("budget", [2**32, 1, 0])
def test_a_bank_equals_its_runs_wherever_contexts_are_kept(frozen, budget):
    specs, problems = zip(*mixed(), strict=True)
    specs = [told.but(model=frozen.name) for told in specs]
    plan = replace(PLAN, context_budget=budget)
    together = train_bank(specs, frozen, problems, plan=plan)
    for told, own, result in zip(specs, problems, together, strict=True):
        (alone,) = train_bank([told], frozen, [own], plan=PLAN)
        assert_equal_results(result, alone, rtol=1e-9)


def test_checks_are_what_plain_generate_says(frozen):
    problems = [[problem("two and two?", "four")], [problem("Which letter?", "B")]]
    specs = [spec(model=frozen.name, seed=k, max_new_tokens=9, check_every=1) for k in range(2)]
    for result in train_bank(specs, frozen, problems, plan=PLAN):
        assert_checks_are_those_of_generate(frozen, result)


def test_a_bank_takes_about_what_was_predicted():
    frozen = load("tiny-llama", device="cuda")
    specs = [spec(seed=k, n_tokens=100) for k in range(64)]
    problems = [problem("why? " * 100, "because " * 20)]
    encoded = [encode_all(told, frozen, problems) for told in specs]
    plan = fitted(PLAN, frozen, specs, encoded)
    torch.cuda.reset_peak_memory_stats()
    train_bank(specs, frozen, [problems] * 64, plan=plan)
    peak = torch.cuda.max_memory_allocated()
    assert predict(frozen, specs, encoded, plan).total == pytest.approx(peak, rel=0.25)
