"""PEFT, Trainer and generate beside our trainer; TSLoss in their training."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from tests.conftest import PLAN, problem, spec
from tsp.interop import peers
from tsp.interop.peers import KINDS, PeerRun, TSLossTrainer, with_peft
from tsp.loss import TSLoss
from tsp.training import models
from tsp.training.trainer import train_bank


def test_the_peer_trains_as_we_do(tiny):
    """PEFT and Trainer, unmodified: after some epochs their prompt is ours."""
    frozen = tiny()
    run = spec(placement="prefix", method="ce", epochs=3, lr=0.05)
    one = [problem("two and two?", "four")]
    work = with_peft(run, frozen, one)
    seen = {}
    monitor = Trainer.train

    def train(self, *args, **options):
        out = monitor(self, *args, **options)
        seen["prompt"] = self.model.prompt_encoder.default.embedding.weight.detach().clone()
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train", train)
        assert work().epochs == 3
        first = seen["prompt"]
        assert work().epochs == 3  # from the first prompt again
    assert torch.equal(first, seen["prompt"])
    (ours,) = train_bank([run], frozen, [one], plan=PLAN)
    torch.testing.assert_close(first, ours.prompts[3], rtol=1e-3, atol=1e-5)


def test_the_peer_stops_when_it_is_right(tiny):
    run = spec(placement="prefix", method="ce", n_tokens=16, lr=0.3, epochs=200, early_stop=True)
    one = [problem("Which letter?", "B", metric="choice")]
    (ours,) = train_bank([run], tiny(), [one], plan=PLAN)
    assert with_peft(run, tiny(), one)() == PeerRun(len(ours.epochs), solved=True)
    assert len(ours.epochs) < 200
    alone = with_peft(run.but(epochs=6), tiny(), one, check=False)()
    assert alone == PeerRun(6, solved=False)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_tsloss_is_added_to_the_trainers_loss(tiny, kind, tmp_path):
    """Its gradient too: what PEFT trains gets the sum of both."""
    frozen = tiny("tiny-llama")
    run = spec(placement="prefix", n_tokens=6)
    model = peers._wrapped(run, frozen, kind)
    one = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 6, 7]])}
    vectors = peers.prompt_vectors(model)
    assert vectors.shape[0] == 6
    assert vectors.requires_grad
    weights = [it for it in model.parameters() if it.requires_grad]

    quiet_arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)

    def loss_and_gradient(weight):
        with models.quiet():
            trainer = TSLossTrainer(model=model, lambda_ts=weight, args=quiet_arguments)
        value = trainer.compute_loss(model, dict(one))
        return value, torch.autograd.grad(value, weights, allow_unused=True)

    plain, own = loss_and_gradient(0.0)
    both, together = loss_and_gradient(100.0)
    ts = TSLoss()(peers.prompt_vectors(model))
    assert both.item() == pytest.approx((plain + 100 * ts).item(), rel=1e-5)
    alone = torch.autograd.grad(100 * ts, weights, allow_unused=True)
    for a, b, c in zip(own, alone, together, strict=True):
        if c is not None:
            wanted = sum(it for it in (a, b) if it is not None)
            torch.testing.assert_close(c, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_call_trains_from_the_same_start(tiny, kind):
    run = spec(placement="prefix", epochs=2, lr=0.01)
    work = with_peft(run, tiny("tiny-llama"), [problem("Which?", "B")], check=False, kind=kind)
    one, other = work(), work()
    assert torch.equal(one.vectors[0], other.vectors[0])
    torch.testing.assert_close(one.vectors[1], other.vectors[1])
    assert not torch.equal(one.vectors[0], one.vectors[1])


def test_tsloss_in_a_real_peft_training_run_changes_the_prompt(tiny):
    frozen = tiny("tiny-llama")
    one = [problem("Which letter?", "B", metric="choice")]
    run = spec(placement="prefix", epochs=3, lr=0.01)
    plain = with_peft(run.but(method="ce", lambda_ts=0.0), frozen, one, check=False)()
    ours = with_peft(run.but(method="tsloss", lambda_ts=1.0), frozen, one, check=False)()
    assert torch.equal(plain.vectors[0], ours.vectors[0])
    assert not torch.equal(plain.vectors[1], ours.vectors[1])
    bank = train_bank([run.but(method="tsloss", lambda_ts=1.0)], frozen, [one], plan=PLAN)[0]
    last = bank.prompts[max(bank.prompts)]
    torch.testing.assert_close(ours.vectors[1], last, rtol=1e-3, atol=1e-4)
