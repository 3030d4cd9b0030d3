"""Refuse every connection that does not stay on this machine."""

import ipaddress
import socket

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


class LeftTheMachineError(AssertionError):
    """Something tried to reach the network."""


def install() -> None:
    """From here on a connection in this process stays on loopback or fails loudly."""
    socket.socket.connect = lambda self, address: _connect(self, _checked(self, address))
    socket.socket.connect_ex = lambda self, address: _connect_ex(self, _checked(self, address))


def _checked(sock: socket.socket, address: object) -> object:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        host = str(address[0]).split("%")[0]
        try:
            inside = host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            inside = False
        # A UDP socket that "connects" to learn this machine's own address sends nothing.
        if not inside and sock.type != socket.SOCK_DGRAM:
            raise LeftTheMachineError(f"a connection to {address!r} leaves this machine")
    return address
