"""Addresses that say nothing about who connects: the server's own, those of one wire, and private ones (SPEC 4)."""

from __future__ import annotations

from collections.abc import Iterator

from policyd.config.messages import Message
from policyd.config.text import quoted
from policyd.policy.networks import LINK_LOCAL, LOOPBACK, PRIVATE, Network

_KINDS = ((LOOPBACK, Message.LOOPBACK), (LINK_LOCAL, Message.LINK_LOCAL), (PRIVATE, Message.PRIVATE))


def unusable(network: Network) -> Iterator[Message]:
    """What there is to say of the addresses of a network; nothing where each may be one server's own."""
    return (message for kind, message in _KINDS if any(map(network.overlaps, kind)))


def why_unusable(network: Network) -> str:
    """The first of it as a text; empty where there is nothing to say."""
    message = next(unusable(network), None)
    return "" if message is None else message.value.format(value=quoted(str(network)))
