"""What the administrator wrote, read and checked, as the model (SPEC 4)."""
