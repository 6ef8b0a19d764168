"""The three training protocols: the paper's, the tuned one and the one of the public code."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Protocol:
    """How a soft prompt is trained; the defaults are the paper's, section 4.2.

    Attributes
    ----------
    optimizer, lr, betas, eps, weight_decay
        The optimiser and its constants (Adam's weight decay is the coupled, L2 kind).
    schedule, warmup_fraction
        ``linear``, as in transformers: from 0 at the first step up over the first
        ``warmup_fraction`` of all steps, then down to 0 at the step that would follow the last;
        ``constant``: ``lr`` after the warm-up.
    epochs
        Length of training, and of the schedule.
    batch_size
        Problems in one optimiser step; ten problems at batch size 8 are two steps an epoch.
    init, init_std
        ``gaussian``: N(0, ``init_std``² I); ``repeated``: the embedding of one token, "x", in
        every row.
    check_every, topology_every
        Epochs between two checks of the decoded answers, and between two stored diagrams.
    n_tokens
        Rows of the soft prompt.
    end_token
        Whether the training target ends with the model's end-of-turn token.
    position_code
        Whether a sinusoidal code of the row's position is added to the prompt on its way into
        the model (the stored prompt, whose topology is measured, is without it).

    Notes
    -----
    The paper gives neither ``n_tokens`` nor ``check_every``: 40 and 2 are what the authors'
    public analysis code uses, and every count in Table 3 is even.
    """

    name: str
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = 5e-5
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    schedule: Literal["linear", "constant"] = "linear"
    warmup_fraction: float = 0.1
    epochs: int = 300
    batch_size: int = 8
    init: Literal["gaussian", "repeated"] = "gaussian"
    init_std: float = 0.02
    check_every: int = 2
    topology_every: int = 20
    n_tokens: int = 40
    end_token: bool = True
    position_code: bool = False


PAPER = Protocol("paper")

TUNED = replace(PAPER, name="tuned", lr=1e-2)
"""The paper's protocol with the learning rate at which SmolLM2-135M-Instruct converges."""

RELEASED = replace(
    PAPER,
    name="released",
    optimizer="adam",
    lr=5e-6,
    betas=(0.9, 0.999),
    eps=1e-6,
    weight_decay=0.0,
    schedule="constant",
    warmup_fraction=0.0,
    batch_size=10,
    init="repeated",
    end_token=False,
    position_code=True,
)
"""The authors' public code (GitHub ``zhang-song-bo/Analyze-softprompt-using-TDA``), its script for
one question. Its prompt is "x " forty times, in as many rows as the tokenizer makes of it; here
40. It computes in float16 and cuts the Rips filtration at distance 3; here prompts are float32 and
the filtration is whole. It contains no TSLoss. Its script for a data set accumulates two half
batches of five (so ``batch_size`` is 10), clips gradients to norm 1, halves the learning rate on a
plateau, counts padding in the loss and adds no position code.
"""

LENGTH = 100
"""Epochs of a published run, of the 300 in its schedule; longer runs are read up to here."""

PROTOCOLS = {protocol.name: protocol for protocol in (PAPER, TUNED, RELEASED)}
