"""``softstate revoke token``: revoke a single token."""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import Parameter

from softstate.auth.revocations import Revocation, token_topic
from softstate.cli.commands.revoke.given import given_token
from softstate.cli.commands.revoke.options import Lasting, Printed, Reason, check_reason, until_of
from softstate.cli.commands.revoke.publishing import Nodes
from softstate.cli.commands.revoke.report import STATIC_NEXT, carry_out
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, Timeout, Urls


async def command(
    token: Annotated[str, Parameter(name="TOKEN|ID", allow_leading_hyphen=True)],
    /,
    *,
    lasts: Lasting = None,
    reason: Reason = "",
    printed: Printed = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 30.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Revoke a single token, given whole or by its ID (`jti`). It is never printed.

    An ID is that of tokens of every issuer: the IDs of two issuers may be the same.

    :param token: The token or its ID; '-' reads it from standard input. Others can read a command line: prefer '-' for
        a whole token.
    :param lasts: How long to refuse it, such as 24h, or 'ever': at least as long as it lives. The default is until a
        signed token that is given whole has ended, and 'ever' for an ID, which does not tell that, and a static token.
    """
    given = await given_token(token)
    until = given.until if lasts is None else until_of(lasts, math.inf)
    wanted = Revocation(token_topic(given.text), until=until, reason=check_reason(reason))
    nodes = Nodes(url, credentials, timeout)
    return await carry_out(wanted, given.what, nodes, printed=printed, then=STATIC_NEXT if given.static else "")
