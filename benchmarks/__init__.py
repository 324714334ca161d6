"""The benchmark: `make bench` measures the whole path, and what a service would write instead, on one machine.

Everything runs on servers of the benchmark's own, with the durability of `make run` (docs/benchmarks.md).
"""
