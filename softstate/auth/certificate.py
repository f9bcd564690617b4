"""Client certificates as credentials: whom one names, by which of its names, and until when. No I/O.

That an authority of this node has signed it was checked in the handshake, which fails for any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from softstate.auth.identity import Why, refused
from softstate.auth.presented import Certificate
from softstate.auth.token import SUBJECT_CHARS_MAX
from softstate.auth.toml_tables import TomlTable

CERTIFICATE_ISSUER = "mtls"
"""The issuer of identities that client certificates make; no other may have this name."""

CERTIFICATE_EXPIRED = "the client's certificate has expired: connect again with a new one"

NameKind: TypeAlias = Literal["uri", "dns", "email", "cn"]

NAME_KINDS: tuple[NameKind, ...] = get_args(NameKind)

_WORDS = {
    "uri": "URI (of its subjectAltName)",
    "dns": "DNS name (of its subjectAltName)",
    "email": "e-mail address (of its subjectAltName)",
    "cn": "common name",
}


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """How a policy takes certificates: the name of this kind is the subject."""

    subject: NameKind

    def subject_of(self, certificate: Certificate) -> str:
        """Return the subject. Raises `Unauthenticated` unless there is exactly one such name."""
        names = [name for kind, name in certificate.names if kind == self.subject]
        if len(names) != 1:
            had = f"{len(names)} of them" if names else "none"
            raise refused(Why.MALFORMED, f"the client's certificate must have one {_WORDS[self.subject]}; it has {had}")
        (subject,) = names
        if not (1 <= len(subject) <= SUBJECT_CHARS_MAX and subject.isprintable()):
            text = f"1 to {SUBJECT_CHARS_MAX} printable characters"
            raise refused(Why.MALFORMED, f"the {_WORDS[self.subject]} of the client's certificate must be {text}")
        return subject


def read_certificate_rule(table: TomlTable) -> CertificateRule:
    """Read the table ``[auth.mtls]``. Raises `ConfigError`."""
    given = table.text("subject")
    for kind in NAME_KINDS:
        if given == kind:
            table.end()
            return CertificateRule(kind)
    raise table.wrong("subject", f"must be one of {', '.join(map(repr, NAME_KINDS))}: the name that counts")
