"""``softstate status``: print what a node holds."""

from __future__ import annotations

from typing import Any

from softstate.cli import exit_codes
from softstate.cli.connection import DEFAULT_URL, AsJson, Timeout, Urls, connected
from softstate.cli.values import line_text


async def command(
    *,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    timeout: Timeout = 5.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Print what a node holds: sessions, leases, subscriptions, topics, memory, repairs.

    Of several workers on one port (``softstate serve --workers``), one answers, for itself alone.
    """
    async with connected(url, push=False) as client:
        status = await client.status(timeout_s=timeout)
    if json:
        print(line_text(status))
    else:
        rows = list(_rows(status))
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            print(f"{name:<{width}}  {value}")
    return exit_codes.OK


def _rows(status: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested counts into one line each."""
    rows = []
    for name, value in status.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows
