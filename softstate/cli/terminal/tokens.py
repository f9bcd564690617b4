"""Reading a token from a file or from standard input."""

from __future__ import annotations

from pathlib import Path

from softstate.cli.options.credentials import token_in, token_of
from softstate.cli.terminal.streams import input_pieces
from softstate.wire.messages import TOKEN_CHARS_MAX


def token_at(path: str) -> str:
    """Return the token that a file holds, or standard input for ``-``. Raises `ConfigError`."""
    if path != "-":
        return token_in(Path(path), path)
    data = b""
    for piece in input_pieces():
        data += piece
        if len(data) > 2 * TOKEN_CHARS_MAX:
            break
    return token_of(data, "standard input")
