"""PEFT, Trainer and generate beside our trainer; TSLoss in their training."""

import pytest
import torch
from transformers import TrainingArguments

from benchmarks.peft_training import KINDS, Answers, PeerRun, peft_model, with_peft
from tests.conftest import PLAN, problem, spec
from tsp.interop.peers import TSLossTrainer, prompt_vectors
from tsp.loss import TSLoss
from tsp.problems.scoring import DECIDED
from tsp.training import models
from tsp.training.trainer import train_bank

CHOICE = [problem("Which letter?", "B", metric="choice")]


@pytest.mark.parametrize("method", ["ce", "tsloss"])
def test_the_peer_trains_as_we_do(tiny, method):
    """PEFT and Trainer, unmodified: after some epochs their prompt is ours."""
    frozen = tiny()
    run = spec(placement="prefix", method=method, epochs=3, lr=0.05)
    done = with_peft(run, frozen, CHOICE, check=False)()
    assert done.epochs == 3
    (ours,) = train_bank([run], frozen, [CHOICE], plan=PLAN)
    torch.testing.assert_close(done.vectors[1], ours.prompts[3], rtol=1e-3, atol=1e-4)
    assert not torch.equal(done.vectors[0], done.vectors[1])


def test_the_peer_stops_when_it_is_right(tiny):
    run = spec(placement="prefix", method="ce", n_tokens=16, lr=0.3, epochs=200, early_stop=True)
    (ours,) = train_bank([run], tiny(), [CHOICE], plan=PLAN)
    assert with_peft(run, tiny(), CHOICE)() == PeerRun(len(ours.epochs), solved=True)
    assert len(ours.epochs) < 200
    alone = with_peft(run.but(epochs=6), tiny(), CHOICE, check=False)()
    assert alone == PeerRun(6, solved=False)


def test_the_peer_may_end_a_check_at_a_wrong_answer(tiny, monkeypatch):
    """One answer, two, four: as our checks of sets ask."""
    five = CHOICE * 5
    run = spec(placement="prefix", method="ce", n_tokens=16)
    answers = Answers.of(run, tiny(), five, torch.randn(16, 32))
    assert answers.right() == answers.right([4, 2, 0, 1, 3])  # they are alike
    asked = []

    def right(self, chosen, *, stop):
        assert stop
        asked.append(list(chosen))
        return [k != 2 for k in chosen]

    monkeypatch.setattr(Answers, "right", right)
    assert not answers.all_right([0, 1, 2, 3, 4])
    assert answers.all_right([0, 1, 3, 4])
    assert asked == [[0], [1, 2], [0], [1, 3], [4]]


def test_the_peer_may_end_answers_that_are_decided(tiny, monkeypatch):
    """Each row of a batch when its text is decided, whatever the others do."""
    frozen, problems = tiny("tiny-llama"), [problem("1+1=?", "ab"), problem("Say why.", "cd")]
    run = spec(placement="prefix", method="ce", n_tokens=16, max_new_tokens=20)
    answers = Answers.of(run, frozen, problems, torch.randn(16, frozen.dim))
    texts, read = [], answers.texts
    monkeypatch.setattr(Answers, "texts", lambda self, ids: texts.append(read(ids)) or texts[-1])
    right = answers.right()
    (whole,) = texts
    monkeypatch.setitem(DECIDED, "bbh", lambda text: len(text) > 4)
    assert answers.right(stop=True) == right
    for text, other, *steps in zip(texts[-1], whole, *texts[1:], strict=True):
        assert text == next(step for step in steps if len(step) > 4)
        assert other.startswith(text)
        assert len(text) < len(other)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_tsloss_and_its_gradient_are_added_to_the_trainers(tiny, kind, tmp_path):
    model = peft_model(spec(placement="prefix", n_tokens=6), tiny("tiny-llama"), kind)
    one = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 6, 7]])}
    assert prompt_vectors(model).shape[0] == 6
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)

    def gradient(loss):
        parts = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    def loss(weight):
        with models.quiet():
            trainer = TSLossTrainer(model=model, lambda_ts=weight, args=arguments)
        return trainer.compute_loss(model, dict(one))

    plain, both = loss(0.0), loss(100.0)
    added = 100 * TSLoss()(prompt_vectors(model))
    torch.testing.assert_close(both, plain + added)
    expected = gradient(plain) + gradient(added)
    torch.testing.assert_close(gradient(both), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_call_trains_from_the_same_start(tiny, kind):
    run = spec(placement="prefix", epochs=2, lr=0.01)
    train = with_peft(run, tiny("tiny-llama"), CHOICE, check=False, kind=kind)
    one, other = train(), train()
    assert torch.equal(one.vectors[0], other.vectors[0])
    torch.testing.assert_close(one.vectors[1], other.vectors[1])
    assert not torch.equal(one.vectors[0], one.vectors[1])
