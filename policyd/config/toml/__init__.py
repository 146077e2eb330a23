"""The text of TOML: read, with the line of each key, and written (SPEC 4). Knows nothing of what the keys mean."""
