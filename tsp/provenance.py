"""Where numbers come from: package versions and the commit of the source."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from tsp.paths import ROOT

PACKAGES = ("tsp", "torch", "transformers", "safetensors", "pyarrow", "giotto-tda", "giotto-ph")


@cache
def versions() -> dict[str, str]:
    """Return the versions of the packages that a run's numbers depend on."""
    return {name: installed_version(name) for name in PACKAGES}


def installed_version(package: str, missing: str = "not installed") -> str:
    """Return the version of a package, or another text if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:  # a bare GPU host runs from the source tree
        return missing


@cache
def commit() -> str:
    """Return the git commit, ``+`` if tracked files changed; an empty text outside a checkout."""
    if not (ROOT / ".git").exists():
        return ""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True)
    except OSError:
        return ""
    return head.stdout.strip() + ("+" if changed.stdout else "")
