"""The commands: one module each. Data goes to standard output, messages for people to standard error (SPEC 7)."""
