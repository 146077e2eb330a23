"""The rules. Pure: knows nothing of TOML, Twisted, files or clocks (SPEC 3)."""
