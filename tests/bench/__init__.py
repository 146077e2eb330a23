"""The benchmark: `python -m tests.bench` from the project's root. Measures; asserts nothing about time."""
