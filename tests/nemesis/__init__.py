"""Faults on the real servers: a load, a nemesis with a seed, and an audit of everything afterwards (docs/faults.md)."""
