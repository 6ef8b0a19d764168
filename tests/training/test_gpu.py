"""On a GPU the properties are a CPU's."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import PLAN, problem, spec
from tests.training.test_trainer import (
    assert_checks_are_those_of_generate,
    assert_equal_results,
    mixed,
)
from tsp.training.checkpoints import Checkpoint, key_of
from tsp.training.members import encode_all
from tsp.training.memory import estimate, fitted
from tsp.training.models import TINY, load
from tsp.training.stopping import Interrupted
from tsp.training.trainer import train_bank

pytestmark = pytest.mark.gpu


@pytest.fixture(params=sorted(TINY))
def frozen(request):
    return load(request.param, device="cuda", dtype=torch.float64)


@pytest.mark.parametrize("budget", [2**32, 0])
def test_a_bank_equals_its_runs_with_and_without_shared_contexts(frozen, budget):
    specs, problems = zip(*mixed(), strict=True)
    specs = [run_spec.but(model=frozen.name) for run_spec in specs]
    plan = replace(PLAN, context_budget=budget)
    together = train_bank(specs, frozen, problems, plan=plan)
    for run_spec, chosen, result in zip(specs, problems, together, strict=True):
        (alone,) = train_bank([run_spec], frozen, [chosen], plan=PLAN)
        assert_equal_results(result, alone, rtol=1e-9)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_checks_are_what_plain_generate_says(name, precision):
    frozen = load(name, device="cuda")
    problems = [[problem("two and two?", "four")], [problem("Which letter?", "B")]]
    specs = [spec(model=frozen.name, seed=k, max_new_tokens=9, check_every=1) for k in range(2)]
    plan = replace(PLAN, precision=precision)
    for result in train_bank(specs, frozen, problems, plan=plan):
        assert_checks_are_those_of_generate(frozen, result)


@pytest.mark.parametrize("words", [100, 600])  # Llama's heads share keys: no scores may be kept
def test_a_bank_takes_about_what_was_estimated(words):
    frozen = load("tiny-llama", device="cuda")
    specs = [spec(seed=k, n_tokens=100) for k in range(64)]
    problems = [problem("why? " * words, "because " * 20)]
    encoded = [encode_all(run_spec, frozen, problems) for run_spec in specs]
    plan = fitted(PLAN, frozen, specs, encoded)
    torch.cuda.reset_peak_memory_stats()
    train_bank(specs, frozen, [problems] * 64, plan=plan)
    peak = torch.cuda.max_memory_allocated()
    assert estimate(frozen, specs, encoded, plan).peak == pytest.approx(peak, rel=0.3)


def test_a_bank_stopped_at_a_checkpoint_goes_on(frozen, tmp_path):
    """Prompts, moments, waiting answers and contexts come back to the device."""
    specs = [spec(model=frozen.name, seed=k, epochs=9, max_new_tokens=4) for k in range(2)]
    chosen = [[problem("two and two?", "four")], [problem("Which letter?", "B")]]
    key, seen = key_of(["a"], PLAN, "cuda"), []
    stops = Checkpoint(tmp_path / "a", key, every=0, stop=lambda: int(len(seen) >= 4))
    with pytest.raises(Interrupted):
        train_bank(specs, frozen, chosen, plan=PLAN, on_progress=seen.append, checkpoint=stops)
    again = train_bank(specs, frozen, chosen, plan=PLAN, checkpoint=Checkpoint(tmp_path / "a", key))
    whole = train_bank(specs, frozen, chosen, plan=PLAN)
    for result, other in zip(again, whole, strict=True):
        assert_equal_results(result, other, rtol=1e-9)


def test_micro_batches_are_halved_when_memory_runs_out(caplog):
    """With 200 MiB in all, passes over 4,096 positions cannot be computed."""
    frozen = load("tiny-llama", device="cuda")
    specs, chosen = [spec(seed=k, epochs=2) for k in range(64)], [problem("why? " * 40, "B" * 60)]
    torch.cuda.set_per_process_memory_fraction(200 * 2**20 / torch.cuda.mem_get_info()[1])
    try:
        plan = replace(PLAN, token_budget=2**16)
        results = train_bank(specs, frozen, [chosen] * 64, plan=plan)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "the token budget is now" in caplog.text
    assert all(len(result.epochs) == 2 for result in results)
