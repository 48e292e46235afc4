"""Damaged files at every door and reader: ``python -m benchmarks.mutations``."""
