"""What is kept of requests and decisions: log lines, transcripts, and reading both back (SPEC 6, 7)."""
