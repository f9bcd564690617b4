"""``softstate revoke sub``: revoke all credentials of a subject."""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import Parameter

from softstate.auth.callout import CALLOUT_ISSUER
from softstate.auth.certificate import CERTIFICATE_ISSUER
from softstate.auth.policy import STATIC_ISSUER
from softstate.auth.proxy import PROXY_ISSUER
from softstate.auth.revocations import Revocation, subject_topic
from softstate.auth.token import MAX_TOKEN_S
from softstate.cli.commands.revoke.options import (
    Lasting,
    Printed,
    Reason,
    check_name,
    check_reason,
    now,
    subject_text,
    until_of,
    wall_time,
)
from softstate.cli.commands.revoke.publishing import Nodes
from softstate.cli.commands.revoke.report import STATIC_NEXT, carry_out
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, Timeout, Urls
from softstate.errors import ConfigError

NEXT = {
    STATIC_ISSUER: STATIC_NEXT,
    PROXY_ISSUER: "have the proxy refuse it; then this may be undone",
    CALLOUT_ISSUER: "have the callout refuse it; then this may be undone",
}
"""The next step, by issuers whose credentials do not tell when they were issued."""


async def command(
    issuer: Annotated[str, Parameter(name="ISSUER", allow_leading_hyphen=True)],
    subject: Annotated[str, Parameter(name="SUBJECT", allow_leading_hyphen=True)],
    /,
    *,
    lasts: Lasting = None,
    before: Annotated[
        float | None, Parameter(name="--before", converter=wall_time, metavar="TIME", show_default=False)
    ] = None,
    reason: Reason = "",
    printed: Printed = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 30.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Revoke all credentials of a subject that were issued before now. It may sign in again.

    A token tells by its `iat` when it was issued, by the clock of its issuer; one without is older than any time.

    :param issuer: The issuer, as `iss` of its tokens; 'static', 'proxy', 'callout' or 'mtls' for those of no issuer.
    :param subject: The subject, as `sub` of its tokens, or the name of a static token.
    :param lasts: How long to refuse them, such as 24h, or 'ever': at least as long as its tokens live. The default is
        24h, which is that of the policy file's `max_token_s`, and 'ever' for certificates and with --before ever.
    :param before: Those that were issued before this time: 2026-11-30T12:00:00Z, seconds since 1970, or 'ever', which
        keeps it from signing in again. The default is now, and 'ever' for static tokens and subjects of a proxy or a
        callout, which have no time of issue.
    """
    check_name(issuer, "ISSUER")
    check_name(subject, "SUBJECT")
    untimed = issuer in NEXT
    if untimed and before is not None and math.isfinite(before):
        raise ConfigError(f"--before: credentials of issuer {issuer!r} do not tell when they were issued; leave it out")
    if before is None:
        before = math.inf if untimed else now()
    for_good = math.isinf(before) or issuer == CERTIFICATE_ISSUER
    wanted = Revocation(
        subject_topic(issuer, subject),
        before,
        until_of(lasts, math.inf if for_good else MAX_TOKEN_S),
        check_reason(reason),
    )
    return await carry_out(
        wanted,
        f"all credentials of {subject_text(issuer, subject)}",
        Nodes(url, credentials, timeout),
        printed=printed,
        then=NEXT.get(issuer, ""),
    )
