"""The provider of a client's tokens: an async function of the application, called in a task of the shell."""

from __future__ import annotations

from collections.abc import Awaitable

import anyio

from softstate.client.machine.events import TokenFailed, TokenGot
from softstate.client.tokens import TokenProvider, TokenRequest, is_token
from softstate.errors import Denied, Unavailable
from softstate.wire.messages import TOKEN_CHARS_MAX

FETCH_S_MAX = 30.0
"""How long one call of a provider may take."""


async def fetch_token(provider: TokenProvider, number: int, request: TokenRequest) -> TokenGot | TokenFailed:
    """Call the provider, for `FETCH_S_MAX` at most; what it raises is no fault of the client's."""
    token: str | None = ""
    try:
        with anyio.move_on_after(FETCH_S_MAX) as limit:
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
