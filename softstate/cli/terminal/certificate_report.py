"""The report of ``softstate serve --check`` on the certificate of a node."""

from __future__ import annotations

import time

from softstate.cli.visible import visible
from softstate.server.certificates import WARN_S, files_of, load_certificate
from softstate.server.config import ServerConfig

DAY_S = 86_400


def describe_certificate(config: ServerConfig) -> str:
    """Say in one line for which names a certificate is, and when it ends. Raises `ConfigError` if it is of no use."""
    files = files_of(config)
    assert files is not None
    certificate = load_certificate(files)
    left_s = certificate.until - time.time()
    names = ", ".join(certificate.names) or "no name, so that clients will refuse it"
    soon = ": renew it" if left_s < WARN_S else ""
    return visible(f"certificate {files.cert} for {names}: ends in {left_s / DAY_S:.1f} days{soon}")
