"""Reading a token from a file or from standard input."""

from __future__ import annotations

from pathlib import Path

from softstate.auth.token import STATIC_PREFIX
from softstate.cli.options.credentials import token_in, token_of
from softstate.cli.terminal.streams import input_pieces
from softstate.errors import ConfigError
from softstate.wire.messages import TOKEN_CHARS_MAX

BEGINNINGS = (STATIC_PREFIX, "eyJ")
"""Beginnings of tokens that names of files hardly have; the second is the base64url of a JSON object."""


def token_at(path: str) -> str:
    """Return the token that a file holds, or standard input for ``-``. Raises `ConfigError`."""
    if path.startswith(BEGINNINGS):
        raise ConfigError(
            "a token is read from a file that FILE names, or from standard input (-): on a command line others can read"
            " it, and the shell remembers it"
        )
    if path != "-":
        return token_in(Path(path), path)
    data = b""
    for piece in input_pieces():
        data += piece
        if len(data) > 2 * TOKEN_CHARS_MAX:
            break
    return token_of(data, "standard input")
