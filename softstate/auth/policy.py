"""The policy of an operator, as the authority of a node goes by it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from softstate.auth.callout import Callout
from softstate.auth.certificate import CertificateRule
from softstate.auth.limits import NamespaceLimit
from softstate.auth.proxy import TrustedProxy
from softstate.auth.rules import Allow, Who
from softstate.auth.token import Issuer

ALLOWED_NOTHING = Allow(Who())

STATIC_ISSUER = "static"
"""The issuer of identities that static tokens make; no other may have this name."""


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that means nothing by itself: the file holds its SHA-256, and what it may do. `until` is wall time."""

    name: str
    digest: bytes
    allow: Allow = ALLOWED_NOTHING
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Policy:
    """All that an operator has decided: issuers, static tokens, rules, limits, proxies and a callout."""

    issuers: tuple[Issuer, ...] = ()
    tokens: tuple[StaticToken, ...] = ()
    allows: tuple[Allow, ...] = ()
    limits: tuple[NamespaceLimit, ...] = ()
    proxy: TrustedProxy | None = None
    callout: Callout | None = None
    mtls: CertificateRule | None = None
