"""Postfix's own configuration, read, and judged for what it means beside policyd (SPEC 7). Changes nothing."""
