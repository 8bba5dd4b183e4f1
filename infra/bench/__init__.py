"""Benchmarks: ours beside a baseline, in alternating rounds of one run."""
