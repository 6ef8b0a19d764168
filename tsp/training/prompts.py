"""The soft prompts: how they start, where they sit among the tokens, how PEFT reads them."""

import json
import math
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tsp.atomic import new_folder
from tsp.errors import SHOWN, InputError, one_line
from tsp.problems import hub
from tsp.training.models import Frozen
from tsp.training.spec import RunSpec

REPEATED_TOKEN = "x "  # what the authors' public code repeats
LARGEST = 2**20  # bytes of an adapter's config


def prompt_dtype(frozen: Frozen) -> torch.dtype:
    """Prompts, their gradients and the optimiser's state are float32, or float64 with the model."""
    return torch.float64 if frozen.dtype == torch.float64 else torch.float32


def initial_prompt(
    spec: RunSpec,
    frozen: Frozen,
    generator: torch.Generator,
    *,
    questions: Sequence[str] = (),
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the first prompt, shape (n, d), as ``spec.init`` has it (default: section 4.2).

    Drawn on the CPU whatever the device, so that a seed means the same everywhere.

    Parameters
    ----------
    questions
        Of the problems trained on, for ``init="question"``.
    start
        Shape (n, d), for ``init="trained"``.

    Raises
    ------
    InputError
        If the vocabulary has fewer than n tokens, or ``start`` has another shape or is missing.
    """
    n = spec.n_tokens
    if spec.init == "gaussian":
        start = torch.randn(n, frozen.dim, generator=generator) * spec.settings.init_std
    elif spec.init == "repeated":
        token = frozen.tokenizer(REPEATED_TOKEN, add_special_tokens=False)["input_ids"][:1]
        start = frozen.embed(tuple(token)).expand(n, -1)
    elif spec.init == "question":
        found = frozen.tokenizer(" ".join(questions), add_special_tokens=False)["input_ids"]
        start = frozen.embed(tuple(islice(cycle(found), n)))
    elif spec.init == "trained":
        if start is None or start.shape != (n, frozen.dim):
            given = "no prompt" if start is None else f"shape {tuple(start.shape)}"
            raise InputError("init_run", spec.init_run, f"gave {given}, not {(n, frozen.dim)}")
    else:
        rows = torch.randperm(len(frozen.vocabulary), generator=generator)[:n]
        if len(rows) < n:
            raise InputError("n_tokens", n, f"the vocabulary has {len(rows)} tokens to draw from")
        start = frozen.embed(tuple(rows.tolist()))
    return start.detach().to(frozen.device, prompt_dtype(frozen), copy=True).contiguous()


def position_code(n: int, dim: int) -> torch.Tensor:
    """Sinusoidal position code, shape (n, d), which protocol ``released`` adds to the prompt."""
    place = torch.arange(n, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    code = torch.zeros(n, dim)
    code[:, 0::2] = torch.sin(place * rate)
    code[:, 1::2] = torch.cos(place * rate)[:, : dim // 2]
    return code


def as_input(prompt: torch.Tensor, spec: RunSpec) -> torch.Tensor:
    """Turn a prompt, shape (n, d), into what the model receives, before it takes its dtype."""
    received = prompt * spec.embed_scale
    if spec.settings.position_code:
        received = received + position_code(*prompt.shape).to(prompt)
    return received


def export_peft(prompt: torch.Tensor, *, spec: RunSpec, hub_id: str, folder: Path) -> None:
    """Write a prompt as a PEFT prompt-tuning adapter that ``PeftModel.from_pretrained`` loads.

    PEFT puts a prompt before everything, which is the placement ``prefix``; scale and position
    code are folded into the vectors.

    Parameters
    ----------
    prompt
        Shape (n, d).
    spec
        The run it comes from.
    hub_id
        Base model named in the adapter.
    folder
        Where ``adapter_config.json`` and ``adapter_model.safetensors`` go; must not exist yet.
    """
    from peft import PromptTuningConfig, TaskType

    if folder.exists():
        raise InputError("to", str(folder), "exists already; name a folder that does not")
    vectors = prompt * spec.embed_scale
    if spec.settings.position_code:
        vectors = vectors + position_code(*prompt.shape)
    config = PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=prompt.shape[0],
        token_dim=prompt.shape[1],
        base_model_name_or_path=hub_id,
        inference_mode=True,
    )
    tensors = {"prompt_embeddings": vectors.float().contiguous()}
    with new_folder(folder) as work:
        config.save_pretrained(str(work))
        save_file(tensors, work / "adapter_model.safetensors", metadata={"format": "pt"})
        (work / "tsp.json").write_text(json.dumps(spec.to_dict(), indent=1) + "\n")


def import_peft(folder: Path) -> torch.Tensor:
    """Read the vectors, shape (n, d), of a PEFT prompt-tuning adapter.

    Raises
    ------
    InputError
        If there is none, or none that can be read.
    """
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        told = "has no adapter_model.safetensors"
        if (folder / "adapter_model.bin").is_file():
            told += ", and a .bin is a pickle, which is not read: save it again with PEFT"
        raise InputError("adapter", str(folder), told)
    try:
        tensors = load_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError("adapter", str(folder), f"cannot be read ({error})") from error
    if "prompt_embeddings" not in tensors:
        found = ", ".join(tensors) or "nothing"
        raise InputError("adapter", str(folder), f"holds {found}, not prompt_embeddings")
    vectors = tensors["prompt_embeddings"]
    if vectors.ndim != 2 or 0 in vectors.shape or not vectors.is_floating_point():
        told = f"{vectors.dtype} of shape {tuple(vectors.shape)}"
        raise InputError("adapter", str(folder), f"holds {told}, not (n, d) numbers")
    return vectors


def adapter_folder(name: str) -> Path:
    """Find an adapter: a folder here, or what huggingface_hub has of a hub id."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        wanted = ["adapter_config.json", "adapter_model.safetensors"]
        return Path(
            snapshot_download(name, allow_patterns=wanted, local_files_only=not hub.reachable())
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        remedy = "no such folder, and the hub gave no such adapter (offline, or no access)"
        raise InputError("adapter", name, remedy) from error


def adapter_kind(folder: Path) -> dict[str, str]:
    """Which of PEFT's kinds an adapter is, and for which base model, as far as it says."""
    names = {"peft_type": "peft_type", "base_model": "base_model_name_or_path"}
    file = folder / "adapter_config.json"
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:  # a pipe would be waited for
            raise ValueError
        told = json.loads(file.read_text())
        return {name: one_line(str(told.get(key) or ""), SHOWN) for name, key in names.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return dict.fromkeys(names, "")
