"""Speed against peers, measured in one run: outside the package, run by `make bench`."""
