"""Other systems' lists of connectors, read and turned into TOML that passes `policyd check` (SPEC 7, import)."""
