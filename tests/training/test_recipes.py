"""First prompts, gradients and schedules of the study `recipes`, and the sham of TSLoss."""

import pytest
import torch

from tests.conftest import problem, spec
from tsp.errors import InputError
from tsp.loss import TSLoss
from tsp.training.members import PromptRun
from tsp.training.penalties import penalties, scrambled
from tsp.training.prompts import initial_prompt


@pytest.mark.parametrize("length", [4, 14])
def test_a_prompt_begins_with_the_question_and_begins_it_again(length, tiny):
    frozen = tiny()
    tokens = frozen.tokenizer("2+2=? 3+3=?", add_special_tokens=False)["input_ids"]
    assert 4 < len(tokens) < 14
    cyclic = tuple(tokens[k % len(tokens)] for k in range(length))
    problems = [problem(), problem("3+3=?", "6")]
    member = PromptRun(spec(init="question", n_tokens=length), frozen, problems)
    assert torch.equal(member.prompt.detach(), frozen.embed(cyclic))


def test_a_trained_first_prompt_must_be_given(tiny):
    with pytest.raises(InputError, match=r"init_run = '#1': gave no prompt"):
        initial_prompt(spec(init="trained", init_run="#1"), tiny(), torch.Generator())


def test_a_sham_gradient_is_as_long_as_tslosss_and_points_elsewhere():
    P, Q = (0.1 * torch.randn(6, 32, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    arms = [("tsloss", 3), ("tsloss", 4), ("sham", 3), ("sham", 4)]
    specs = [spec(method=method, lambda_ts=1.0, seed=seed, n_tokens=6) for method, seed in arms]
    rows, (real, same, sham, other) = zip(*penalties(specs, [P] * 4), strict=True)
    assert torch.equal(real, same)  # TSLoss has no seed
    torch.testing.assert_close(sham @ sham.T, real @ real.T)  # lengths and angles
    torch.testing.assert_close(sham.abs().sort(dim=1).values, real.abs().sort(dim=1).values)
    assert abs(torch.cosine_similarity(sham.flatten(), real.flatten(), dim=0)) < 0.5
    assert not torch.equal(sham, other)
    later = [gradient for _, gradient in penalties(specs, [Q] * 4)]
    for before, after in ((real, sham), (later[0], later[2])):  # one map at every step
        assert torch.equal(after, scrambled(before, seed=3))
    signs, order = (scrambled(row[None], seed=3)[0] for row in (torch.ones(32), torch.arange(32.0)))
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert sorted(order.abs().tolist()) == list(range(32)) != order.abs().tolist()
    assert rows[0]["reg"] == rows[2]["reg"] == pytest.approx(TSLoss()(P).item())
    assert rows[0]["grad_reg"] == pytest.approx(rows[2]["grad_reg"])


@pytest.mark.parametrize("norm", [0.5, 50.0, 0.0])
def test_clipping_limits_the_norm_of_the_gradient(norm, tiny):
    member = PromptRun(spec(clip_norm=norm), tiny(), [problem()])
    gradient = torch.ones_like(member.prompt)  # of norm sqrt(5 * 32) = 12.6
    member.step(gradient.clone())
    wanted = min(norm or 99.0, 160**0.5)
    torch.testing.assert_close(member.prompt.grad, gradient * wanted / 160**0.5)


@pytest.mark.parametrize(
    ("fields", "rates"),
    [  # of 300 steps, by step
        ({}, {0: 0, 3: 0.1, 30: 1, 165: 0.5, 299: 1 / 270}),
        ({"warmup_fraction": 0.0}, {0: 1, 150: 0.5, 299: 1 / 300}),
        ({"schedule": "constant"}, {0: 0, 3: 0.1, 30: 1, 299: 1}),
        ({"schedule": "constant", "warmup_fraction": 0.0}, {0: 1, 30: 1, 299: 1}),
        ({"protocol": "released"}, {0: 1, 299: 1}),
    ],
)
def test_schedules_by_hand(fields, rates, tiny):
    member = PromptRun(spec(**fields, lr=1.0), tiny(), [problem()])
    used = [member.step(torch.zeros_like(member.prompt)) for _ in range(300)]
    assert {step: used[step] for step in rates} == pytest.approx(rates)
