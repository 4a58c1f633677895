"""The fabric beside its yardsticks: calls, samples, links, bodies, paths; `python -m bench.fabric`."""
