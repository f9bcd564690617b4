"""``softstate token show``: take a token apart."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import trio
from cyclopts import Parameter

from softstate.auth.identity import Identity
from softstate.auth.token import CHECKS, is_static, read_token
from softstate.cli import exit_codes
from softstate.cli.commands.token.options import PolicyPath
from softstate.cli.options.durations import seconds_text
from softstate.cli.terminal.streams import note
from softstate.cli.terminal.tokens import token_at
from softstate.cli.visible import visible
from softstate.errors import Unauthenticated
from softstate.server.auth.once import fetched_policy
from softstate.server.config.server_config import FILE_KEYS

TIMES = ("iat", "nbf", "exp")


async def command(
    file: Annotated[str, Parameter(name="FILE", allow_leading_hyphen=True)] = "-", /, *, auth: PolicyPath = None
) -> int:
    """Take a token apart: its claims and times and, with --auth, each check that a node with that policy makes.

    Exit code 7 if a node would refuse it. Without --auth nothing is checked, so nothing in it need be true.

    :param file: The file that holds the token; '-' is standard input.
    """
    text = token_at(file)
    if not is_static(text):
        _show_claims(text)
    if auth is None:
        print("not checked: name the policy file with --auth")
        return exit_codes.OK
    policy = await fetched_policy(auth, FILE_KEYS)
    for issuer, failure in (policy.failures | policy.problems).items():
        note(visible(f"issuer {issuer}: {failure}"))
    try:
        identity = policy.authority.identify(text, trio.current_time(), time.time())
    except Unauthenticated as error:
        _show_checks(error.why)
        raise
    _show_checks(None)
    _show_identity(identity)
    return exit_codes.OK


def _show_claims(text: str) -> None:
    token = read_token(text)
    wall = time.time()
    header = token.header
    print(visible(f"header  alg {header.algorithm}, kid {header.key or '(none)'}, typ {header.type or '(none)'}"))
    for name, value in token.claims.items():
        shown = json.dumps(value, ensure_ascii=False)
        print(visible(f"claim   {name} = {shown}{_when(value, wall) if name in TIMES else ''}"))


def _when(seconds: Any, wall: float) -> str:
    away = float(seconds) - wall
    return f" (in {seconds_text(away)})" if away >= 0 else f" ({seconds_text(-away)} ago)"


def _show_checks(failed: str | None) -> None:
    """Print each check that was made: they are made in this order, and end at the first that fails."""
    for why, what in CHECKS.items():
        if why == failed:
            print(f"✗ {what} ({why})")
            return
        print(f"✓ {what}")


def _show_identity(identity: Identity) -> None:
    grant = identity.grant
    print(visible(f"subject {identity.subject} of issuer {identity.issuer}"))
    read, write = (" ".join(map(str, patterns)) for patterns in (grant.patterns("read"), grant.patterns("write")))
    print(f"read    {visible(read) or 'nothing'}")
    print(f"write   {visible(write) or 'nothing'}")
    if grant.admin:
        print("admin   everything, what is reserved included")
