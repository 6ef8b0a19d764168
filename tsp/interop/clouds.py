"""Read the soft prompts that people have: PEFT adapters, arrays, tensors, folders of them."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from tsp.errors import InputError
from tsp.interop.peft import (
    KEY,
    WEIGHTS,
    adapter_folder,
    adapter_kind,
    import_peft,
    other_adapter,
    why_not_a_prompt,
)
from tsp.loss import TSLoss
from tsp.topology.diagrams import Diagrams, as_points, persistence, summarize

READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".safetensors": load_file,
    ".pt": lambda path: torch.load(path, map_location="cpu", weights_only=True),
}
FORMATS = ".npy, .safetensors or .pt"
EPOCH = re.compile(r"epoch_(\d+)")  # names of a stored run's prompts


@dataclass(frozen=True)
class Cloud:
    """A point cloud and where it comes from."""

    source: Mapping[str, Any]  # adapter, peft_type, base_model; or file; epoch or cloud of several
    points: np.ndarray  # (n, d), finite


def load_clouds(place: str) -> list[Cloud]:
    """Read one cloud, a batch or a trajectory; return at least one cloud.

    Parameters
    ----------
    place
        Folder or hub id of a PEFT prompt adapter; a ``.npy``, ``.safetensors`` or ``.pt`` file that
        holds one tensor ``(n, d)`` or ``(B, n, d)``, or a stored run's prompts; or a folder of such
        files or adapters, which are read in the natural order of their names (``epoch_2`` before
        ``epoch_10``).

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
        return _adapter(adapter_folder(place), place)
    if _is_adapter(path):
        return _adapter(path, place)
    clouds: list[Cloud] = []
    for entry in sorted(path.iterdir(), key=_natural_order):
        if entry.suffix in READERS:
            clouds += _file(entry)
        elif entry.is_dir() and _is_adapter(entry):
            clouds += _adapter(entry, str(entry))
    if not clouds:
        raise InputError("prompt", place, f"has no {WEIGHTS} of PEFT's and no {FORMATS} files")
    return clouds


def summaries(clouds: list[Cloud]) -> tuple[pd.DataFrame, list[Diagrams]]:
    """Summarise clouds: a table with one row per cloud, and their persistence diagrams.

    The columns are those of the source, ``n_tokens``, ``dim``, those of
    `tsp.topology.diagrams.summarize` and ``tsloss``.
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


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a sort key in which numbers count as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _is_adapter(folder: Path) -> bool:
    return any(folder.glob("adapter_*"))


def _adapter(folder: Path, place: str) -> list[Cloud]:
    """Read a PEFT prompt adapter."""
    return _clouds(import_peft(folder), {"adapter": place, **adapter_kind(folder)})


def _file(path: Path) -> list[Cloud]:
    """Read the one tensor of a file, PEFT's among several, or all prompts of a stored run."""
    if path.suffix not in READERS:
        remedy = f"give a folder of a PEFT adapter, or a {FORMATS} file"
        raise InputError("file", str(path), remedy)
    try:
        content = READERS[path.suffix](path)
    except Exception as error:  # NumPy, torch and safetensors raise many kinds for damaged files
        why = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        if path.suffix == ".pt":  # torch's message is about its own options
            why = "it is damaged or holds other objects than tensors"
        raise InputError("file", str(path), f"cannot be read ({why})") from error
    if isinstance(content, Mapping):
        names = [str(name) for name in content]
        if names and all(map(EPOCH.fullmatch, names)):
            epochs = sorted((int(name.removeprefix("epoch_")), name) for name in names)
            parts = (_clouds(content[k], {"file": str(path), "epoch": at}) for at, k in epochs)
            return [cloud for part in parts for cloud in part]
        if KEY not in names and (len(names) != 1 or other_adapter(names)):
            raise InputError("file", str(path), why_not_a_prompt(names))
        content = content.get(KEY, next(iter(content.values())))
    return _clouds(content, {"file": str(path)})


def _clouds(values: Any, source: Mapping[str, Any]) -> list[Cloud]:
    """Check values of shape (n, d) or (B, n, d), and split a batch."""
    try:
        points = as_points(values)
    except InputError as error:
        field, place = next(iter(source.items()))
        raise InputError(field, place, f"holds {error.value}: {error.remedy}") from error
    batch = points.reshape(-1, *points.shape[-2:])
    if len(batch) == 1:
        return [Cloud(source, batch[0])]
    return [Cloud({**source, "cloud": k}, cloud) for k, cloud in enumerate(batch)]
