"""The provider of a client's tokens: an async function of the application, called in a task of the shell."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import trio

from softstate.client.machine.events import TokenFailed, TokenGot
from softstate.errors import Denied, Unauthenticated, Unavailable
from softstate.wire.messages import TOKEN_CHARS_MAX

FETCH_S_MAX = 30.0
"""How long one call of a provider may take."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The reason why a token is wanted, for a provider of tokens.

    `rejected` is the check that refused the last one, such as ``expired`` or ``signature``: one that keeps tokens has
    to get another then. None: there was none, or it ends soon. `attempt` counts the calls since a node took a token,
    from 0.
    """

    rejected: str | None = None
    attempt: int = 0


class Tokens(Protocol):
    """The tokens of a client with a provider, as its reads know them."""

    async def first(self) -> None:
        """Wait until there is a token."""

    async def after(self, refused: str | None, error: Unauthenticated) -> None:
        """Say that a node refused a token, and wait until there is another one. Raises `error` if none comes."""


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


async def fetch_token(provider: TokenProvider, number: int, request: TokenRequest) -> TokenGot | TokenFailed:
    """Call the provider, for `FETCH_S_MAX` at most; what it raises is no fault of the client's."""
    token: str | None = ""
    try:
        with trio.move_on_after(FETCH_S_MAX) as limit:
            coming: object = provider(request)
            if not isinstance(coming, Awaitable):
                return TokenFailed(number, Denied("the token provider is no async function"), final=True)
            token = await coming
    except Denied as error:
        return TokenFailed(number, error, final=True)
    except Exception as error:  # noqa: BLE001 - its text may hold a secret
        return TokenFailed(number, Unavailable(f"the token provider failed: {type(error).__name__}"))
    if limit.cancelled_caught:
        return TokenFailed(number, Unavailable(f"the token provider returned nothing within {FETCH_S_MAX:g} s"))
    if token is None:
        return TokenFailed(number, Denied("the token provider gives no token any more"), final=True)
    if not is_token(token):
        text = f"the token provider gave no token: that is text of 1 to {TOKEN_CHARS_MAX} printable ASCII characters"
        return TokenFailed(number, Unavailable(text))
    return TokenGot(number, token)
