"""``softstate status``: print what a node holds."""

from __future__ import annotations

from softstate.cli import exit_codes
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Timeout, Urls, connected
from softstate.cli.terminal.fields import print_fields


async def command(
    *,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 5.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Print what a node holds: sessions, leases, subscriptions, topics, memory, repairs.

    Of several workers on one port (``softstate serve --workers``), one answers, for itself alone.
    """
    async with connected(url, credentials, push=False) as client:
        status = await client.status(timeout_s=timeout)
    print_fields(status, json=json)
    return exit_codes.OK
