"""``softstate get``: print a topic's value."""

from __future__ import annotations

import shlex
from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Timeout, Urls, connected
from softstate.cli.terminal.hints import hint, show_hint
from softstate.cli.terminal.values import change_fields, json_text, line_text
from softstate.errors import NotFound
from softstate.names import check_topic


async def command(
    topic: str,
    /,
    *,
    at_least: Annotated[int | None, Parameter(metavar="VERSION")] = None,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 5.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Print a topic's value, as JSON on one line. Exit code 3 if there is no such topic.

    :param topic: The topic, such as orders/42.
    :param at_least: Wait for a node that has seen this version: read your own write, on any node.
    :param json: Print topic and version too: {"topic":…,"version":…,"value":…}.
    """
    check_topic(topic)
    async with connected(url, credentials, push=False) as client:
        change = await client.get(topic, at_least=at_least, timeout_s=timeout)
        if change is None or change.deleted:
            show_hint(await hint(client, topic, f"softstate list {shlex.quote(topic)}/ prints them"))
            raise NotFound(f"there is no topic {topic}" + (f": deleted at version {change.version}" if change else ""))
    print(line_text(change_fields(change)) if json else json_text(change.value))
    return exit_codes.OK
