"""policyd: Exchange Online's inbound connectors for Postfix."""

__version__ = "0.1.0"
# Of configurations and what is kept of them: raised when one that was accepted before is accepted no more, or means
# something else. Shown by --version.
RULES_FORMAT = 1
