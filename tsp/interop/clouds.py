"""Read the soft prompts that people have: PEFT adapters, arrays, tensors, folders of them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from tsp.errors import InputError
from tsp.interop.peft import adapter_folder, adapter_kind, import_peft
from tsp.loss import TSLoss
from tsp.topology.diagrams import LARGEST, MOST, Diagrams, persistence, summarize

FORMATS = (".npy", ".safetensors", ".pt")
PROMPTS = {"", "PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING"}
ADAPTER = "adapter_model.safetensors"
KEY = "prompt_embeddings"  # the tensor that PEFT's prompts are stored under
MARKS = {"LORA": "lora_", "IA3": "ia3_", "OFT": "oft_", "LOHA": "hada_", "VERA": "vera_"}
"""What the names of the tensors of PEFT's other adapters contain."""


@dataclass(frozen=True)
class Cloud:
    """A point cloud and where it comes from.

    Attributes
    ----------
    source
        Columns that name it: ``adapter``, ``peft_type`` and ``base_model``, or ``file``; in a
        batch also ``cloud``, its place from 0.
    points
        ``(n, d)``, finite.
    """

    source: Mapping[str, Any]
    points: np.ndarray


def load_clouds(place: str) -> list[Cloud]:
    """Read one cloud, a batch or a trajectory.

    Parameters
    ----------
    place
        Folder or hub id of a PEFT prompt adapter; a ``.npy``, ``.safetensors`` or ``.pt`` file that
        holds one tensor ``(n, d)`` or ``(B, n, d)``; or a folder of such files or adapters,
        which are read in the natural order of their names (``epoch_2`` before ``epoch_10``).

    Returns
    -------
    list of Cloud
        One or more.

    Raises
    ------
    InputError
        If there is nothing there, or what is there cannot be read as point clouds; the message
        names the file, and the row of a coordinate that is not finite.

    Notes
    -----
    Nothing is unpickled: ``.pt`` files are read with ``weights_only=True``.
    """
    path = Path(os.path.expanduser(place))
    if os.path.isfile(path):
        return _file(path)
    if not os.path.isdir(path):
        return _adapter(_from_hub(place), place)
    if _is_adapter(path):
        return _adapter(path, place)
    entries = sorted(path.iterdir(), key=lambda entry: _natural(entry.name))
    clouds: list[Cloud] = []
    for entry in entries:
        if entry.suffix in FORMATS:
            clouds += _file(entry)
        elif entry.is_dir() and _is_adapter(entry):
            clouds += _adapter(entry, str(entry))
    if not clouds:
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        remedy = f"has no {ADAPTER} of PEFT's and no {formats} files"
        raise InputError("adapter", place, remedy)
    return clouds


def summaries(clouds: list[Cloud]) -> tuple[pd.DataFrame, list[Diagrams]]:
    """Summarise clouds, as `tsp.topology.diagrams.summarize` does.

    Returns
    -------
    DataFrame
        One row a cloud: its source, ``n_tokens``, ``dim``, the summaries and ``tsloss``.
    list of dict
        The persistence diagrams.
    """
    rows, diagrams = [], []
    for cloud in clouds:
        bars: Any = persistence(cloud.points)
        n, d = cloud.points.shape
        row = {**cloud.source, "n_tokens": n, "dim": d}
        row |= summarize(cloud.points, diagrams=bars).to_dict("records")[0]
        row["tsloss"] = TSLoss()(torch.from_numpy(cloud.points)).item()
        rows.append(row)
        diagrams.append(bars)
    return pd.DataFrame(rows), diagrams


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which numbers count as numbers."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def _from_hub(place: str) -> Path:
    try:
        return adapter_folder(place)
    except OSError as error:  # a path that is too long, for example
        raise InputError("adapter", place, f"no such file or folder ({error.strerror})") from error


def _is_adapter(folder: Path) -> bool:
    return any(folder.glob("adapter_*"))


def _adapter(folder: Path, place: str) -> list[Cloud]:
    """Read a PEFT prompt adapter; an adapter of another kind is named as what it is."""
    about = adapter_kind(folder)
    kind = "" if about["peft_type"] in PROMPTS else about["peft_type"]
    names = _names(folder / ADAPTER)
    if kind or (names and KEY not in names):
        raise InputError("adapter", place, _no_prompt(names, kind))
    return _clouds(import_peft(folder), {"adapter": place, **about}, "adapter", place)


def _names(file: Path) -> list[str]:
    """Return the names of the tensors of an adapter, or none if it cannot be read."""
    try:
        with safe_open(file, "pt") as tensors:
            return list(tensors.keys())
    except (OSError, SafetensorError):
        return []  # import_peft says what is wrong


def _no_prompt(names: list[str], kind: str = "") -> str:
    """Say what tensors are, given their names and PEFT's name of the adapter if it is known."""
    kind = kind or next((kind for kind in MARKS if any(MARKS[kind] in name for name in names)), "")
    if kind:
        kind = {"LORA": "LoRA", "ADALORA": "AdaLoRA"}.get(kind, kind)
        article = "an" if kind[0] in "AEIO" else "a"
        return f"is {article} {kind} adapter; prompt tuning adapters hold {KEY}"
    shown = ", ".join(name[:40] for name in names[:3])
    return f"holds {len(names)} tensors ({shown} …); give a file with one, or with {KEY}"


def _file(path: Path) -> list[Cloud]:
    source = {"file": str(path)}
    try:
        tensors = _read(path)
    except InputError:
        raise
    except Exception as error:  # NumPy, torch and safetensors raise many kinds for damaged files
        why = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError("file", str(path), f"cannot be read ({why})") from error
    return _clouds(_only(tensors, path), source, "file", str(path))


def _read(path: Path) -> Any:
    """Return what a file holds: an array, a tensor, or tensors by name."""
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".pt":
        return torch.load(path, map_location="cpu", weights_only=True)
    remedy = "give a folder of a PEFT adapter, or a .npy, .safetensors or .pt file"
    raise InputError("file", str(path), remedy)


def _only(held: Any, path: Path) -> Any:
    """Return the one tensor of a file, or PEFT's."""
    if not isinstance(held, Mapping):
        return held
    names = [str(name) for name in held]
    if KEY not in held and (len(held) != 1 or any(mark in names[0] for mark in MARKS.values())):
        raise InputError("file", str(path), _no_prompt(names))
    return held.get(KEY, next(iter(held.values())))


def _clouds(values: Any, source: Mapping[str, Any], field: str, place: str) -> list[Cloud]:
    """Check values of shape (n, d) or (B, n, d), and split a batch."""
    if isinstance(values, torch.Tensor):
        values = values.detach().to(torch.float64).numpy() if not values.is_complex() else None
    points = np.asarray(values)
    if points.dtype.kind not in "fiu":
        raise InputError(field, place, "holds something else than real numbers")
    if points.ndim not in (2, 3) or 0 in points.shape:
        raise InputError(field, place, f"has shape {points.shape}, not (n, d) or (B, n, d)")
    batch = points.astype(np.float64)[None] if points.ndim == 2 else points.astype(np.float64)
    if batch.shape[1] > MOST:
        raise InputError(field, place, f"has {batch.shape[1]} rows; at most {MOST} are analysed")
    wrong = np.argwhere(~(np.abs(batch) <= LARGEST))  # nan compares false
    if len(wrong):
        cloud, row, column = wrong[0]
        where = f"row {row}" if len(batch) == 1 else f"cloud {cloud}, row {row}"
        remedy = f"holds {batch[cloud, row, column]} in {where}; coordinates must be finite"
        raise InputError(field, place, remedy)
    if len(batch) == 1:
        return [Cloud(source, batch[0])]
    return [Cloud({**source, "cloud": k}, cloud) for k, cloud in enumerate(batch)]
