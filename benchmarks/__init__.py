"""One measurement a question of the specification; each is a command, ``python -m benchmarks.NAME``."""
