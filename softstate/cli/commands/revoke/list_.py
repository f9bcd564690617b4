"""``softstate revoke list``: print what is revoked."""

from __future__ import annotations

import math
import sys
from typing import Any

from softstate.auth.revocations import REVOKED, Revocation
from softstate.cli import exit_codes
from softstate.cli.commands.revoke.options import time_text
from softstate.cli.commands.revoke.publishing import for_administrators, revocation_in
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Timeout, Urls, connected
from softstate.cli.terminal.streams import note
from softstate.cli.terminal.values import line_text
from softstate.cli.visible import visible
from softstate.errors import RequestError


async def command(
    *,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 5.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Print what is revoked, one a line: kind, topic, the time before which it was issued, until when, and why.

    The topic holds a digest of whom it is about, and nothing else does: `softstate revoke undo` takes it, and
    `softstate revoke sub … --print` tells that of a subject.

    :param json: One object a line: {"kind":…,"topic":…,"version":…,"before":…,"until":…,"reason":…}; times are seconds
        since 1970, and what is not limited is left out.
    """
    try:
        async with connected(url, credentials, push=False) as client:
            changes = await client.list(REVOKED, timeout_s=timeout)
    except RequestError as error:
        raise for_administrators(error) from None
    if changes.unreadable:
        names = ", ".join(map(visible, changes.unreadable))
        note(f"damaged in the store, and so in force without end: {names}; revoke the same again, or undo it")
    for change in changes:
        revocation = revocation_in(change)
        if revocation is None:
            note(f"left out, since it names nothing that can be revoked: {visible(change.topic)}")
        else:
            sys.stdout.write(f"{line_text(_fields(revocation)) if json else _line(revocation)}\n")
    return exit_codes.OK


def _line(revocation: Revocation) -> str:
    before = "" if math.isinf(revocation.before) else f"before {time_text(revocation.before)}"
    until = f"until {time_text(revocation.until)}"
    return "\t".join(
        (revocation.kind, revocation.topic, before or "always", until, visible(revocation.reason))
    ).rstrip()


def _fields(revocation: Revocation) -> dict[str, Any]:
    named = {"kind": revocation.kind, "topic": revocation.topic, "version": revocation.version}
    return named | revocation.value()
