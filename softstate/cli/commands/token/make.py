"""``softstate token make``: sign a token."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from softstate.auth.token import MAX_TOKEN_S, SUBJECT_CHARS_MAX
from softstate.cli import exit_codes
from softstate.cli.commands.token.options import (
    DEFAULT_AUDIENCE,
    DEFAULT_ISSUER,
    Claims,
    Groups,
    Read,
    Write,
    claims_of,
    patterns_of,
)
from softstate.cli.options.durations import duration
from softstate.cli.terminal.streams import note
from softstate.errors import ConfigError
from softstate.server.auth.policy_files import check_installed
from softstate.wire.messages import TOKEN_CHARS_MAX

FILE_BYTES_MAX = 64 * 1024


async def command(
    *,
    key: Annotated[Path, Parameter(metavar="FILE")],
    sub: Annotated[str, Parameter(metavar="NAME")],
    issuer: Annotated[str, Parameter(metavar="NAME")] = DEFAULT_ISSUER,
    audience: Annotated[str, Parameter(metavar="NAME")] = DEFAULT_AUDIENCE,
    read: Read = (),
    write: Write = (),
    group: Groups = (),
    claim: Claims = (),
    expires: Annotated[
        float, Parameter(converter=duration, metavar="DURATION", show_default=lambda seconds: f"{seconds:g}s")
    ] = 3_600.0,
) -> int:
    """Sign a token, and print it alone.

    What it may do is what rules of the policy file say of its subject, groups and claims, beside --read and --write.

    :param key: The key, as `softstate token key` writes it.
    :param sub: Who presents it: the subject.
    :param issuer: The issuer, as `issuer` of the policy file.
    :param audience: Whom it is for, as one of `audience` of the policy file.
    :param expires: For how long it is good; nodes take 24 hours at most, unless `max_token_s` says otherwise.
    """
    check_installed()
    from softstate.auth.signature import BadKey, import_signing_key  # noqa: PLC0415 - it imports joserfc

    for option, text in (("--sub", sub), ("--issuer", issuer), ("--audience", audience)):
        if not 1 <= len(text) <= SUBJECT_CHARS_MAX or not text.isprintable():
            raise ConfigError(f"{option} must be text of 1 to {SUBJECT_CHARS_MAX} printable characters")
    if expires < 1:
        raise ConfigError("--expires must be at least 1s")
    now = int(time.time())
    claims: dict[str, object] = {"iss": issuer, "sub": sub, "aud": audience, "jti": secrets.token_urlsafe(12)}
    claims |= {"iat": now, "exp": now + int(expires)}
    if read or write:
        claims["softstate"] = {"read": patterns_of(read, "--read"), "write": patterns_of(write, "--write")}
    if group:
        claims["groups"] = list(group)
    claims |= claims_of(claim)
    try:
        with key.open("rb") as file:
            token = import_signing_key(file.read(FILE_BYTES_MAX)).sign(claims)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--key: cannot read {key}: {getattr(error, 'strerror', error)}") from None
    except BadKey as error:
        raise ConfigError(f"--key: {key} cannot be used: {error}") from None
    if len(token) > TOKEN_CHARS_MAX:
        raise ConfigError(
            f"the token has {len(token)} characters, and {TOKEN_CHARS_MAX} are the most: leave claims out"
        )
    if expires > MAX_TOKEN_S:
        note("a node refuses a token that is good for more than 24 hours, unless max_token_s of its issuer says more")
    print(token)
    return exit_codes.OK
