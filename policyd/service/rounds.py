"""One round of events: what is read at once (SPEC 5)."""

from __future__ import annotations

# The most octets read at once. It bounds the answers that may pile up for a peer that does not read them.
READ_SIZE = 8192
