"""Which runs a table needs, and sweeps that train them, here or on a Ray cluster."""
