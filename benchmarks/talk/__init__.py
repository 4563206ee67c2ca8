"""The talk's results, remade: python -m benchmarks.talk DATA_ROOT."""
