"""Somebody else's configuration: Postfix's, read, and judged for what it means beside policyd. Changes nothing."""
