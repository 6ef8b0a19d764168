"""What a user would pick instead: PEFT's prompt tuning, transformers' Trainer and generate."""

import copy
import io
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from tsp.members import Member
from tsp.models import Frozen, quiet
from tsp.spec import RunSpec
from tsp.tasks import Problem, is_correct


@dataclass(frozen=True)
class PeerRun:
    """How training ended: after how many epochs, and whether all answers were right then."""

    epochs: int
    solved: bool


def with_peft(
    spec: RunSpec, frozen: Frozen, problems: list[Problem], *, check: bool = True
) -> Callable[[], PeerRun]:
    """Make ready to train one prompt with PEFT's and transformers' own code, as often as called.

    The same model, problems, first prompt, optimiser, schedule and longest answer as
    `tsp.trainer.train_bank` has for ``spec``; every ``check_every`` epochs the answers are
    generated, ten problems in one padded batch, and with ``early_stop`` training ends at the
    first check that is all correct.

    Parameters
    ----------
    spec
        A run with the placement ``prefix``, the only one that PEFT has.
    frozen
        The model; a copy of it is wrapped.
    problems
        What to train on.
    check
        Generate answers at all.

    Returns
    -------
    callable
        Trains from the first prompt and says how it went.
    """
    member = Member(spec, frozen, problems)  # tokens, limits and steps are the same
    wrapped = _wrapped(spec, frozen)

    def work() -> PeerRun:
        callback = _Check(member, wrapped, frozen, check)
        with torch.no_grad():
            wrapped.prompt_encoder.default.embedding.weight.copy_(member.prompt)
        with quiet(), redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
            Trainer(
                model=wrapped,
                args=_arguments(spec, folder, member, cpu=frozen.device.type == "cpu"),
                train_dataset=[_example(coded) for coded in member.encoded],
                data_collator=lambda items: _padded(items, frozen),
                callbacks=[callback],
            ).train()
        return PeerRun(callback.epochs, callback.solved)

    return work


class _Check(TrainerCallback):
    """Generate the answers every few epochs and stop once they are right."""

    def __init__(self, member: Member, wrapped: Any, frozen: Frozen, check: bool) -> None:
        self.member, self.wrapped, self.frozen = member, wrapped, frozen
        self.check, self.epochs, self.solved = check, 0, False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Check after every ``check_every`` epochs."""
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
            max_new_tokens=max(member.wish(k).limit for k in range(len(questions))),
            do_sample=False,
        )
        self.wrapped.train()
        texts = frozen.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
        pairs = zip(member.problems, texts, strict=True)
        return all(is_correct(problem, text.strip()) for problem, text in pairs)


def _wrapped(spec: RunSpec, frozen: Frozen) -> Any:
    model = copy.deepcopy(frozen.model)
    model.set_attn_implementation("sdpa")  # what transformers gives who asks for nothing
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=spec.n_tokens)
    with quiet():
        return get_peft_model(model, config)


def _arguments(spec: RunSpec, folder: str, member: Member, *, cpu: bool) -> TrainingArguments:
    told = spec.settings
    steps = told.epochs * member.steps_per_epoch
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=told.epochs,
        per_device_train_batch_size=told.batch_size,
        learning_rate=spec.lr,
        lr_scheduler_type="linear",
        warmup_steps=round(told.warmup_fraction * steps),
        adam_beta1=told.betas[0],
        adam_beta2=told.betas[1],
        adam_epsilon=told.eps,
        weight_decay=told.weight_decay,
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


def _padded(items: list[dict[str, list[int]]], frozen: Frozen) -> dict[str, torch.Tensor]:
    longest = max(len(item["input_ids"]) for item in items)
    fill = {"input_ids": frozen.end_ids[0], "labels": -100, "attention_mask": 0}
    rows = [item | {"attention_mask": [1] * len(item["input_ids"])} for item in items]
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }
