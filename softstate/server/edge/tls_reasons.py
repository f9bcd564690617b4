"""Why TLS has ended a connection, in plain words: for the audit log."""

from __future__ import annotations

import ssl

_REASONS = {
    "CERTIFICATE_UNKNOWN": "the client does not accept this node's certificate",
    "BAD_CERTIFICATE": "the client does not accept this node's certificate",
    "CERTIFICATE_EXPIRED": "the client finds this node's certificate expired, by its own clock",
    "UNKNOWN_CA": "the client does not know the authority of this node's certificate",
    "PROTOCOL_VERSION": "the client wants another version of TLS",
    "UNSUPPORTED_PROTOCOL": "the client speaks no version of TLS from 1.2 on",
    "NO_SHARED_CIPHER": "the client and this node have no cipher in common",
    "WRONG_VERSION_NUMBER": "it was not TLS",
    "HTTP_REQUEST": "it was not TLS",
    "RECORD_LAYER_FAILURE": "it was not TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client has presented no certificate",
}
"""The meaning of OpenSSL's reasons, which are without their prefixes here."""

_PREFIXES = ("TLSV1_ALERT_", "SSLV3_ALERT_", "TLSV13_ALERT_")


def in_plain_words(error: ssl.SSLError) -> str:
    """Return what an error of TLS means, or OpenSSL's own words for it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not accepted: {error.verify_message}"
    reason = error.reason or str(error)
    for prefix in _PREFIXES:
        reason = reason.removeprefix(prefix)
    return _REASONS.get(reason, reason.lower().replace("_", " "))
