"""Connections from chosen loopback addresses, begun without waiting: for generators that open thousands."""

from __future__ import annotations

import socket

IP_BIND_ADDRESS_NO_PORT = 24
"""Leaves the choice of the port to `connect`, which may give one port to connections to different peers (Linux)."""


def dial(address: str, port: int) -> socket.socket:
    """Begin to connect from `address` to a port of this host; the socket does not block, and can be written once open.

    A refusal may come at once, and is told by the next call all the same. Raises `OSError` without a socket or address.
    """
    opened = socket.socket()
    opened.setblocking(False)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    opened.bind((address, 0))
    opened.connect_ex(("127.0.0.1", port))
    return opened
