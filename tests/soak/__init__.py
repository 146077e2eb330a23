"""Hours in minutes: real Postfix and generated traffic, abuse, reloads. `python -m tests.soak --seconds 1800`."""
