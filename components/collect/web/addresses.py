"""Which network addresses a URL may lead to.

A name is resolved once; what it resolved to is checked, and that very address is connected to.  So no second
answer of a name server (DNS rebinding), no spelling of an address (``0x7f.1``, ``2130706433``) and no
redirect leads to a machine of the local network.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass

Resolver = Callable[..., list[tuple]]
"""``socket.getaddrinfo``, or its replacement in a test."""

# Addresses that Python counts as global but that are not the public internet.
_SPECIAL = {
    ipaddress.ip_network(text): what
    for text, what in {
        "168.63.129.16/32": "metadata of a cloud",  # Azure's; most others' are link-local or private
        "192.0.0.0/24": "metadata of a cloud",  # Oracle's
        "192.88.99.0/24": "6to4 relay",
        "64:ff9b:1::/48": "local NAT64",
        "2001::/32": "Teredo",
        "2002::/16": "6to4",  # given up (RFC 7526); Python 3.13 counts it as not global, 3.11 as global
        "2001:db8::/32": "documentation",
        "3fff::/20": "documentation",
        "5f00::/16": "segment routing",
        "fec0::/10": "site-local",
        "::/96": "IPv4-compatible",
    }.items()
}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenError(Exception):
    """Every address of a name is one that must not be connected to; the message says which."""


@dataclass(frozen=True)
class Address:
    """Where to connect to: what ``socket.socket`` and its ``connect`` take."""

    family: int
    sockaddr: tuple


def resolve(host: str, port: int, *, private: bool, resolver: Resolver = socket.getaddrinfo) -> list[Address]:
    """The addresses of ``host`` that may be connected to, in the resolver's order, at least one.

    OSError when the name has none; ForbiddenError when it has, and ``private`` is false and all are forbidden.
    """
    found = [
        Address(family, sockaddr)
        for family, kind, _, _, sockaddr in resolver(host, port, type=socket.SOCK_STREAM)
        if family in (socket.AF_INET, socket.AF_INET6) and kind in (socket.SOCK_STREAM, 0)
    ]
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    if private:
        return found
    troubles = {each: trouble(each.sockaddr[0]) for each in found}
    allowed = [each for each in found if not troubles[each]]
    if not allowed:
        raise ForbiddenError(min(f"{each.sockaddr[0]} is {what}" for each, what in troubles.items()))
    return allowed


def trouble(text: str) -> str:
    """Why the address that ``text`` spells must not be connected to; '' when it is one of the public internet."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "no address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return "link-local"
        inner = _inside(address)
        if inner is not None:
            return trouble(str(inner))
    for network, what in _SPECIAL.items():
        if address in network:
            return what
    for what in ("unspecified", "loopback", "link_local", "multicast", "private", "reserved"):
        if getattr(address, f"is_{what}"):
            return what.replace("_", "-")
    return "" if address.is_global else "not global"


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that ``address`` is a disguise of: mapped or NAT64."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped
