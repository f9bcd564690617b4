"""Tickets: each stands for a token, once and for half a minute, where no header can be set (P-AUTH-14).

A ticket is a random secret. The store holds the token that it stands for, sealed with that secret, under the digest of
it: a reader of the store learns neither, and any node can redeem it. The secret seals one token only, so that a key
stream that is as long as the token, drawn from it, is all that this takes.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from hashlib import sha256, shake_256

from softstate.auth.identity import RESERVED, Why, refused
from softstate.errors import Unauthenticated, Unreadable
from softstate.wire.value import decode_value, encode_value

TICKETS = f"{RESERVED}/ticket/"
"""The prefix of all tickets that were not redeemed."""

TICKET_S = 30
"""Time for which a ticket is good, in seconds."""

SECRET_BYTES = 32

TICKET_CHARS_MAX = 64
"""Longest ticket that is looked at; they have 47 characters."""

_MARK = "tkt_"
_FORM = re.compile(rf"{_MARK}[A-Za-z0-9_-]{{43}}")
_SEAL = b"softstate ticket\0"


def ticket_of(secret: bytes) -> str:
    """Write the ticket that a secret of `SECRET_BYTES` is."""
    return _MARK + _text(secret)


def topic_of(ticket: str) -> str:
    """Return the topic that holds what a ticket stands for. Raises `Unauthenticated` if it is none."""
    if not _FORM.fullmatch(ticket):
        raise refused(Why.MALFORMED, "this is no ticket: POST /v1/ticket makes one")
    return TICKETS + _text(sha256(ticket.encode()).digest())


def sealed(ticket: str, token: str, until: float) -> bytes:
    """Return the value, as CBOR, that stands for a token until a time in seconds since 1970."""
    return encode_value({"sealed": _covered(ticket, token.encode()), "until": int(until)})


def opened(ticket: str, cbor: bytes, wall: float) -> str:
    """Return the token that a value of the ticket's topic stands for. Raises `Unauthenticated` if it is over."""
    try:
        told = decode_value(cbor)
    except Unreadable:
        raise unknown_ticket() from None
    data, until = (told.get("sealed"), told.get("until")) if isinstance(told, dict) else (None, None)
    if not isinstance(data, bytes) or not isinstance(until, int) or until <= wall:
        raise unknown_ticket()
    try:
        return _covered(ticket, data).decode()
    except UnicodeDecodeError:
        raise unknown_ticket() from None


def is_over(cbor: bytes | None, wall: float) -> bool:
    """Tell whether a value stands for nothing any more; one that is not understood does not either."""
    try:
        told = decode_value(cbor) if cbor is not None else None
    except Unreadable:
        return True
    until = told.get("until") if isinstance(told, dict) else None
    return not isinstance(until, int) or until <= wall


def unknown_ticket() -> Unauthenticated:
    """Return the error of a ticket that is over, was used, or never was."""
    text = f"this ticket is not good any more: each is good once, for {TICKET_S} s; POST /v1/ticket gives another"
    return refused(Why.EXPIRED, text)


def _covered(ticket: str, data: bytes) -> bytes:
    stream = shake_256(_SEAL + ticket.encode()).digest(len(data))
    return bytes(one ^ other for one, other in zip(data, stream, strict=True))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
