"""``softstate get``: print a topic's value."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.exit_codes import USAGE, Failure
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Timeout, Urls, connected
from softstate.cli.options.plain import BEHIND_S, goes_plainly, read
from softstate.cli.terminal.hints import hint, show_hint
from softstate.cli.terminal.values import change_fields, json_text, line_text
from softstate.errors import NotFound
from softstate.model import Change
from softstate.names import check_topic


def command(
    topic: str,
    /,
    *,
    at_least: Annotated[int | None, Parameter(metavar="VERSION")] = None,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 5.0,
) -> int:
    """Print a topic's value, as JSON on one line. Exit code 3 if there is no such topic.

    :param topic: The topic, such as orders/42.
    :param at_least: Wait for a node that has seen this version: read your own write, on any node.
    :param json: Print topic and version too: {"topic":…,"version":…,"value":…}.
    """
    if topic.endswith("/"):
        prefix = shlex.quote(topic)
        raise Failure(
            f"get prints one topic, and {topic!r} is a prefix: softstate list {prefix} prints all below", USAGE
        )
    check_topic(topic)
    change = None
    if goes_plainly(url, credentials):
        within_s = timeout if at_least is None else timeout + BEHIND_S
        change = read(url, credentials, within_s, lambda reading: reading.get(topic, at_least, within_s)).change
    if change is None or change.deleted:
        change = _by_client(topic, at_least, url, credentials, timeout)
    print(line_text(change_fields(change)) if json else json_text(change.value))
    return exit_codes.OK


def _by_client(
    topic: str, at_least: int | None, urls: Sequence[str], credentials: Presented, timeout_s: float
) -> Change:
    """Read by a whole client: through TLS, with a file of tokens, or for the hint that a missing topic deserves."""
    import trio  # noqa: PLC0415 - it is half of the start of a command

    async def main() -> Change:
        async with connected(urls, credentials, push=False) as client:
            change = await client.get(topic, at_least=at_least, timeout_s=timeout_s)
            if change is not None and not change.deleted:
                return change
            show_hint(await hint(client, topic, f"softstate list {shlex.quote(topic)}/ prints them"))
            gone = f": deleted at version {change.version}" if change else ""
            raise NotFound(f"there is no topic {topic}{gone}")

    return trio.run(main)
