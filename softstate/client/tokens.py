"""Tokens and their providers, as an application gives them: what counts as one, and what a provider is asked."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from softstate.wire.messages import TOKEN_CHARS_MAX


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The reason why a token is wanted, for a provider of tokens.

    `rejected` is the check that refused the last one, such as ``expired`` or ``signature``: one that keeps tokens has
    to get another then. None: there was none, or it ends soon. `attempt` counts the calls since a node took a token,
    from 0.
    """

    rejected: str | None = None
    attempt: int = 0


TokenProvider: TypeAlias = Callable[[TokenRequest], Awaitable[str | None]]
"""Returns a token; None, or `softstate.Denied`, if there will be none any more. Any other error: it is asked again."""


def is_token(token: object) -> bool:
    """Tell whether this can be a token: printable ASCII, of 8,192 characters at most."""
    return isinstance(token, str) and token.isascii() and token.isprintable() and 0 < len(token) <= TOKEN_CHARS_MAX


def takes_request(provider: object) -> bool:
    """Tell whether this can be called with a `TokenRequest`, as far as can be seen before it is."""
    if not callable(provider):
        return False
    try:
        inspect.signature(provider).bind(TokenRequest())
    except TypeError:
        return False
    except ValueError:
        pass  # it is written in C, and shows no signature
    return True
