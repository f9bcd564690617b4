"""Credentials of a request or handshake, and the address that it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Vouched:
    """A principal that a proxy has vouched for in headers: its subject, and what it is granted, as JSON.

    `via` is the address that the headers came from: whether that is a proxy that is trusted is up to the policy.
    """

    subject: str
    grants: str | None
    via: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client's certificate, which an authority of this node has signed.

    `digest` is its SHA-256, in hexadecimal digits; `names` are its names, each with its kind (``uri``, ``dns``,
    ``email`` or ``cn``). `begin` and `end` are when it is good, by the wall clock.
    """

    digest: str
    names: tuple[tuple[str, str], ...]
    begin: float
    end: float


Credentials: TypeAlias = str | Vouched | Certificate | None
"""A token, what a proxy says, a client's certificate, or nothing."""


@dataclass(frozen=True, slots=True)
class Presented:
    """The credentials that came with a request or handshake, and the address of who sent it, if that is known."""

    credentials: Credentials = field(default=None, repr=False)
    address: str = ""


NOTHING_PRESENTED = Presented()
"""No credentials, from an unknown address."""
