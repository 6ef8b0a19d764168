"""One prompt trained by the code of PEFT and transformers: the peer of our trainer."""

import copy
import io
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from torch import Tensor
from transformers import StoppingCriteria, Trainer, TrainerCallback, TrainingArguments

from tsp.interop.peers import TSLossTrainer, prompt_vectors
from tsp.loss import TSLoss
from tsp.problems.loading import Problem, is_correct
from tsp.problems.scoring import DECIDED
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
    """The end of a training; ``vectors`` (2, n, D) are the trained ones, before and after."""

    epochs: int
    solved: bool
    vectors: torch.Tensor = field(default_factory=lambda: torch.zeros(2, 0, 0), compare=False)


def with_peft(
    spec: RunSpec,
    frozen: BaseLM,
    problems: list[Problem],
    *,
    check: bool = True,
    kind: str = "prompt tuning",
    bf16: bool = False,
) -> Callable[[], PeerRun]:
    """Return a function that trains one prompt with the code of PEFT and transformers.

    Problems, first prompt, optimiser, schedule and longest answer are those of
    `tsp.training.trainer.train_bank` for ``spec``, whose method is ``ce`` or ``tsloss`` and whose
    placement is ``prefix``. The model is a copy of ``frozen``.

    Parameters
    ----------
    check
        Generate the answers every ``check_every`` epochs, all problems in one padded batch; with
        ``early_stop`` training ends at the first check that is all correct.
    kind
        One of `KINDS`. Prompt tuning starts from the first prompt of ``spec``, the others from
        PEFT's initial values.
    bf16
        Compute the passes of training in bfloat16, as the Trainer's option of this name does.
    """
    run = PromptRun(spec, frozen, problems)  # tokens, limits and steps are the same
    model = peft_model(spec, frozen, kind)
    initial = copy.deepcopy(model.prompt_encoder.state_dict())
    trainer: Callable[..., Trainer] = Trainer
    if spec.method == "tsloss":
        ts_loss = TSLoss(**{name: getattr(spec, name) for name in LOSS_FIELDS})
        trainer = partial(TSLossTrainer, ts_loss=ts_loss, lambda_ts=spec.lambda_ts)

    def train() -> PeerRun:
        callback = _Stop(Answers(run, model, frozen), check)
        model.prompt_encoder.load_state_dict(initial)
        if kind == "prompt tuning":
            with torch.no_grad():
                model.prompt_encoder.default.embedding.weight.copy_(run.prompt)
        first = prompt_vectors(model).detach().clone()
        with quiet(), redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
            trainer(
                model=model,
                args=_arguments(spec, folder, run, cpu=frozen.device.type == "cpu", bf16=bf16),
                train_dataset=[_example(coded) for coded in run.encoded],
                data_collator=partial(_padded, fill=frozen.end_ids[0]),
                callbacks=[callback],
            ).train()
        last = prompt_vectors(model).detach()
        return PeerRun(callback.epochs, callback.solved, torch.stack([first, last]).cpu())

    return train


def peft_model(spec: RunSpec, frozen: BaseLM, kind: str) -> Any:
    """Wrap a copy of the model for one of `KINDS`."""
    model = copy.deepcopy(frozen.model)
    model.set_attn_implementation("sdpa")  # transformers' default
    config = KINDS[kind](task_type="CAUSAL_LM", num_virtual_tokens=spec.n_tokens)
    torch.manual_seed(spec.seed)
    with quiet():
        return get_peft_model(model, config)


class _Stop(TrainerCallback):
    """Check the answers every few epochs and stop once they are right."""

    def __init__(self, answers: "Answers", check: bool) -> None:
        self.answers, self.check, self.epochs, self.solved = answers, check, 0, False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Check every ``check_every`` epochs."""
        spec, self.epochs = self.answers.run.spec, self.epochs + 1
        last = self.epochs >= spec.epochs
        if self.check and (self.epochs % spec.check_every == 0 or last):
            self.solved = all(self.answers.right())
        control.should_training_stop = last or (self.solved and spec.early_stop)
        return control


@dataclass(frozen=True)
class Answers:
    """Answers of a model of PEFT to the problems of a run, from ``generate``."""

    run: PromptRun
    model: Any
    frozen: BaseLM

    @classmethod
    def of(
        cls, spec: RunSpec, frozen: BaseLM, problems: list[Problem], prompt: Tensor
    ) -> "Answers":
        """Answer with a prompt, (n, d), before everything else."""
        model = peft_model(spec, frozen, "prompt tuning")
        with torch.no_grad():
            model.prompt_encoder.default.embedding.weight.copy_(prompt)
        return cls(PromptRun(spec, frozen, problems), model, frozen)

    def all_right(self, order: Sequence[int]) -> bool:
        """Ask for one answer, then for two, then four; end at the first that is wrong.

        An answer ends once its score is decided, as in our decoding.
        """
        count, rest = 1, list(order)
        while rest and all(self.right(rest[:count], stop=True)):
            rest, count = rest[count:], 2 * count
        return not rest

    @torch.no_grad()
    def right(self, chosen: Sequence[int] | None = None, *, stop: bool = False) -> list[bool]:
        """Return whether the answers to some problems, generated together, are right."""
        run, frozen = self.run, self.frozen
        numbers = range(len(run.problems)) if chosen is None else chosen
        questions = [list(run.encoded[k].after) for k in numbers]
        padding = [max(map(len, questions)) - len(question) for question in questions]
        rows = list(zip(padding, questions, strict=True))
        ids = torch.tensor([[frozen.end_ids[0]] * pad + question for pad, question in rows])
        mask = torch.tensor([[0] * pad + [1] * len(question) for pad, question in rows])
        longest = max(run.longest_answer(k) for k in numbers)
        inputs = {"input_ids": ids.to(frozen.device), "attention_mask": mask.to(frozen.device)}
        criteria = [_Decided(self, numbers, start=ids.shape[1])] if stop else []
        self.model.eval()
        out = self.model.generate(
            **inputs, max_new_tokens=longest, do_sample=False, stopping_criteria=criteria
        )
        self.model.train()
        pairs = zip(numbers, self.texts(out[:, ids.shape[1] :]), strict=True)
        return [is_correct(run.problems[k], text) for k, text in pairs]

    def texts(self, ids: Tensor) -> list[str]:
        """Return the text of each row of tokens."""
        decode = self.frozen.tokenizer.batch_decode
        return [text.strip() for text in decode(ids, skip_special_tokens=True)]


class _Decided(StoppingCriteria):
    """End answers to some problems once their scores are decided."""

    def __init__(self, answers: Answers, numbers: Sequence[int], *, start: int) -> None:
        self.answers, self.start = answers, start
        problems = [answers.run.problems[k] for k in numbers]
        self.decided = [DECIDED.get(problem.metric) for problem in problems]

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Return for each row whether its answer, which begins at ``start``, has ended."""
        texts = self.answers.texts(input_ids[:, self.start :])
        pairs = zip(self.decided, texts, strict=True)
        ended = [decided is not None and decided(text) for decided, text in pairs]
        return torch.tensor(ended, device=input_ids.device)


def _arguments(
    spec: RunSpec, folder: str, run: PromptRun, *, cpu: bool, bf16: bool
) -> TrainingArguments:
    settings = spec.settings
    steps = settings.epochs * run.steps_per_epoch
    arguments = TrainingArguments(
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
        bf16=bf16,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        seed=spec.seed,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # one run on several GPUs would be no peer
    return arguments


def _example(coded: Any) -> dict[str, list[int]]:
    labels = [-100] * len(coded.after) + list(coded.target)
    return {"input_ids": [*coded.after, *coded.target], "labels": labels}


def _padded(items: list[dict[str, list[int]]], *, fill: int) -> dict[str, torch.Tensor]:
    longest = max(len(item["input_ids"]) for item in items)
    rows = [item | {"attention_mask": [1] * len(item["input_ids"])} for item in items]
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in {"input_ids": fill, "labels": -100, "attention_mask": 0}.items()
    }
