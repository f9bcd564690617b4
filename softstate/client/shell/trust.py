"""TLS of a client: how its streams are opened, and what is told when one side refuses the other's certificate."""

from __future__ import annotations

import ssl
from functools import partial

from softstate.client.machine.state import MISTRUSTED
from softstate.client.url import NodeUrl
from softstate.errors import Unavailable
from softstate.http_client.streams import OpenStream, Stream, cause, open_secured

HOSTNAME_MISMATCH = 62
ADDRESS_MISMATCH = 64
"""Codes of OpenSSL (X509_V_ERR_…): the certificate is good, but for another name."""

_ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority that has signed it",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants one, and none was given",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it is none that it takes",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it is damaged",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it is not one of a client",
}
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


def opening(tls: ssl.SSLContext) -> OpenStream:
    """Return what opens TCP streams with this context, for URLs that ask for TLS."""
    return partial(_open, tls)


async def _open(context: ssl.SSLContext, host: str, port: int, tls: bool) -> Stream:
    return await open_secured(host, port, context if tls else None)


def mistrust(url: NodeUrl, error: Exception) -> Unavailable | None:
    """Return what to tell of a stream that failed because of TLS, and what to do about it; None for other failures.

    It may be mended without a word to this client, so that it is tried again.
    """
    behind = cause(error)
    if isinstance(behind, ssl.SSLCertVerificationError):
        if behind.verify_code in (HOSTNAME_MISMATCH, ADDRESS_MISMATCH):
            text = f"its certificate is not for {url.host}: use a name that it has"
        else:
            text = (
                f"its certificate is not accepted: {behind.verify_message}. If its authority is not one of this"
                " system's, name it: `tls` of connect, or --tls-ca FILE"
            )
    elif isinstance(behind, ssl.SSLError) and behind.reason in _ALERTS:
        text = (
            f"it does not accept this client's certificate: {_ALERTS[behind.reason]}. Give another: `tls` of connect,"
            " or --tls-cert FILE --tls-key FILE"
        )
    elif isinstance(behind, ssl.SSLError) and behind.reason in _NO_TLS:
        text = "it does not speak TLS there: is its URL to begin with ws:// or http://?"
    else:
        return None
    return Unavailable(f"{url} cannot be used: {text}", why=MISTRUSTED)
