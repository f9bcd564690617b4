"""The token that is to be revoked, or its ID, as a user gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import trio

from softstate.auth.revocations import REVOKED
from softstate.auth.token import is_static, read_token, signed_part
from softstate.cli.terminal.streams import note
from softstate.cli.terminal.tokens import token_at
from softstate.errors import ConfigError, Unauthenticated
from softstate.wire.messages import TOKEN_CHARS_MAX

ENDED_S = 660
"""Time from a token's `exp` until no node takes it any more: the longest `leeway_s`, 600, and a minute for clocks."""

ID = "every token of this ID"

DOTTED_ID_CHARS_MAX = 100
"""Longest ID with two dots: no signed token is that short, so what is longer is one that was cut."""


@dataclass(frozen=True)
class GivenToken:
    """A token, or the ID of one. `until` is when a node will certainly refuse it as expired, in seconds since 1970."""

    text: str = field(repr=False)
    what: str
    until: float = math.inf
    static: bool = False


async def given_token(argument: str) -> GivenToken:
    """Return the token or ID of an argument, which ``-`` reads from standard input. Raises `ConfigError`."""
    if argument == "-":
        text = await trio.to_thread.run_sync(token_at, "-", abandon_on_cancel=True)
        return _token(text)
    given = _token(argument)
    if given.what != ID:
        note("others can read a token in the list of processes: give '-', and the token on standard input")
    return given


def _token(text: str) -> GivenToken:
    if not 1 <= len(text) <= TOKEN_CHARS_MAX or not text.isprintable():
        raise ConfigError(f"TOKEN|ID must be text of 1 to {TOKEN_CHARS_MAX} printable characters")
    if text.startswith(REVOKED):
        raise ConfigError("TOKEN|ID: this is the topic of a revocation: to take it back, softstate revoke undo TOPIC")
    try:
        if is_static(text):
            return GivenToken(text, "this static token", static=True)
        if signed_part(text) is None and (text.count(".") != 2 or len(text) <= DOTTED_ID_CHARS_MAX):
            return GivenToken(text, ID)
        expires = float(read_token(text).claims["exp"])
    except Unauthenticated as error:
        raise ConfigError(
            f"TOKEN|ID: it is made like a token, and no node takes it: {error.message}. Was it cut?"
        ) from None
    return GivenToken(text, "this token", math.ceil(expires) + ENDED_S)
