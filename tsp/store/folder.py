"""One run in a folder of its own: JSON, Parquet and safetensors, with a checksum of every file."""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tsp.atomic import checksum, new_folder, sha256_of
from tsp.errors import Damaged
from tsp.store.content import UNREADABLE, RunData
from tsp.store.schema import COLUMNS, PROMPTS, check_columns, check_record


def write_folder(folder: Path, data: RunData) -> None:
    """Write a run's folder; it appears whole or not at all, and one that is there stays.

    Raises
    ------
    OSError
        If it cannot be written, or its name is taken by something that is no folder.
    """
    if folder.is_dir():
        return
    try:
        with new_folder(folder) as work:
            for name, table in data.tables.items():
                pq.write_table(table, work / f"{name}.parquet", compression="zstd")
            if data.prompts:
                _save_prompts(work / PROMPTS, data.prompts)
            files = {path.name: sha256_of(path) for path in sorted(work.iterdir())}
            record = {k: v for k, v in data.record.items() if k not in ("files", "checksum")}
            record |= {"files": files}
            record |= {"checksum": checksum(record)}
            (work / "run.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    except FileExistsError:  # another process has stored it meanwhile
        if not folder.is_dir():
            raise


def _save_prompts(path: Path, prompts: Mapping[int, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    named = {f"epoch_{epoch:04d}": np.ascontiguousarray(it) for epoch, it in prompts.items()}
    save_file(named, path)


def read_record(folder: Path) -> dict[str, Any]:
    """Return a run's record, its own hash checked.

    Raises
    ------
    Damaged
        If it is missing or not what was written.
    """
    try:
        record = json.loads((folder / "run.json").read_text())
        if record["checksum"] != checksum(record) or record["id"] != folder.name:
            raise Damaged(f"run {folder.name}: run.json was changed after it was written")
        check_record(record)
    except UNREADABLE as error:
        raise Damaged(f"run {folder.name}: run.json cannot be read ({error})") from error
    return record


def read_folder(folder: Path, record: dict[str, Any]) -> RunData:
    """Return a run, every file checked.

    Raises
    ------
    Damaged
        If a file is missing or not what was written.
    """
    names = [name for name in COLUMNS if f"{name}.parquet" in record["files"]]
    tables = {name: read_folder_table(folder, record, name) for name in names}
    data = RunData(record, tables, read_prompts(folder, record))
    try:
        data.check()
    except ValueError as error:
        raise Damaged(f"run {folder.name} cannot be read ({error})") from error
    return data


def read_folder_table(
    folder: Path, record: Mapping[str, Any], name: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return one table of a run, or some of its columns.

    Raises
    ------
    Damaged
        If its file is missing or not what was written.
    """
    path = _checked(folder, record, f"{name}.parquet")
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns, use_threads=False).replace_schema_metadata()
        if columns is None:
            check_columns(name, table)
        return table
    except UNREADABLE as error:
        raise Damaged(f"run {folder.name}: {path.name} cannot be read ({error})") from error


def read_prompts(folder: Path, record: Mapping[str, Any]) -> dict[int, np.ndarray]:
    """Return the prompts of a run by epoch; none where they were left out."""
    from safetensors.numpy import load_file

    if PROMPTS not in record["files"]:
        return {}
    path = _checked(folder, record, PROMPTS)
    try:
        return {int(it.removeprefix("epoch_")): array for it, array in load_file(path).items()}
    except UNREADABLE as error:
        raise Damaged(f"run {folder.name}: {PROMPTS} cannot be read ({error})") from error


def _checked(folder: Path, record: Mapping[str, Any], name: str) -> Path:
    """Return the path of a file that is what was written."""
    try:
        path = folder / name
        if path.is_symlink():  # it may lead out of the store
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if sha256_of(path) == record["files"][name]:
            return path
    except KeyError:
        raise Damaged(f"run {folder.name} was stored without {name}") from None
    except OSError as error:
        raise Damaged(f"run {folder.name}: {name}: {error.strerror or error}") from error
    raise Damaged(f"run {folder.name}: {name} was changed after it was written")
