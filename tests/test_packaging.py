"""pyproject.toml, constraints.txt, environment.yml and the Makefile agree; a wheel works alone."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import tsp

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = [line for group in (PROJECT["dependencies"], *EXTRAS.values()) for line in group]
REQUIREMENTS = list(map(Requirement, LINES))


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(pin.name): pin.specifier for pin in wanted}


def test_no_module_is_too_long_to_read_at_once():
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / "tsp").rglob("*.py")}
    assert {path.name: count for path, count in lines.items() if count > 350} == {}


def test_every_dependency_is_pinned_to_one_version_within_its_range():
    assert all([pin.operator for pin in specifier] == ["=="] for specifier in pins().values())
    for wanted in REQUIREMENTS:
        if wanted.name != PROJECT["name"]:
            (pin,) = pins()[canonical(wanted.name)]
            assert wanted.specifier.contains(pin.version), wanted
    for name in ("torch", "transformers", "giotto-tda", "pyarrow", "jupyter-book", "peft"):
        (pin,) = pins()[name]
        assert version(name).split("+")[0] == pin.version, name


def test_the_conda_environment_is_the_same_one():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (python,) = [line.split("=")[1] for line in conda if line.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
    (pip,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    assert pip == ["-c constraints.txt", "-e .[book,dev]"]
    assert "-c constraints.txt -e '.[book,dev]'" in (ROOT / "Makefile").read_text()
    (dev,) = [wanted for wanted in REQUIREMENTS if wanted.name == PROJECT["name"]]
    assert dev.extras | {"book", "dev"} == set(EXTRAS)


def called(*words, cwd, **variables):
    """Run a program without this checkout and the user's runs; return its output."""
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("TSP_")}
    environment |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""} | variables
    options = {"capture_output": True, "text": True, "env": environment}
    done = subprocess.run([*map(str, words)], cwd=cwd, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


LIGHT = {
    "problems.loading": {"torch", "numpy", "datasets", "pandas", "math_verify", "sympy"},
    "experiments.paper": {"pandas", "numpy", "torch"},
    "experiments.find_or_train": {"transformers"},  # which most chapters need not wait for
}


@pytest.mark.parametrize("module", LIGHT)
def test_what_is_imported_first_imports_nothing_heavy(module):
    code = f"import sys, tsp.{module}; print({LIGHT[module]} & sys.modules.keys())"
    assert called(sys.executable, "-c", code, cwd=ROOT) == "set()\n"


@pytest.mark.slow
def test_a_wheel_installed_alone_does_what_the_checkout_does(tmp_path):
    """Built by ``python -m build``, through its source package; installed by pip."""
    pytest.importorskip("build", reason="the wheel is built where `build` is installed")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", ROOT]
    called(*build, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    called(*pip, wheel, cwd=tmp_path)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    # Its dependencies are in this folder, whose own path files (an editable checkout) are ignored.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "from tsp.experiments.paper import reported; print(len(reported('table3')) > 0);"
    code += "from tsp import TSLoss, persistence, summarize; import tsp; print(tsp.__file__)"
    tables, place = called(python, "-c", code, cwd=elsewhere).splitlines()
    assert tables == "True"
    assert str(site) in place

    def command(*words):
        return json.loads(called(python.with_name("tsp"), *words, "--json", cwd=elsewhere))

    small = ["--model", "tiny-llama", "--task", "bbh", "--n-tokens", "4", "--epochs", "2"]
    record = command("run", *small)
    assert (elsewhere / "runs" / record["id"]).is_dir()
    assert record["outcome"]["epochs_trained"] == 2
    command("export", record["id"], "--to", "adapter")
    row = command("analyze", "adapter")
    assert (row["h0_count"], row["base_model"]) == (4, "tiny-llama")
    state = command("doctor")
    assert state["problems"]["bbh"].split()[0].isdigit()
    assert state["places"]["run store"].startswith(str(elsewhere.resolve()))


HEAVY = (
    *("gph", "gtda", "IPython", "ipykernel", "jupyter_book", "jupytext", "matplotlib", "pandas"),
    *("papermill", "peft", "seaborn", "sklearn", "datasets", "accelerate", "gguf", "pyarrow"),
    *("ray", "safetensors", "scipy", "transformers", "typer"),
)


def test_the_loss_needs_neither_giotto_tda_nor_jupyter(tmp_path):
    block = f"import sys; sys.modules |= dict.fromkeys({HEAVY})"  # importing one now fails
    code = "from tsp import TSLoss; import torch; print(TSLoss()(torch.eye(3)).item())"
    value = called(sys.executable, "-c", f"{block}; {code}", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert float(value) == pytest.approx(tsp.TSLoss()(torch.eye(3)).item())


def test_importing_the_package_imports_nothing_heavy(tmp_path):
    """Nothing but itself and the standard library, and so in far less than 0.3 s."""
    code = (
        "import sys, time; before, begin = set(sys.modules), time.process_time(); import tsp;"
        "print(time.process_time() - begin);"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    words = [sys.executable, "-c", code]
    lines = [called(*words, cwd=tmp_path, PYTHONPATH=str(ROOT)).splitlines() for _ in range(5)]
    assert min(float(seconds) for seconds, _ in lines) < 0.3
    assert set(lines[0][1].split()) <= {"tsp", *sys.stdlib_module_names}


def test_public_names_are_importable():
    for name in tsp.__all__:
        assert getattr(tsp, name) is not None
    assert set(tsp.__all__) <= set(dir(tsp))
    with pytest.raises(AttributeError, match="no attribute 'TopoLoss'"):
        _ = tsp.TopoLoss


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == tsp.__version__ == citation["version"]
    assert f"[{tsp.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_entries_to_cite_are_those_of_the_citation_file():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project, paper, *_ = (ROOT / "book" / "references.bib").read_text().split("@misc")[1:]
    assert f"{{{citation['title']}}}" in project
    assert f"{{Version {citation['version']}}}" in project
    (reference,) = citation["references"]
    names = [f"{one['family-names']}, {one['given-names']}" for one in reference["authors"]]
    assert f"{{{reference['title']}}}" in paper
    assert f"{{{' and '.join(names)}}}" in paper
    assert f"eprint = {{{reference['url'].rpartition('/')[2]}}}" in paper


def test_the_data_card_of_the_published_runs_names_their_files():
    """In the form of a Hugging Face dataset: a configuration per file."""
    folder = ROOT / "data" / "runs"
    card = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    named = {config["config_name"]: config["data_files"] for config in card["configs"]}
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.parquet"))
    assert sorted(named.values()) == files
    assert all(isinstance(name, str) for name in named)
    assert all(pq.ParquetFile(folder / file).metadata.num_rows for file in files)
