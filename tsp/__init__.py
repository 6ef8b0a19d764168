"""Soft prompts seen through persistent homology, and the loss derived from them."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# torch reads this at its first allocation. On Linux, large tensors then get pages of 2 MiB; with
# pages of 4 KiB, a step on ten problems asks the kernel for hundreds of thousands.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from tsp.interop.peers import TSLossTrainer
    from tsp.interop.sklearn import PersistenceSummary
    from tsp.loss import TSLoss
    from tsp.topology.diagrams import persistence, summarize

__all__ = ["PersistenceSummary", "TSLoss", "TSLossTrainer", "persistence", "summarize"]

_MODULES = {
    "PersistenceSummary": "tsp.interop.sklearn",
    "TSLoss": "tsp.loss",
    "TSLossTrainer": "tsp.interop.peers",
    "persistence": "tsp.topology.diagrams",
    "summarize": "tsp.topology.diagrams",
}


def __getattr__(name: str) -> Any:  # torch takes seconds to import
    """Import a public name when it is first used."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'tsp' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
