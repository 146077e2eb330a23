"""The running server (SPEC 8). Twisted lives here and nowhere else."""
