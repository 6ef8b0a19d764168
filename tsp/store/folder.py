"""Write and read the folder of one run: JSON, Parquet, safetensors, a checksum of every file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from tsp.atomic import checksum, new_folder, sha256_of
from tsp.store.content import RunData, reading
from tsp.store.record import CHANGED, parse_record
from tsp.store.schema import PROMPTS


def write_folder(folder: Path, data: RunData) -> None:
    """Write a run's folder, which appears whole or not at all; one that exists is kept."""
    if folder.is_dir():
        return
    try:
        with new_folder(folder) as work:
            for name, table in data.tables.items():
                pq.write_table(table, work / f"{name}.parquet", compression="zstd")
            if data.prompts:
                names = (f"epoch_{epoch:04d}" for epoch in data.prompts)
                arrays = map(np.ascontiguousarray, data.prompts.values())
                save_file(dict(zip(names, arrays, strict=True)), work / PROMPTS)
            files = {path.name: sha256_of(path) for path in sorted(work.iterdir())}
            record = data.record | {"files": files}
            record["checksum"] = checksum(record)
            (work / "run.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    except OSError:
        if not folder.is_dir():  # else another process has stored it meanwhile
            raise


def read_record(folder: Path) -> dict[str, Any]:
    """Return a run's record, its checksum verified."""
    with reading(f"run {folder.name}: run.json"):
        return parse_record((folder / "run.json").read_text(), folder.name)


def read_table(folder: Path, record: Mapping[str, Any], name: str) -> pa.Table:
    """Return one table of a run, its file verified."""
    with reading(f"run {folder.name}: {name}.parquet"):
        path = _verified(folder / f"{name}.parquet", record)
        return pq.ParquetFile(path).read(use_threads=False).replace_schema_metadata()


def read_prompts(folder: Path, record: Mapping[str, Any]) -> dict[int, np.ndarray]:
    """Return the prompts of a run by epoch, their file verified; none if they were left out."""
    if PROMPTS not in record["files"]:
        return {}
    with reading(f"run {folder.name}: {PROMPTS}"):
        arrays = load_file(_verified(folder / PROMPTS, record))
        return {int(name.removeprefix("epoch_")): array for name, array in arrays.items()}


def _verified(path: Path, record: Mapping[str, Any]) -> Path:
    if sha256_of(path) != record["files"][path.name]:
        raise ValueError(CHANGED)
    return path
