"""Taxiway, its peers and hand-written floors on the same work: `python -m tests.benchmarks`."""
