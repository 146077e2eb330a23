"""The exit codes of every command (SPEC 7)."""

OK = 0
REJECTED = 1
USAGE = 64
DATA = 65
UNAVAILABLE = 69
INTERNAL = 70
CANNOT_LISTEN = 71
CONFIG = 78
