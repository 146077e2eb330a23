"""The running server. Twisted lives here and nowhere else."""
