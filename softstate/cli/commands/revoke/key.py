"""``softstate revoke key``: revoke all that a key has signed."""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import Parameter

from softstate.auth.revocations import Revocation, key_topic
from softstate.cli.commands.revoke.options import Lasting, Printed, Reason, check_key, check_reason, until_of
from softstate.cli.commands.revoke.publishing import Nodes
from softstate.cli.commands.revoke.report import carry_out
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, Timeout, Urls
from softstate.cli.visible import visible


async def command(
    issuer: Annotated[str, Parameter(name="ISSUER", allow_leading_hyphen=True)],
    kid: Annotated[str, Parameter(name="KID", allow_leading_hyphen=True)],
    /,
    *,
    lasts: Lasting = None,
    reason: Reason = "",
    printed: Printed = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 30.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Revoke all that a key of an issuer has signed, and will sign: when somebody else may hold it.

    Take the key out of the issuer's set as well.

    :param issuer: The issuer, as `iss` of its tokens.
    :param kid: The key's ID, as `softstate serve --check` prints it; '' for a key without one (`public_key_file`).
    :param lasts: How long to refuse it, such as 24h, or 'ever', which is the default.
    """
    check_key(issuer, kid)
    wanted = Revocation(key_topic(issuer, kid), until=until_of(lasts, math.inf), reason=check_reason(reason))
    key = f"key {kid}" if kid else "the key without an ID"
    what = visible(f"all that {key} of {issuer} has signed")
    return await carry_out(wanted, what, Nodes(url, credentials, timeout), printed=printed)
