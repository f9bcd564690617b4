"""``softstate publish``: publish one value, or hand a file of them to `softstate.cli.terminal.ndjson`."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.exit_codes import REFUSED, USAGE, Failure
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Reached, Timeout, Urls, connected, nowhere
from softstate.cli.options.plain import goes_plainly, publish
from softstate.cli.terminal.hints import show_hint
from softstate.cli.terminal.streams import input_pieces
from softstate.cli.terminal.values import line_text, value_of
from softstate.errors import (
    Behind,
    Denied,
    KeyReused,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RequestError,
    Unauthenticated,
    Unavailable,
)
from softstate.model import Value
from softstate.names import check_topic

if TYPE_CHECKING:
    from softstate.client.api.receipt import Receipt

HINT_AFTER_S = 2.0
"""Without a connection for so long, a hint says what is waited for."""

FIRST_TRY_S = 5.0
"""Longest time that the first try waits for an answer: as long as a node lets its clients wait."""

INPUT_BYTES_MAX = 64 << 20
"""Longest value that is read from standard input, as JSON: anything above it is another file, or has no end."""


def command(
    topic: str | None = None,
    value: Annotated[str | None, Parameter(metavar="JSON", allow_leading_hyphen=True)] = None,
    /,
    *,
    expect: Annotated[int | None, Parameter(metavar="VERSION")] = None,
    key: str | None = None,
    ndjson_file: Annotated[str | None, Parameter(name="--ndjson", metavar="FILE", allow_leading_hyphen=True)] = None,
    from_line: Annotated[int, Parameter(metavar="N")] = 1,
    run: Annotated[str | None, Parameter(metavar="ID")] = None,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 30.0,
) -> int:
    """Publish one value, or a file of them, and return when the store has it durably. Prints the version.

    It retries through a restart of the node; a publish that was sent twice is not applied twice.

    :param topic: The topic, such as orders/42.
    :param value: The value, as JSON: '{"state": "paid"}', 42, '"text"'; '-' reads it from standard input.
    :param expect: Publish only if the topic is at this version; 0: only if it does not exist. Exit code 4 if it is not.
    :param key: Idempotency key: publishing again with the same key repeats the first answer.
    :param ndjson_file: Publish every line of FILE ('-': standard input; gzip is understood), in order, many in flight:
        each is {"topic": …, "value": …} or {"topic": …, "deleted": true}, other keys are ignored.
    :param from_line: Begin at this line of the file, to resume an interrupted run.
    :param run: Lines of a run of this ID are applied once, also when the file is published again, while the store holds
        their keys (10 minutes, and a million, by default).
    :param json: Print {"topic":…,"version":…}, or the counts of a file, as JSON.
    """
    if ndjson_file is not None:
        if topic is not None or expect is not None or key is not None:
            raise Failure("--ndjson takes topics, values and keys from the file: give none of them as well", USAGE)
        return _publish_file(ndjson_file, url, timeout, run, credentials, from_line, as_json=json)
    if topic is None:
        raise Failure("publish needs a topic and a value, or --ndjson FILE", USAGE)
    if from_line != 1 or run is not None:
        raise Failure("--from-line and --run go with --ndjson", USAGE)
    check_topic(topic)
    if value is None or value == "--delete":
        raise Failure(f"publish needs a value in JSON; softstate delete {shlex.quote(topic)} deletes the topic", USAGE)
    given = _read_value() if value == "-" else value
    version = publish_now(OneChange(topic, value_of(given), False, expect, key), url, credentials, timeout)
    print(line_text({"topic": topic, "version": version}) if json else version)
    return exit_codes.OK


def _read_value() -> bytes:
    data = bytearray()
    for piece in input_pieces():
        data += piece
        if len(data) > INPUT_BYTES_MAX:
            message = f"standard input is longer than {INPUT_BYTES_MAX >> 20} MiB: no value is; is it the right file?"
            raise Failure(message, USAGE)
    return bytes(data)


@dataclass(frozen=True)
class OneChange:
    """A value for a topic, or its deletion; `expect` and `key` are as in `softstate.Client.publish`."""

    topic: str
    value: Value
    delete: bool
    expect: int | None
    key: str | None


def _publish_file(
    path: str,
    urls: Sequence[str],
    timeout_s: float,
    run: str | None,
    credentials: Presented,
    from_line: int,
    *,
    as_json: bool,
) -> int:
    import trio  # noqa: PLC0415 - it is half of the start of a command

    from softstate.cli.terminal import ndjson  # noqa: PLC0415

    how = ndjson.Run(urls=urls, timeout_s=timeout_s, name=run, credentials=credentials)
    return trio.run(ndjson.publish_file, path, how, from_line, as_json)


def publish_now(change: OneChange, urls: Sequence[str], credentials: Presented, timeout_s: float) -> int:
    """Publish one change as `publish_one` does, but at first without a loop; raises the same.

    The first node is asked once, under a key. If that may have been applied, and did not settle it, a whole client
    repeats it under the same key. If it was not, the client publishes the change as it is: a store that is full of keys
    refuses those that it does not know.
    """
    from softstate.client.requests.reply import HttpFailed  # noqa: PLC0415 - --help does without
    from softstate.wire.messages import UNTRIED  # noqa: PLC0415

    ends_s, maybe = time.monotonic() + timeout_s, False
    if goes_plainly(urls, credentials):
        keyed = change if change.key is not None else replace(change, key=secrets.token_hex(16))
        try:
            return _published(keyed, urls[0], credentials, min(timeout_s, FIRST_TRY_S))
        except HttpFailed as failure:
            maybe = not failure.unsent
        except Unavailable as error:
            maybe = error.why != UNTRIED
        except Denied as error:
            if error.why is None:
                raise
        except (Overloaded, Behind, NotFound, KeyReused):
            pass  # it was not applied: another node may take it, or this one later; or the client says why none does
        change = keyed if maybe else change
    import trio  # noqa: PLC0415 - it is half of the start of a command

    left_s = max(ends_s - time.monotonic(), 0.0)
    return trio.run(partial(publish_one, change, urls, credentials, timeout_s, left_s=left_s, maybe=maybe))


def _published(change: OneChange, url: str, credentials: Presented, timeout_s: float) -> int:
    from softstate.client.machine.publish_queue import error_of  # noqa: PLC0415 - --help does without
    from softstate.wire.messages import BatchChange  # noqa: PLC0415

    asked = BatchChange(change.topic, change.value, expect=change.expect, key=change.key)
    result = publish(url, asked, credentials, timeout_s)
    if result.code:
        raise error_of(result.code, result.message, result.retry_ms, result.current, result.position, result.why)
    if result.position is None:  # neither an answer nor an error: the node is at fault, and may have applied it
        raise Unavailable("a result without code and position")
    return result.version


async def publish_one(
    change: OneChange,
    urls: Sequence[str],
    credentials: Presented,
    timeout_s: float,
    *,
    left_s: float | None = None,
    maybe: bool = False,
) -> int:
    """Send one change and return its version, once the store has it durably; 0 for a deletion of nothing.

    Raises `Failure` if nothing was published, `OutcomeUnknown` if it may have been, and refusals as what they are.
    Of `timeout_s`, `left_s` are left if it was sent before. If it was `maybe` applied then, a refusal without a look
    for that tells nothing (P-CLI-17).
    """
    import trio  # noqa: PLC0415 - a change that is taken at once does without

    from softstate.client.api.receipt import refusal_of  # noqa: PLC0415

    reached = Reached()
    reached.yes = maybe
    refusal: RequestError | None = None
    async with connected(urls, credentials, push=False, reached=reached) as client:
        if change.delete:
            receipt = client.delete_soon(change.topic, expect=change.expect, key=change.key)
        else:
            receipt = client.publish_soon(change.topic, change.value, expect=change.expect, key=change.key, each=True)
        with trio.move_on_after(timeout_s if left_s is None else left_s):
            with trio.move_on_after(HINT_AFTER_S):
                return await _settled(receipt, change.topic, maybe=maybe)
            if not reached.yes:
                show_hint(f"no node reached at {' or '.join(urls)} so far: trying for {timeout_s:g} s")
            return await _settled(receipt, change.topic, maybe=maybe)
        refusal, because = None if maybe else refusal_of(receipt), client.last_error
    if isinstance(refusal, Unauthenticated):
        raise refusal
    if not reached.yes:
        raise nowhere(urls, timeout_s, because)
    if refusal is not None:
        raise Failure(f"nothing was published within {timeout_s:g} s: {refusal.message}", REFUSED)
    if change.key is None:
        what_next = f"Read the topic to learn its outcome: softstate get {shlex.quote(change.topic)}"
    else:
        what_next = f"Repeating the command with --key {shlex.quote(change.key)} cannot apply it twice"
    raise OutcomeUnknown(f"not acknowledged within {timeout_s:g} s: it may have been applied or not. {what_next}")


async def _settled(receipt: Receipt, topic: str, *, maybe: bool) -> int:
    """Return the version; raise what a node refused as the refusal that it is, unless it was `maybe` applied before."""
    from softstate.client.machine.publish_queue import RETRIED, UNSEEN, VERDICTS  # noqa: PLC0415 - as in publish_one

    try:
        return (await receipt.wait()).version
    except RequestError as error:
        if maybe and error.code not in VERDICTS:
            raise OutcomeUnknown(UNSEEN.format(topic, error)) from None
        if isinstance(error, KeyReused):
            raise Failure(f"nothing was published: {error.message}", USAGE) from None
        if error.code in RETRIED:
            raise Failure(f"nothing was published: {error.message}", REFUSED) from None
        raise
