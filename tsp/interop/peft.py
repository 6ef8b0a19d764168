"""PEFT prompt-tuning adapters: write a run's prompt as one, and read anyone's."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tsp.atomic import new_folder
from tsp.errors import SHOWN, InputError, one_line
from tsp.problems import hub
from tsp.training.prompts import as_input
from tsp.training.spec import RunSpec

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = "prompt_embeddings"  # the tensor that PEFT's prompts are stored under
PROMPTS = {"", "PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING"}
MARKS = {"LoRA": "lora_", "IA3": "ia3_", "OFT": "oft_", "LOHA": "hada_", "VERA": "vera_"}
"""What the names of the tensors of PEFT's other adapters contain."""


def export_peft(prompt: torch.Tensor, *, spec: RunSpec, hub_id: str, folder: Path) -> None:
    """Write a prompt (n, d) as a PEFT adapter that ``PeftModel.from_pretrained`` loads.

    PEFT puts a prompt before everything, which is the placement ``prefix``; scale and position
    code of the run, ``spec``, are folded into the vectors. ``hub_id`` names the base model; the
    folder must not exist yet.
    """
    from peft import PromptTuningConfig, TaskType

    if folder.exists():
        raise InputError("to", str(folder), "exists already; name a folder that does not")
    config = PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=prompt.shape[0],
        token_dim=prompt.shape[1],
        base_model_name_or_path=hub_id,
        inference_mode=True,
    )
    tensors = {KEY: as_input(prompt, spec).float().contiguous()}
    with new_folder(folder) as work:
        config.save_pretrained(str(work))
        save_file(tensors, work / WEIGHTS, metadata={"format": "pt"})
        (work / "tsp.json").write_text(json.dumps(spec.to_dict(), indent=1) + "\n")


def import_peft(folder: Path) -> torch.Tensor:
    """Return the vectors, shape (n, d), of a PEFT prompt-tuning adapter.

    Raises
    ------
    InputError
        If the folder has no prompt-tuning adapter, or one that cannot be read.
    """
    kind = adapter_kind(folder)["peft_type"]
    if kind not in PROMPTS:
        raise InputError("adapter", str(folder), why_not_a_prompt([], kind))
    if not (folder / WEIGHTS).is_file():
        reason = f"has no {WEIGHTS}"
        if (folder / "adapter_model.bin").is_file():
            reason += ", and a .bin is a pickle, which is not read: save it again with PEFT"
        raise InputError("adapter", str(folder), reason)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError("adapter", str(folder), f"cannot be read ({error})") from error
    if KEY not in tensors:
        raise InputError("adapter", str(folder), why_not_a_prompt(list(tensors)))
    vectors = tensors[KEY]
    if vectors.ndim != 2 or 0 in vectors.shape or not vectors.is_floating_point():
        content = f"{vectors.dtype} of shape {tuple(vectors.shape)}"
        raise InputError("adapter", str(folder), f"holds {content}, not (n, d) numbers")
    return vectors


def other_adapter(names: list[str]) -> str:
    """Return the kind of an adapter by its tensors' names, or an empty text for a prompt."""
    return next((kind for kind, mark in MARKS.items() if any(mark in name for name in names)), "")


def why_not_a_prompt(names: list[str], kind: str = "") -> str:
    """Return the rest of an error message: what a file has that is not a prompt, what to give.

    ``names`` are those of its tensors, ``kind`` is PEFT's name of the adapter if it is known.
    """
    kind = kind.replace("LORA", "LoRA").replace("ADALoRA", "AdaLoRA") or other_adapter(names)
    if kind:
        article = "an" if kind[0] in "AEIO" else "a"
        return f"is {article} {kind} adapter; prompt tuning adapters hold {KEY}"
    shown = ", ".join(name[:40] for name in names[:3])
    return f"holds {len(names)} tensors ({shown} …); give a file with one, or with {KEY}"


def adapter_folder(name: str) -> Path:
    """Return the folder of an adapter, given as a folder or as a hub id."""
    if os.path.isdir(name):
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    offline = not hub.reachable()
    try:
        return Path(
            snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS], local_files_only=offline)
        )
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        remedy = "no such folder, and the hub gave no such adapter (offline, or no access)"
        raise InputError("adapter", name, remedy) from error


def adapter_kind(folder: Path) -> dict[str, str]:
    """Return an adapter's ``peft_type`` and ``base_model``, empty where its config lacks them."""
    names = {"peft_type": "peft_type", "base_model": "base_model_name_or_path"}
    try:
        config = json.loads((folder / CONFIG).read_text())
        return {name: one_line(str(config.get(key) or ""), SHOWN) for name, key in names.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return dict.fromkeys(names, "")
