"""Runs on disk: write, read, verify, archive."""
