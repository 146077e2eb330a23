"""policyd: Exchange Online's inbound connectors for Postfix."""

__version__ = "0.1.0"
