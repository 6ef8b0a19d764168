"""PEFT's prompt methods in transformers' Trainer: with TSLoss added, and as a peer of ours."""

import copy
import io
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from peft import (
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from transformers import Trainer, TrainerCallback, TrainingArguments

from tsp.loss import TSLoss
from tsp.problems.loading import Problem, is_correct
from tsp.training.members import PromptRun
from tsp.training.models import BaseLM, quiet
from tsp.training.spec import LOSS_FIELDS, RunSpec

KINDS: dict[str, Any] = {
    "prompt tuning": PromptTuningConfig,
    "p-tuning": PromptEncoderConfig,
    "prefix tuning": PrefixTuningConfig,
}
"""PEFT's prompt methods: trained vectors; the output of a small network; keys and values."""


@dataclass(frozen=True)
class PeerRun:
    """The end of a training: its epochs, and whether all answers were right.

    ``vectors`` (2, n, D) are those that TSLoss sees, before and after.
    """

    epochs: int
    solved: bool
    vectors: torch.Tensor = field(default_factory=lambda: torch.zeros(2, 0, 0), compare=False)


class TSLossTrainer(Trainer):
    """`transformers.Trainer` that adds lambda_ts * TSLoss of a PEFT model's prompt vectors.

    Parameters
    ----------
    ts_loss
        The loss; by default TSLoss with its default constants.
    lambda_ts
        Weight of the loss.
    more
        Arguments of `transformers.Trainer`; ``model`` is a PEFT model of `KINDS`.

    Notes
    -----
    TSLoss counts once a step for any number of micro-batches and processes, and in ``eval_loss``.
    """

    def __init__(
        self, *args: Any, ts_loss: TSLoss | None = None, lambda_ts: float = 1.0, **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.ts_loss = ts_loss or TSLoss()
        self.lambda_ts = lambda_ts

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the Trainer's cross-entropy plus the weighted TSLoss."""
        loss, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        vectors = prompt_vectors(self.accelerator.unwrap_model(model))
        added = self.lambda_ts * self.ts_loss(vectors).to(loss)
        # The Trainer sums such losses over the micro-batches of a step.
        if model.training and self._is_a_share(num_items_in_batch):
            added = added / self.current_gradient_accumulation_steps
        loss = loss + added
        return (loss, outputs) if return_outputs else loss

    def _is_a_share(self, num_items_in_batch: Any) -> bool:
        """Return whether the Trainer takes the loss as a share of the step's (`training_step`)."""
        if self.loss_is_scaled_for_ga is not None:
            return self.loss_is_scaled_for_ga
        by_model = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        return by_model or self.compute_loss_func is not None


def prompt_vectors(model: Any) -> torch.Tensor:
    """Return what a PEFT model of `KINDS` trains, as a cloud with a gradient.

    Returns
    -------
    Tensor
        (n, D). D = d except in prefix tuning, where a vector holds keys and values of all layers.
    """
    name = model.active_adapter
    encoder = model.prompt_encoder[name]
    device = next(encoder.parameters()).device
    made: torch.Tensor = encoder(model.prompt_tokens[name].to(device)[None])
    return made[0]


def with_peft(
    spec: RunSpec,
    frozen: BaseLM,
    problems: list[Problem],
    *,
    check: bool = True,
    kind: str = "prompt tuning",
) -> Callable[[], PeerRun]:
    """Return a function that trains one prompt with the code of PEFT and transformers.

    Model, problems, first prompt, optimiser, schedule and longest answer are those of
    `tsp.training.trainer.train_bank` for ``spec``; the method is ``ce`` or ``tsloss``. Every
    ``check_every`` epochs answers are generated, ten problems in one padded batch; with
    ``early_stop`` training ends at the first check that is all correct.

    Parameters
    ----------
    spec
        A run with the placement ``prefix``, the only one that PEFT has.
    frozen
        The model, of which a copy is wrapped.
    problems
        The problems to train on.
    check
        Generate answers at checks.
    kind
        One of `KINDS`. Prompt tuning starts from the first prompt of ``spec``, the others from
        PEFT's initial values.

    Returns
    -------
    callable
        Trains from the start at each call, and returns a `PeerRun`.
    """
    member = PromptRun(spec, frozen, problems)  # tokens, limits and steps are the same
    wrapped = _wrapped(spec, frozen, kind)
    begun = copy.deepcopy(wrapped.prompt_encoder.state_dict())
    trainer: Callable[..., Trainer] = Trainer
    if spec.method == "tsloss":
        ts_loss = TSLoss(**{name: getattr(spec, name) for name in LOSS_FIELDS})
        trainer = partial(TSLossTrainer, ts_loss=ts_loss, lambda_ts=spec.lambda_ts)

    def work() -> PeerRun:
        callback = _Check(member, wrapped, frozen, check)
        wrapped.prompt_encoder.load_state_dict(begun)
        if kind == "prompt tuning":
            with torch.no_grad():
                wrapped.prompt_encoder.default.embedding.weight.copy_(member.prompt)
        first = prompt_vectors(wrapped).detach().clone()
        with quiet(), redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
            trainer(
                model=wrapped,
                args=_arguments(spec, folder, member, cpu=frozen.device.type == "cpu"),
                train_dataset=[_example(coded) for coded in member.encoded],
                data_collator=lambda items: _padded(items, frozen),
                callbacks=[callback],
            ).train()
        last = prompt_vectors(wrapped).detach()
        return PeerRun(callback.epochs, callback.solved, torch.stack([first, last]).cpu())

    return work


class _Check(TrainerCallback):
    """Generate the answers every few epochs and stop once they are right."""

    def __init__(self, member: PromptRun, wrapped: Any, frozen: BaseLM, check: bool) -> None:
        self.member, self.wrapped, self.frozen = member, wrapped, frozen
        self.check, self.epochs, self.solved = check, 0, False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Check every ``check_every`` epochs."""
        self.epochs += 1
        spec = self.member.spec
        if self.check and (self.epochs % spec.check_every == 0 or self.epochs == spec.epochs):
            self.solved = self._right()
            control.should_training_stop = self.solved and spec.early_stop
        if self.epochs >= spec.epochs:
            control.should_training_stop = True
        return control

    @torch.no_grad()
    def _right(self) -> bool:
        member, frozen = self.member, self.frozen
        questions = [coded.after for coded in member.encoded]
        longest = max(map(len, questions))
        pad = frozen.end_ids[0]
        ids = torch.tensor([[pad] * (longest - len(q)) + list(q) for q in questions])
        mask = torch.tensor([[0] * (longest - len(q)) + [1] * len(q) for q in questions])
        self.wrapped.eval()
        out = self.wrapped.generate(
            input_ids=ids.to(frozen.device),
            attention_mask=mask.to(frozen.device),
            max_new_tokens=max(member.longest_answer(k) for k in range(len(questions))),
            do_sample=False,
        )
        self.wrapped.train()
        texts = frozen.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
        pairs = zip(member.problems, texts, strict=True)
        return all(is_correct(problem, text.strip()) for problem, text in pairs)


def _wrapped(spec: RunSpec, frozen: BaseLM, kind: str) -> Any:
    model = copy.deepcopy(frozen.model)
    model.set_attn_implementation("sdpa")  # transformers' default
    config = KINDS[kind](task_type=TaskType.CAUSAL_LM, num_virtual_tokens=spec.n_tokens)
    torch.manual_seed(spec.seed)
    with quiet():
        return get_peft_model(model, config)


def _arguments(spec: RunSpec, folder: str, member: PromptRun, *, cpu: bool) -> TrainingArguments:
    settings = spec.settings
    steps = settings.epochs * member.steps_per_epoch
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=spec.lr,
        lr_scheduler_type="linear",
        warmup_steps=round(settings.warmup_fraction * steps),
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        adam_epsilon=settings.eps,
        weight_decay=settings.weight_decay,
        max_grad_norm=0.0,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=cpu,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        seed=spec.seed,
    )


def _example(coded: Any) -> dict[str, list[int]]:
    return {
        "input_ids": [*coded.after, *coded.target],
        "labels": [-100] * len(coded.after) + list(coded.target),
    }


def _padded(items: list[dict[str, list[int]]], frozen: BaseLM) -> dict[str, torch.Tensor]:
    longest = max(len(item["input_ids"]) for item in items)
    fill = {"input_ids": frozen.end_ids[0], "labels": -100, "attention_mask": 0}
    rows = [item | {"attention_mask": [1] * len(item["input_ids"])} for item in items]
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }
