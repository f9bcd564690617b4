"""Where a node is: reading and normalising the URLs that an application gives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import final
from urllib.parse import quote, urlsplit

from softstate.addresses import UNIX_SCHEME, unix_path
from softstate.errors import ConfigError

PORT = 8700
"""Port of ws and http URLs that name none."""

PORT_TLS = 443
"""Port of wss and https URLs that name none."""

_TLS = {"ws": False, "http": False, "wss": True, "https": True}
_PATH_SAFE = "/%:@!$&'()*+,;=~"
_NOT_IN_HOST = re.compile(r"[\x00-\x20\x7f]")


@final
@dataclass(frozen=True, slots=True)
class NodeUrl:
    """The base URL of a node, taken apart. `path` is empty, or begins with ``/`` and does not end in one.

    Of a Unix socket, `host` is ``unix:`` and its path, and `port` is 0. One URL serves WebSocket and HTTP alike, as a
    node answers both on one port. `str` gives the normal form.
    """

    host: str
    port: int
    tls: bool
    path: str = ""

    @property
    def authority(self) -> str:
        """Host and port, as a ``Host`` header has them."""
        if self.host.startswith(UNIX_SCHEME):
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def target(self, path: str) -> str:
        """Return the request target of a path that begins with ``/v1/`` and is encoded already."""
        return self.path + path

    def __str__(self) -> str:
        if self.host.startswith(UNIX_SCHEME):
            return self.host
        return f"{'wss' if self.tls else 'ws'}://{self.authority}{self.path}"


def parse_url(text: str) -> NodeUrl:
    """Read a node's URL: ``ws``, ``wss``, ``http`` or ``https``, host, port (8700; with TLS 443), optional path prefix.

    Or ``unix:`` and the path of a socket, as it is: nothing is decoded in it.

    Raises `ConfigError`, which quotes the URL and says what is wrong with it.
    """
    if text.startswith(UNIX_SCHEME):
        try:
            unix_path(text)
        except ValueError as error:
            raise ConfigError(f"{text!r} is not a node's URL: {error}") from None
        return NodeUrl(text, 0, tls=False)
    try:
        parts = urlsplit(text)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except (UnicodeError, ValueError) as error:
        raise ConfigError(f"{text!r} is not a node's URL: {error}") from None
    if "://" not in text or parts.scheme not in _TLS:
        raise ConfigError(f"{text!r} must begin with ws://, wss://, http:// or https://")
    if _NOT_IN_HOST.search(host):
        raise ConfigError(f"{text!r} must name a host without blanks and control characters")
    if not host or port == 0:
        raise ConfigError(f"{text!r} must name a host, and a port above 0 if any, such as ws://127.0.0.1:{PORT}")
    if parts.username is not None:
        raise ConfigError(f"the URL of {host!r} must not hold credentials: give them as `token`")
    if parts.query or parts.fragment:
        raise ConfigError(f"{text!r} must not have a query or a fragment")
    try:
        path = quote(parts.path.rstrip("/"), safe=_PATH_SAFE)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{text!r} is not a node's URL: {error}") from None
    if path == "/v1" or path.endswith(("/v1/ws", "/v1")):
        raise ConfigError(f"{text!r} must be the base URL of the node: leave out the part from /v1 on")
    tls = _TLS[parts.scheme]
    return NodeUrl(host, port or (PORT_TLS if tls else PORT), tls, path)
