"""The way of the rules: files and database read, checked, compiled, and what a change changes (SPEC 8, 9)."""
