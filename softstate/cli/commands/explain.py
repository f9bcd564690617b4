"""``softstate explain``: what nodes know of a client, or of a topic."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

from softstate.cli import exit_codes
from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.options.asking import Answered, asking
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.durations import seconds_text
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Timeout, Urls
from softstate.cli.terminal.values import line_text
from softstate.cli.visible import visible
from softstate.errors import NotFound, RequestError
from softstate.names import check_topic

NODE_CHARS = 6
"""Characters of a node's id that are shown."""


async def command(
    kind: Literal["client", "topic"],
    name: str,
    /,
    *,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 5.0,  # noqa: ASYNC109 - a flag of that name
) -> int:
    """Ask every node what it knows of a client's sessions, or of a topic and who follows it. It takes the right admin.

    Exit code 3 if no node knows a session of that client: it may poll, be on another node, or have another name.

    :param kind: client or topic.
    :param name: The name that the client has given itself (connect(name=…)), or the topic.
    :param json: One object a node and line, with its url: the body of GET /v1/explain, or the error.
    """
    if kind == "topic":
        check_topic(name)
    async with asking(url, credentials, timeout) as nodes:
        answers = await nodes.ask(f"/v1/explain?{urlencode([(str(kind), name)])}")
    refused = [each.error for each in answers if isinstance(each.error, RequestError)]
    if all(each.told is None for each in answers):
        if refused:
            raise refused[0]
        raise Failure("; ".join(str(each.error) for each in answers), UNAVAILABLE) from answers[-1].error
    for each in answers:
        if json:
            told = each.told if each.told is not None else {"error": str(each.error)}
            print(line_text({"url": each.url, **told}))
        elif each.told is None:
            print(f"softstate: {visible(f'{each.url} says nothing: {each.error}')}", file=sys.stderr, flush=True)
    lines = list(_lines(kind, answers, datetime.now().astimezone()))
    if not json and lines:
        print("\n".join(lines))
    if kind == "client" and not any(each.told and each.told["sessions"] for each in answers):
        raise NotFound(
            f"no node that was asked has a session of {name!r}: it polls, is on another node (name it with --url), or"
            " has another name"
        )
    return exit_codes.OK


def _lines(kind: str, answers: Sequence[Answered], now: datetime) -> Iterator[str]:
    for each in answers:
        if each.told is not None:
            yield from client_lines(each.told, now) if kind == "client" else topic_lines(each.told)


def client_lines(told: dict[str, Any], now: datetime) -> Iterator[str]:
    """Write for people what a node knows of a client's sessions; `now` is when it was told."""
    for session in told["sessions"]:
        yield from map(visible, _session_lines(session, told, now))
    if told["more"]:
        yield f"node {told['node'][:NODE_CHARS]} has more sessions of that name"


def _session_lines(session: dict[str, Any], told: dict[str, Any], now: datetime) -> Iterator[str]:
    place = ", ".join(filter(None, (f"node {told['node'][:NODE_CHARS]}", session["address"], session["subject"])))
    yield f"{session['client']} (session {session['session']}, {place}): {_state(session)}"
    for event in session["events"]:
        at = (now - timedelta(milliseconds=event["ago_ms"])).strftime("%H:%M:%S")
        detail = event["detail"]
        unit = " names" if isinstance(detail, int) and event["what"] != "closed" else ""
        yield f"  {at}  {event['what']}" + (f": {detail}{unit}" if detail != "" else "")
    position, head = session["position"], told["position"]["revision"]
    known = "was told no position yet" if position is None else f"was told all up to {position['revision']:,}"
    yield f"  holds {_some(session['holds'], session['names'])}; {known}, this node is at {head:,}"
    if session["waiting"]:
        waits = f": {_some(session['waits_for'], session['waiting'])}" if session["waits_for"] else ""
        yield (
            f"  {session['waiting']:,} entries wait for it, which has taken nothing for"
            f" {seconds_text(session['congested_ms'] / 1000)}{waits}"
        )


def _state(session: dict[str, Any]) -> str:
    left = f"lease of {seconds_text(session['ttl_ms'] / 1000)}, {seconds_text(session['left_ms'] / 1000)} left"
    if session["lease"] == "over":
        return f"LEASE OVER, connected by {session['protocol']}"
    if session["lease"] == "detached":
        return f"NOT CONNECTED, {left}"
    return f"LIVE by {session['protocol']}, {left}"


def topic_lines(told: dict[str, Any]) -> Iterator[str]:
    """Write for people what a node knows of a topic."""
    if told["version"] is None:
        state = "has no value, and none is remembered"
    elif told["unreadable"]:
        state = f"at version {told['version']:,}: its stored record is damaged"
    elif told["deleted"]:
        state = f"deleted at version {told['version']:,}"
    else:
        state = f"at version {told['version']:,}, {told['value_bytes']:,} bytes"
    where = f"node {told['node'][:NODE_CHARS]} at {told['position']['revision']:,}"
    yield visible(f"{told['topic']} {state} ({where})")
    followers = ", ".join(f"{name} {count:,}" for name, count in told["followers"].items())
    such = f"; such as {', '.join(map(repr, told['clients']))}" if told["clients"] else ""
    yield visible(f"  sessions that follow it here, by name: {followers or 'none'}{such}")
    if told["waiting"]:
        yield f"  a change of it waits for {told['waiting']:,} connections that take nothing"


def _some(shown: Sequence[str], count: int) -> str:
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    return (", ".join(shown) or "nothing") + more
