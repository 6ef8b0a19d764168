"""TSLoss in transformers' Trainer, for the prompt methods of PEFT."""

import math
from typing import Any

import torch
from transformers import Trainer

from tsp.errors import InputError
from tsp.loss import TSLoss


class TSLossTrainer(Trainer):
    """`transformers.Trainer` that adds lambda_ts * TSLoss of a PEFT model's prompt vectors.

    Parameters
    ----------
    ts_loss
        The loss; by default TSLoss with its default constants.
    more
        Arguments of `transformers.Trainer`; ``model`` is a PEFT model for prompt tuning, p-tuning
        or prefix tuning.

    Notes
    -----
    TSLoss counts once a step for any number of micro-batches and processes, and in ``eval_loss``.
    """

    def __init__(
        self, *args: Any, ts_loss: TSLoss | None = None, lambda_ts: float = 1.0, **more: Any
    ) -> None:
        if not 0 <= lambda_ts < math.inf:
            raise InputError("lambda_ts", lambda_ts, "give a finite number of at least 0")
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
    """Return the vectors that a PEFT prompt method trains, (n, D), with their gradient.

    D = d except in prefix tuning, where a vector holds keys and values of all layers.

    Raises
    ------
    InputError
        If the model has no such prompt, as one for LoRA.
    """
    if not hasattr(model, "prompt_encoder"):
        remedy = "give a PEFT model for prompt tuning, p-tuning or prefix tuning"
        raise InputError("model", type(model).__name__, remedy)
    name = model.active_adapter
    encoder = model.prompt_encoder[name]
    device = next(encoder.parameters()).device
    batch: torch.Tensor = encoder(model.prompt_tokens[name].to(device)[None])
    return batch[0]
