"""pyproject.toml, constraints.txt, environment.yml and the Makefile say the same."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(it.name): it.specifier for it in wanted}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements():
    extras = PROJECT["optional-dependencies"].values()
    groups = [PROJECT["dependencies"], *extras]
    found = [Requirement(line) for group in groups for line in group]
    return [it for it in found if it.name != PROJECT["name"]]


def test_every_constraint_is_one_exact_version():
    for name, specifier in pins().items():
        assert [it.operator for it in specifier] == ["=="], name


@pytest.mark.parametrize("wanted", requirements(), ids=lambda it: it.name)
def test_every_dependency_is_pinned_within_its_range(wanted):
    told = pins()
    assert canonical(wanted.name) in told, "not in constraints.txt"
    (pin,) = told[canonical(wanted.name)]
    assert wanted.specifier.contains(pin.version)


def test_the_tested_versions_are_the_installed_ones():
    from importlib.metadata import version

    for name in ("torch", "transformers", "giotto-tda", "pyarrow", "jupyter-book", "peft"):
        (pin,) = pins()[name]
        assert version(name).split("+")[0] == pin.version, name


def test_the_conda_environment_is_the_same_one():
    told = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert told["name"] == PROJECT["name"]
    conda = [it for it in told["dependencies"] if isinstance(it, str)]
    (python,) = [it.split("=")[1] for it in conda if it.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
    (by_pip,) = [it["pip"] for it in told["dependencies"] if isinstance(it, dict)]
    assert by_pip == ["-c constraints.txt", "-e .[book,dev]"]
    assert "-c constraints.txt -e '.[book,dev]'" in (ROOT / "Makefile").read_text()


def test_who_develops_has_every_extra():
    (own,) = [it for it in map(Requirement, DEV) if it.name == PROJECT["name"]]
    assert own.extras | {"book", "dev"} == set(PROJECT["optional-dependencies"])


DEV = PROJECT["optional-dependencies"]["dev"]


def test_a_wheel_carries_the_problems_and_the_papers_tables(tmp_path):
    pytest.importorskip("hatchling", reason="the wheel is built where hatchling is installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert "tsp/_data/problems/gsm8k.jsonl" in names
    assert "tsp/_data/paper/table3.csv" in names
    code = (
        "from tsp.problems.loading import load_problems;"
        "from tsp.experiments.paper import reported; import tsp;"
        "print(tsp.__file__);"
        "print(len(load_problems('bbh', regime='multi')), len(reported('table3')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path / "installed"), "PATH": ""},
    )
    place, counts = done.stdout.splitlines()
    assert str(tmp_path) in place
    assert counts.startswith("10 ")


def isolated(**more):
    """An environment that knows neither this checkout nor the user's runs."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("TSP_")}
    return {**known, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""} | more


def called(*words, cwd, **more):
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, capture_output=True, text=True, env=isolated(**more)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    # Its dependencies are there; a path file of theirs (an editable checkout) is not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "from tsp import TSLoss, persistence, summarize; import tsp; print(tsp.__file__)"
    assert str(site) in called(python, "-c", code, cwd=elsewhere)
    tsp = tmp_path / "venv" / "bin" / "tsp"
    few = ["--model", "tiny-llama", "--task", "bbh", "--n-tokens", "4", "--epochs", "2"]
    record = json.loads(called(tsp, "run", *few, "--json", cwd=elsewhere))
    assert (elsewhere / "runs" / record["id"]).is_dir()
    assert record["outcome"]["epochs_trained"] == 2
    called(tsp, "export", record["id"], "--to", "adapter", cwd=elsewhere)
    found = json.loads(called(tsp, "analyze", "adapter", "--json", cwd=elsewhere))
    assert (found["h0_count"], found["base_model"]) == (4, "tiny-llama")
    found = json.loads(called(tsp, "doctor", "--json", cwd=elsewhere))
    assert found["problems"]["bbh"].split()[0].isdigit()
    assert found["places"]["run store"].startswith(str(elsewhere.resolve()))


HEAVY = ("gph", "gtda", "IPython", "ipykernel", "jupyter_book", "jupytext", "matplotlib")
HEAVY += ("pandas", "papermill", "peft", "seaborn", "sklearn", "datasets")
HEAVY += ("accelerate", "gguf", "pyarrow", "ray", "safetensors", "scipy", "transformers", "typer")


def test_the_loss_needs_neither_giotto_tda_nor_jupyter(tmp_path):
    block = f"import sys; sys.modules |= dict.fromkeys({HEAVY})"  # importing one now fails
    code = "from tsp import TSLoss; import torch; print(TSLoss()(torch.eye(3)).item())"
    told = called(sys.executable, "-c", f"{block}; {code}", cwd=tmp_path, PYTHONPATH=str(ROOT))
    from tsp import TSLoss

    assert float(told) == pytest.approx(TSLoss()(torch.eye(3)).item())


def test_importing_the_package_imports_nothing_heavy(tmp_path):
    """Nothing but itself and the standard library, and so in far less than 0.3 s."""
    code = (
        "import sys, time; known, begun = set(sys.modules), time.process_time(); import tsp;"
        "print(time.process_time() - begun);"
        "print(*{name.split('.')[0] for name in set(sys.modules) - known})"
    )
    words = [sys.executable, "-c", code]
    told = [called(*words, cwd=tmp_path, PYTHONPATH=str(ROOT)).splitlines() for _ in range(5)]
    assert min(float(seconds) for seconds, _ in told) < 0.3
    assert set(told[0][1].split()) <= {"tsp", *sys.stdlib_module_names}


def test_what_the_package_offers_is_there():
    import tsp

    for name in tsp.__all__:
        assert getattr(tsp, name) is not None
    assert set(tsp.__all__) <= set(dir(tsp))
    with pytest.raises(AttributeError, match="no attribute 'TopoLoss'"):
        _ = tsp.TopoLoss


def test_one_version_everywhere():
    import tsp

    assert PROJECT["version"] == tsp.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tsp.__version__
    assert f"[{tsp.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
