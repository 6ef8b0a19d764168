"""Persistent homology of a prompt: diagrams, summaries, null models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsp.topology.diagrams import persistence, summarize

__all__ = ["SUMMARY_COLUMNS", "persistence", "summarize"]

SUMMARY_COLUMNS = (
    "h0_count",
    "h1_count",
    "h0_mean_lifespan",
    "h1_mean_lifespan",
    "h0_max_lifespan",
    "h1_max_lifespan",
    "persistence_entropy",
    "normalized_entropy",
    "mean_distance",
    "h0_mean_lifespan_scaled",
    "h1_mean_lifespan_scaled",
)
"""Columns of `summarize`, in order."""


def __getattr__(name: str) -> Any:  # a host that only trains has no giotto-tda and no SciPy
    if name in ("persistence", "summarize"):
        from tsp.topology import diagrams

        return getattr(diagrams, name)
    raise AttributeError(f"module 'tsp.topology' has no attribute '{name}'")
