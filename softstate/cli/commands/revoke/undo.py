"""``softstate revoke undo``: take a revocation back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from softstate.auth.revocations import KINDS, REVOKED, key_topic, subject_topic, token_topic
from softstate.cli import exit_codes
from softstate.cli.commands.revoke.given import given_token
from softstate.cli.commands.revoke.options import check_key, check_name
from softstate.cli.commands.revoke.publishing import Nodes, undo
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, Timeout, Urls
from softstate.cli.terminal.fields import print_fields
from softstate.errors import ConfigError
from softstate.names import check_topic


async def command(
    what: Annotated[str, Parameter(name="WHAT")],
    /,
    *names: Annotated[str, Parameter(name="NAMES", allow_leading_hyphen=True, show_default=False)],
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 30.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Take a revocation back: what has not expired is good again. Exit code 3 if there is none.

    :param what: sub, token or key; or the topic of the revocation, as `softstate revoke list` prints it.
    :param names: As for that command: ISSUER SUBJECT, or TOKEN or ID ('-': standard input), or ISSUER KID.
    """
    topic = await _topic(what, names)
    await undo(topic, Nodes(url, credentials, timeout))
    print_fields({"undone": topic, "next": "what it revoked is good again, unless it has expired"}, json=False)
    return exit_codes.OK


async def _topic(what: str, names: Sequence[str]) -> str:
    match what, *names:
        case "sub", issuer, subject:
            return subject_topic(check_name(issuer, "ISSUER"), check_name(subject, "SUBJECT"))
        case "token", token:
            return token_topic((await given_token(token)).text)
        case "key", issuer, kid:
            check_key(issuer, kid)
            return key_topic(issuer, kid)
    if what not in KINDS and not names and what.startswith(REVOKED):
        return check_topic(what, "WHAT")
    raise ConfigError(
        f"undo takes 'sub ISSUER SUBJECT', 'token TOKEN|ID', 'key ISSUER KID', or a topic that begins with {REVOKED}"
    )
