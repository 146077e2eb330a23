"""Coverage-guided fuzzing of everything that reads bytes of others (atheris). `python -m tests.fuzz --seconds 60`."""
