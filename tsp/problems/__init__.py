"""The six benchmarks: schema, templates, loading, scoring."""
