"""One runnable file a claim; each writes its result into benchmarks/results/."""
