"""Persistent homology of a prompt: diagrams, summaries, null models."""

from tsp.topology.diagrams import persistence, summarize

__all__ = ["persistence", "summarize"]
