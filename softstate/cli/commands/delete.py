"""``softstate delete``: delete one topic."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.publish import OneChange, publish_one
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Timeout, Urls
from softstate.cli.terminal.hints import show_hint
from softstate.cli.terminal.values import line_text
from softstate.names import check_topic


async def command(
    topic: str,
    /,
    *,
    expect: Annotated[int | None, Parameter(metavar="VERSION")] = None,
    key: str | None = None,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 30.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Delete one topic, and return when the store has done so durably. Prints the version; 0 if there was none.

    Subscribers are told of it like of a value. It retries through a restart of the node, as `softstate publish` does.

    :param topic: The topic, such as orders/42.
    :param expect: Delete only if the topic is at this version. Exit code 4 if it is not.
    :param key: Idempotency key: deleting again with the same key repeats the first answer.
    :param json: Print {"topic":…,"version":…}.
    """
    check_topic(topic)
    version = await publish_one(OneChange(topic, None, True, expect, key), url, credentials, timeout)
    if not version:
        show_hint(f"nothing was deleted: there is no topic {topic}")
    print(line_text({"topic": topic, "version": version}) if json else version)
    return exit_codes.OK
