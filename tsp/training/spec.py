"""`RunSpec`: everything that determines the outcome of one training run, and the id it gives."""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from tsp.errors import InputError
from tsp.training.protocols import PROTOCOLS, Protocol

if TYPE_CHECKING:
    from tsp.problems.loading import Problem

REGIMES = ("single", "multi")
METHODS = ("ce", "tsloss", "l2", "pairwise", "persistence", "sham")
PLACEMENTS = ("after_question", "prefix")
INITS = ("gaussian", "repeated", "vocabulary", "question", "trained")
ROUNDINGS = ("", "precision", "threads", "bank")
LOSS_FIELDS = (
    "tau",
    "alpha",
    "beta_h0",
    "beta_h1",
    "lambda_repel",
    "lambda_attract",
    "self_pairs",
    "detach_thresholds",
)
METHOD_FIELDS = (*LOSS_FIELDS, "weighting")  # a run without TSLoss has their defaults
NAME = re.compile(r"(?s)(?=.*\S)[^\0\ud800-\udfff]+")  # not blank, without NUL, valid UTF-8
RUN_NAME = re.compile(r"|[0-9a-f]{16}|#[0-9]{1,9}")


def _option(help: str, default: Any = None, *, later: bool = False, **bounds: Any) -> Any:
    """Describe a field: its help text, its default (None: the protocol's value) and its bounds.

    ``bounds`` are ``choices`` of a word, ``least`` and ``most`` of a number, or ``above`` if it
    must exceed 0. ``later`` marks a field that was added after runs had been published: at its
    usual value it does not enter a run's id, so that earlier runs keep theirs.
    """
    metadata = {"help": help, "later": later, "of_protocol": default is None} | bounds
    return field(default=default, metadata=metadata)


def _plain(value: Any) -> Any:
    """Return a number of NumPy or pandas as Python's, and a path as text."""
    if isinstance(value, PurePath):
        return str(value)
    return value.item() if hasattr(value, "dtype") and value.ndim == 0 else value


def _check(item: "Field[Any]", value: Any) -> None:
    """Raise unless a value has its field's type and lies within its bounds."""
    bounds = item.metadata
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if item.type is bool:
        valid, remedy = isinstance(value, bool), "give true or false"
    elif item.type is int:
        valid = is_number and isinstance(value, int) and bounds["least"] <= value < 2**63
        remedy = f"give a whole number of at least {bounds['least']}, below 2**63"
    elif item.type is float:
        above, most = bounds.get("above", False), bounds.get("most", sys.float_info.max)
        valid = is_number and 0 <= value <= most and not (above and value == 0)  # nan is invalid
        remedy = f"give a finite number {'above' if above else 'of at least'} 0"
        remedy += f" and at most {most:g}" if "most" in bounds else ""
    elif "choices" in bounds:
        valid, remedy = value in bounds["choices"], f"choose one of {', '.join(bounds['choices'])}"
    elif item.name == "init_run":
        valid = isinstance(value, str) and RUN_NAME.fullmatch(value) is not None
        remedy = "give a run's id, or #K for the Standard run on problem K"
    else:
        valid = isinstance(value, str) and NAME.fullmatch(value) is not None
        remedy = "give a name"
    if not valid:
        raise InputError(item.name, value, remedy)


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Specification of one run: validated, complete and immutable.

    Fields left at ``None`` take the value of `protocol` (see `tsp.training.protocols.PROTOCOLS`),
    so a finished spec has none. ``lambda_ts = 0`` and ``method = "ce"`` are one run: both become
    the second, and a method that does not use TSLoss keeps its parameters at their defaults.
    Every field is an option of ``tsp run``, whose help texts are the fields' metadata; some need
    more words:

    Parameters
    ----------
    model
        A name of `tsp.training.models.MODELS`, a tiny model, a Hugging Face id or a local folder.
    method, lambda_ts
        Regulariser added to the cross-entropy, and its weight (equation 8, section 4.2). ``sham``
        adds TSLoss's gradient with its coordinates permuted and signs flipped
        (`tsp.training.penalties`).
    placement
        ``"after_question"``: at the end of the user turn; ``"prefix"``: before everything.
    lr
        Learning rate at the end of the warm-up.
    epochs
        Epochs trained, of a schedule that is always as long as the protocol's.
    seed
        Seed of the run's generator, which draws the initial prompt, then the problems' order.
    init
        ``"gaussian"``, ``"repeated"`` (one token's embedding n times), ``"vocabulary"``
        (embeddings of n tokens drawn without replacement), ``"question"`` (embeddings of the
        question's first n tokens, repeated where it is shorter) or ``"trained"``: the last prompt
        of the stored run ``init_run``.
    init_run
        Id of a stored run, or ``"#K"``: the Standard run on problem K with the same options.
    embed_scale
        Factor on the prompt where it meets the token embeddings (Gemma before transformers
        5.5: the square root of d).
    tau, alpha, beta_h0, beta_h1, lambda_repel, lambda_attract, self_pairs, detach_thresholds
        Options of `tsp.TSLoss`.
    weighting
        ``"fixed"``: as in equation 8; ``"gradient"``: at every step the gradients of TSLoss's
        H0 and H1 terms are first scaled to the norm of the cross-entropy's gradient.
    rounding
        Compute the same run in another way, to measure how far rounding moves an outcome:
        ``"precision"`` (the other one), ``"threads"`` (two, or one) or ``"bank"`` (alone).

    Raises
    ------
    InputError
        If a field has an invalid value; the message names the field, the value and what is allowed.

    Examples
    --------
    >>> spec = RunSpec(task="gsm8k", lambda_ts=0)
    >>> spec.method, spec.lr, spec.epochs
    ('ce', 0.01, 300)
    """

    model: str = _option(
        "Model: a name `tsp doctor` lists, a hub id or a local folder.", "smollm2-135m-instruct"
    )
    task: str = _option("Benchmark: gsm8k, mmlu_cf, longbench, math, bbh or hotpotqa.", "gsm8k")
    data: str = _option(
        "Source of the problems: shipped, hub, or a folder DIR that holds TASK.jsonl.", "shipped"
    )
    regime: str = _option(
        "Number of problems: single (one) or multi (ten, K to K+9).", "single", choices=REGIMES
    )
    problem: int = _option("Number K of the (first) problem, from 0.", 0, least=0)
    method: str = _option(
        "Regularizer: ce (none), tsloss, l2, pairwise, persistence or sham.",
        "tsloss",
        choices=METHODS,
    )
    lambda_ts: float = _option("Weight of the regularizer.", 1.0)
    protocol: str = _option(
        "Protocol: paper, tuned (a higher learning rate) or released (the public code's).",
        "tuned",
        choices=tuple(PROTOCOLS),
    )
    placement: str = _option(
        "Place of the prompt: after_question or prefix.", "after_question", choices=PLACEMENTS
    )
    n_tokens: int = _option("Rows of the prompt.", least=1)
    lr: float = _option("Learning rate.", above=True)
    epochs: int = _option("Epochs trained; the schedule keeps the protocol's length.", least=1)
    seed: int = _option("Random seed of the initial prompt and the problems' order.", 0, least=0)
    init: str = _option(
        "Initial prompt: gaussian, repeated, vocabulary, question or trained.", choices=INITS
    )
    early_stop: bool = _option("Stop at the first check with every answer correct.", False)
    check_every: int = _option("Epochs between two checks.", least=1)
    snapshot_every: int = _option(
        "Epochs between two stored prompts; checks at these epochs ask every problem.", least=1
    )
    max_new_tokens: int = _option(
        "Longest answer at a check, in tokens; 0: the reference's length plus 32.", 0, least=0
    )
    embed_scale: float = _option("Factor on the prompt at the model's input.", 1.0, above=True)
    wrong_answers: bool = _option("Train on the answer of another problem.", False)
    tau: float = _option("TSLoss: temperature of the soft nearest neighbour.", 0.1, above=True)
    alpha: float = _option("TSLoss: sharpness of delta and zeta.", 10.0, above=True)
    beta_h0: float = _option("TSLoss: weight of the H0 term.", 1.0)
    beta_h1: float = _option("TSLoss: weight of the H1 term.", 1.0)
    lambda_repel: float = _option("TSLoss: weight of repulsion.", 1.0)
    lambda_attract: float = _option("TSLoss: weight of attraction.", 1.0)
    self_pairs: bool = _option("TSLoss: keep i = j in every sum, as printed.", False)
    detach_thresholds: bool = _option("TSLoss: no gradient through delta and zeta.", False)
    weighting: str = _option(
        "TSLoss: fixed, or gradient (its terms scaled to the cross-entropy's gradient).",
        "fixed",
        choices=("fixed", "gradient"),
    )
    schedule: str = _option(
        "Learning rate schedule: linear or constant.", choices=("linear", "constant"), later=True
    )
    warmup_fraction: float = _option("Share of all steps that warm up.", most=1.0, later=True)
    clip_norm: float = _option("Largest norm of the gradient; 0: no clipping.", 0.0, later=True)
    init_run: str = _option(
        "With --init trained: id of the stored run whose last prompt is the first one here.",
        "",
        later=True,
    )
    rounding: str = _option(
        "Compute the same run differently: precision, threads or bank; empty: as planned.",
        "",
        choices=ROUNDINGS,
        later=True,
    )

    def __post_init__(self) -> None:
        _check(self.__dataclass_fields__["protocol"], self.protocol)  # others take its values
        for item in fields(self):
            value = getattr(self, item.name)
            self._set(item.name, self._usual(item) if value is None else _plain(value))
            _check(item, getattr(self, item.name))
            if item.type is float:  # 1 and 1.0 are one run
                self._set(item.name, float(getattr(self, item.name)))
        if (self.init == "trained") != bool(self.init_run):
            remedy = "give a run's id together with init 'trained', and only with it"
            raise InputError("init_run", self.init_run, remedy)
        longest = self.settings.epochs
        if self.epochs > longest:
            remedy = f"protocol '{self.protocol}' schedules {longest} at most"
            raise InputError("epochs", self.epochs, remedy)
        if self.method == "ce" or self.lambda_ts == 0:
            self._set("method", "ce")
            self._set("lambda_ts", 0.0)
        used = {"tsloss": METHOD_FIELDS, "sham": METHOD_FIELDS, "persistence": LOSS_FIELDS}
        for name in set(METHOD_FIELDS).difference(used.get(self.method, ())):
            self._set(name, getattr(RunSpec, name))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _usual(self, item: "Field[Any]") -> Any:
        """Return the value of a field that the user did not give."""
        if not item.metadata["of_protocol"]:
            return item.default
        return getattr(
            self.settings, "topology_every" if item.name == "snapshot_every" else item.name
        )

    @property
    def settings(self) -> Protocol:
        """The protocol's optimiser and schedule."""
        return PROTOCOLS[self.protocol]

    @property
    def loss_options(self) -> dict[str, Any]:
        """Keyword arguments for `tsp.TSLoss`."""
        return {name: getattr(self, name) for name in LOSS_FIELDS}

    @property
    def label(self) -> str:
        """A few words that tell this run from its neighbours, for progress bars and lists."""
        weight = "" if self.method == "ce" else f" λ={self.lambda_ts:g}"
        last = "" if self.regime == "single" else f"-{self.problem + 9}"
        run = f"{self.method}{weight} {self.protocol} seed {self.seed}"
        return f"{self.task}#{self.problem}{last} {run}"

    def records_at(self, epoch: int, *, last: int) -> bool:
        """Return whether a check records all: every ``snapshot_every`` epochs and the ``last``."""
        return epoch % self.snapshot_every == 0 or epoch == last

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunSpec":
        """Read back what `to_dict` gave; an unknown field is an `InputError`."""
        if not isinstance(values, dict):
            raise InputError("spec", type(values).__name__, "give an object with a run's fields")
        known = sorted(item.name for item in fields(cls))
        for name in values:
            if name not in known:
                raise InputError("field", name, f"a run has {', '.join(known)}")
        return cls(**values)

    def but(self, **changes: Any) -> "RunSpec":
        """Return the same spec with some fields changed, checked again.

        With another protocol, fields that had the old one's value take the new one's; with
        another method, ``ce`` loses its weight 0.
        """
        if "protocol" in changes:
            items = [item for item in fields(self) if item.metadata["of_protocol"]]
            usual = [i.name for i in items if getattr(self, i.name) == self._usual(i)]
            changes = dict.fromkeys(usual) | changes
        if self.method == "ce" and changes.get("method", "ce") != "ce":
            changes = {"lambda_ts": RunSpec.lambda_ts} | changes
        return replace(self, **changes)

    def id(self, problems: Sequence["Problem"], *, model: str | None = None) -> str:
        """Hash of what determines the outcome: not the data's folder, the device or the bank.

        Parameters
        ----------
        problems
            The problems trained on; their content counts, not where they came from.
        model
            Content hash that stands for a model read from a folder
            (`tsp.training.models.fingerprint`).

        Returns
        -------
        str
            Sixteen hexadecimal digits.
        """
        content = self.to_dict() | {"model": model or self.model}
        del content["data"], content["problem"]  # where from, not what
        for item in fields(self):
            if item.metadata["later"] and content[item.name] == self._usual(item):
                del content[item.name]
        content["protocol"] = asdict(self.settings)
        content["problems"] = [[one.sha256, one.question, one.target] for one in problems]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@cache
def later_fields(protocol: str) -> dict[str, Any]:
    """Return the values of the fields that a run stored before they were added does not name."""
    usual = RunSpec(protocol=protocol)
    names = [item.name for item in fields(RunSpec) if item.metadata["later"]]
    return {name: getattr(usual, name) for name in names}
