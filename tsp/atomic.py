"""Files and folders that appear whole or, if anything fails, not at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from tsp.errors import InputError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill, which becomes ``target`` when all of it is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        yield work
        for path in (*work.iterdir(), work):
            _to_disk(path)
        work.chmod(0o755)  # mkdtemp makes it private
        work.rename(target)
        _to_disk(target.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden file to write, which replaces ``path`` when all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}-{uuid4().hex[:8]}")  # hosts may share a folder
    try:
        yield work
        _to_disk(work)
        work.replace(path)
        _to_disk(path.parent)
    finally:
        work.unlink(missing_ok=True)


def replace_file(path: Path, text: str) -> None:
    """Write a text file whole, or leave the one that is there."""
    with replacing(path) as work:
        work.write_text(text)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, not its target; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def own_folder(path: Path) -> Path:
    """Make a folder of a store unless it exists; refuse a link, which may lead anywhere."""
    if path.is_symlink():
        remedy = f"its {path.name} is a link, which may lead anywhere; remove it"
        raise InputError("runs", str(path.parent), remedy)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object without its field ``checksum``."""
    content = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
