"""``softstate token static``: make a token that needs no key."""

from __future__ import annotations

import json
import secrets
from hashlib import sha256
from typing import Annotated

from cyclopts import Parameter

from softstate.auth.token import STATIC_PREFIX, SUBJECT_CHARS_MAX
from softstate.cli import exit_codes
from softstate.cli.commands.token.options import Read, Write, patterns_of
from softstate.errors import ConfigError


async def command(
    *,
    name: Annotated[str, Parameter(metavar="NAME")],
    read: Read = (),
    write: Write = (),
    admin: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> int:
    """Make a static token at random: print it, once, and what the policy file has to hold of it.

    A static token needs no issuer and has no end, unless `until` says so; take its lines out, and it is no longer good.

    :param name: Whom it is for: the subject.
    :param admin: May do everything, and what only administrators may.
    """
    if not 1 <= len(name) <= SUBJECT_CHARS_MAX or not name.isprintable():
        raise ConfigError(f"--name must be text of 1 to {SUBJECT_CHARS_MAX} printable characters")
    token = STATIC_PREFIX + secrets.token_urlsafe(32)
    lines = ["[[auth.token]]", f"name = {_toml(name)}", f'sha256 = "{sha256(token.encode()).hexdigest()}"']
    for key, texts in (("read", patterns_of(read, "--read")), ("write", patterns_of(write, "--write"))):
        if texts:
            lines.append(f"{key} = [{', '.join(map(_toml, texts))}]")
    if admin:
        lines.append("admin = true")
    print(token, "", *lines, sep="\n")
    return exit_codes.OK


def _toml(text: str) -> str:
    """Write text as TOML does, which for text without control characters is as JSON does."""
    return json.dumps(text, ensure_ascii=False)
