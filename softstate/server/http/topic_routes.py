"""One topic over HTTP: read it, wait for it, set it, delete it; and publish to many in one request.

Conditional requests follow RFC 9110 section 13; long polling is a conditional GET that may take its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

import trio

from softstate.errors import Conflict, Invalid, NotFound, Overloaded, RequestError, TooLarge, Unavailable, Unreadable
from softstate.model import Query, Record
from softstate.names import check_topic
from softstate.position import Position
from softstate.server.auth.discretion import without_current, without_version
from softstate.server.http.context import BEHIND_RETRY_MS, HttpContext, Settle
from softstate.server.http.credentials import check_read, check_write, check_writes, may_be_told, stands
from softstate.server.http.message import Request, decode_segment, fail, position_headers
from softstate.server.http.validators import ANY, etag, matches, parse_strong, parse_tags, position_of_tag
from softstate.server.http1 import Refused, Reply
from softstate.server.storage.batcher import Ticket
from softstate.server.storage.writes import CommitResult, change_of, checked_value, number_of
from softstate.store.base import EXISTS, Applied, Write
from softstate.wire import Codec, check_batch, damaged
from softstate.wire.messages import KEY_CHARS_MAX, Batch, BatchResult, BatchResults, Published
from softstate.wire.request_digest import request_digest

PATH = "/v1/topics/"

VALUE_BYTES_PER_NAME = 8
"""Bytes of a value, as CBOR, that take as long to check and encode, at worst, as a name to be entered into a lease."""


def topic_of(request: Request) -> str:
    """Return the topic that the path names. Raises `Invalid`."""
    return check_topic(decode_segment(request.path.removeprefix(PATH)))


def topics_of(request: Request) -> int | None:
    """Return how many topics a request publishes to; None for a batch that was not understood."""
    if request.path.startswith(PATH):
        return 1
    return len(request.content.changes) if isinstance(request.content, Batch) else None


# Reading -------------------------------------------------------------------------------------------------------------


async def get_topic(context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /v1/topics/{topic}``, at once or, with ``wait_ms``, once there is something new (P-HTTP-4)."""
    topic = topic_of(request)
    check_read(context.gate, request, topic)
    at_least = request.given.get("at_least", 0)
    wait_ms = min(request.given.get("wait_ms", 0), context.config.hold_ms_max)
    if wait_ms and context.config.role == "push":
        raise Refused(404, NotFound("this node does not serve polls: ask without wait_ms, or another node"))
    codec = request.accepted()
    seen, wanted = _tags(request, "If-None-Match"), _tags(request, "If-Match", strong=True)
    view = await _View.read(context, topic, at_least)
    view.check(wanted)
    if not wait_ms or not view.is_known(seen, codec):
        return view.reply(codec, seen)

    begun = trio.current_time()
    asked = begun
    until_s = begun + min(wait_ms / 1000, request.identity.until - request.arrived)
    changed = True
    while changed and view.is_known(seen, codec) and trio.current_time() < until_s and not context.services.draining:
        # Credentials that were revoked while it was read are not among those whose requests are ended then.
        if not stands(context.gate, request):
            check_read(context.gate, request, topic)
        # This topic did not change between its version and the revision that was read, and from there on the hub can
        # tell without remembering the version of every topic.
        change = partial(context.hub.recent.changed, topic, view.revision)
        changed = await context.hold(until_s, change, request.identity)
        asked = trio.current_time()
        view = await _View.read(context, topic, at_least)
        view.check(wanted)
    # Rounded down: the client subtracts it from its age, which must not become too small.
    return view.reply(codec, seen).with_headers(("Softstate-Held-Ms", str(math.floor((asked - begun) * 1000))))


def _tags(request: Request, name: str, *, strong: bool = False) -> list[str] | None:
    value = request.header(name.lower())
    return None if value is None else parse_tags(value, name, strong=strong)


class _View:
    """One topic as it was when it was read: `record` is None when it is absent or deleted.

    `version` is that of its value or of its tombstone (P-HTTP-14), None when neither is kept.
    """

    def __init__(self, record: Record | None, version: Position | None, position: Position, lag_s: float) -> None:
        self.record = record
        self.version = version
        self.revision = position.revision
        self._position = position
        self._lag_s = lag_s

    @classmethod
    async def read(cls, context: HttpContext, topic: str, at_least: int) -> _View:
        """Read a topic and the position of its version. Raises `Unreadable` for a damaged record."""
        page = await context.reads.with_tombstone(topic, await context.read(Query({topic: 0}), at_least))
        found = page.records[0] if page.records else None
        if found is not None and found.unreadable:
            raise damaged(found, page.position)
        # A tombstone at the floor stands for all that is no longer known.
        if found is None or (found.deleted and found.version <= page.floor):
            return cls(None, None, page.position, page.lag_s)
        version = await position_of(context, found.version, page.position, page.floor)
        return cls(None if found.deleted else found, version, page.position, page.lag_s)

    def check(self, wanted: Collection[str] | None) -> None:
        """Raise `Conflict` unless the topic has one of the versions in If-Match, if any (RFC 9110 section 13.1.1)."""
        if wanted is None or (self.record is not None and ANY in wanted):
            return
        version = 0 if self.record is None else self.record.version
        if self.record is None or self.version not in map(position_of_tag, wanted):
            raise Conflict(f"the topic is at version {version}, which If-Match does not name", current=version)

    def is_known(self, seen: Collection[str] | None, codec: Codec) -> bool:
        """Tell whether a client that has `seen` the versions in If-None-Match would learn nothing from this."""
        if self.record is not None:
            return seen is not None and (ANY in seen or matches(seen, self.version, codec))
        return seen is None or matches(seen, self.version, codec)

    def reply(self, codec: Codec, seen: Collection[str] | None) -> Reply:
        """Write 200, 304 or 404."""
        stamped = position_headers(self._position, self._lag_s)
        tagged = stamped if self.version is None else (("ETag", etag(self.version, codec)), *stamped)
        if self.record is None or self.record.cbor is None:
            return fail(self._nothing(), codec, headers=tagged)
        # A browser may keep it and ask again with its tag; a cache that others share could mix their positions up.
        tagged = (*tagged, ("Cache-Control", "private, no-cache"))
        if seen is not None and self.is_known(seen, codec):
            return Reply(304, headers=tagged)
        try:
            body = codec.value(self.record.cbor)
        except Unreadable:
            raise damaged(self.record, self._position) from None
        return Reply(200, body, codec.content_type, tagged)

    def _nothing(self) -> NotFound:
        if self.version is None:
            message = "this topic has no value: it was never set, or it was deleted long ago"
            return NotFound(message, position=self._position)
        version = self.version.revision
        message = f"this topic has no value: it was deleted at version {version}"
        return NotFound(message, position=self._position, version=version)


async def position_of(context: HttpContext, version: int, read: Position, floor: int = 0) -> Position:
    """Return the position of a version found by a read at `read`. Raises `Unavailable` if the store was rewound since.

    The lineage row of a version below the `floor` may be forgotten: then the one in force there stands for it.
    Its lineage takes a second read. If it is the lineage of the first read, or the first is on the history still, then
    both mean the same commit; else a tag could pair an old value with a version of the new history.
    """
    reads = context.reads
    lineage = await reads.lineage_at(version)
    if lineage is None and version < floor:
        lineage = await reads.lineage_at(floor)
    if lineage is None or (lineage != read.lineage and await reads.lineage_at(read.revision) != read.lineage):
        raise Unavailable("the store was restored while it was read: try again", retry_ms=BEHIND_RETRY_MS)
    return Position(read.epoch, lineage, version)


# Writing -------------------------------------------------------------------------------------------------------------


async def put_topic(context: HttpContext, request: Request) -> Reply:
    """Answer ``PUT /v1/topics/{topic}``: set the value, if the conditions hold."""
    topic = topic_of(request)
    check_write(context.gate, request, topic)
    return await _publish(context, request, topic, checked_value(request.content, context.config, request.body_codec()))


def begin_put(context: HttpContext, request: Request, settle: Settle, broken: Callable[[], None]) -> bool:
    """Begin to answer what `put_topic` answers, without a task if the store's answer to the write is all it takes.

    A tag takes a read ahead of the write, and a key may take one behind it.
    """
    topic, key = topic_of(request), _key(request)
    check_write(context.gate, request, topic)
    value = checked_value(request.content, context.config, request.body_codec())
    expect, witness = _condition(request)
    if key is not None or witness is not None:
        return False
    context.gate.check_publish(request.identity, request.address, topic, len(value))

    def settled(ticket: Ticket[Write, CommitResult]) -> None:
        if ticket.error is not None:
            told = may_be_told(context.gate, request, topic)
            settle(ticket.error if told else without_current(ticket.error))
        else:
            assert ticket.answer is not None
            applied, position = ticket.answer
            settle(_published(request, topic, applied, position, position))

    context.writes.submit(
        Write(topic, value, expect, None, None, request_digest(topic, value, expect, None)), settled, broken
    )
    return True


async def delete_topic(context: HttpContext, request: Request) -> Reply:
    """Answer ``DELETE /v1/topics/{topic}``: nothing changes for an absent topic (P-PUB-7)."""
    topic = topic_of(request)
    check_write(context.gate, request, topic)
    return await _publish(context, request, topic, None)


async def _publish(context: HttpContext, request: Request, topic: str, cbor: bytes | None) -> Reply:
    expect, witness = _condition(request)
    key = _key(request)
    digest = request_digest(topic, cbor, expect, witness)
    context.gate.check_publish(request.identity, request.address, topic, len(cbor or b""))
    if witness is not None:
        witness = await _witness_of(context, topic, witness)
    try:
        applied, position = await context.writes.publish(Write(topic, cbor, expect, witness, key, digest))
    except Conflict as error:
        raise error if may_be_told(context.gate, request, topic) else without_current(error) from None
    if not may_be_told(context.gate, request, topic):
        applied = without_version(applied, by_key=key is not None)
    return _published(request, topic, applied, position, await _version_of(context, applied, position))


def _published(request: Request, topic: str, applied: Applied, position: Position, version: Position | None) -> Reply:
    headers = position_headers(position)
    codec = request.accepted()
    if version is not None:
        headers = (("ETag", etag(version, codec)), *headers)
    published = Published(0, topic, applied.version, position, applied.repeated)
    return Reply(200, codec.dumps(published), codec.content_type, headers)


async def _witness_of(context: HttpContext, topic: str, tagged: Position) -> Position:
    """Return a position that is on the history if the one that a tag names is.

    Its lineage row may be forgotten, which no store can tell from another history. If the topic is tagged the same
    now, the position of the read that shows it stands for it.
    """
    if await context.reads.lineage_at(tagged.revision) is not None:
        return tagged
    page = await context.reads.read(Query({topic: 0}))
    if not page.records or page.records[0].version != tagged.revision or tagged.revision >= page.floor:
        return tagged
    now = await position_of(context, tagged.revision, page.position, page.floor)
    return page.position if now == tagged else tagged


async def _version_of(context: HttpContext, applied: Applied, position: Position) -> Position | None:
    """Return the position of the version that a publish made, or None: a missing tag does not hold back the answer.

    A deletion of a topic that has no tombstone has no version.
    """
    if not applied.version:
        return None
    if applied.version == position.revision:
        return position
    try:
        return await position_of(context, applied.version, position)
    except RequestError:
        return None


def _condition(request: Request) -> tuple[int | None, Position | None]:
    """Return the version that a write expects, and the witness for it (P-HTTP-5)."""
    if_match, if_none_match = request.header("if-match"), request.header("if-none-match")
    expect: int | None = request.given.get("expect")
    if (if_match is not None) + (if_none_match is not None) + (expect is not None) > 1:
        raise Invalid("of If-Match, If-None-Match and expect only one can be obeyed: send one of them")
    if expect is not None:
        return expect, None
    if if_none_match is not None:
        if parse_tags(if_none_match, "If-None-Match") != [ANY]:
            raise Invalid("If-None-Match must be * here, for a topic that must not exist; for a version use If-Match")
        return 0, None
    if if_match is None:
        return None, None
    if if_match.strip() == ANY:
        return EXISTS, None
    position = parse_strong(if_match)
    return position.revision, position


def _key(request: Request) -> str | None:
    key = request.header("idempotency-key")
    if key is not None and not (1 <= len(key) <= KEY_CHARS_MAX and key.isascii() and key.isprintable()):
        raise Invalid(f"Idempotency-Key must be 1 to {KEY_CHARS_MAX} printable ASCII characters")
    return key


async def publish_batch(context: HttpContext, request: Request) -> Reply:
    """Answer ``POST /v1/publish``: changes applied in order, not atomically, each with its own verdict (P-HTTP-8)."""
    batch = check_batch(request.content)
    if len(batch.changes) > context.config.batch_max:
        limit = context.config.batch_max
        raise TooLarge(f"{len(batch.changes)} changes in one request, the limit (batch_max) is {limit}")
    first = number_of(batch, context.config.publisher_inflight_max)
    check_writes(context.gate, request, [change.topic for change in batch.changes])
    checked: list[Write | RequestError] = []
    codec, spent = request.body_codec(), 1
    limited: Overloaded | None = None
    for index, change in enumerate(batch.changes):
        # Each change is charged what the one before needed: its own need is known once it was checked.
        await context.turns.spend(spent)
        number = None if first is None else replace(first, seq=first.seq + index)
        try:
            check_write(context.gate, request, check_topic(change.topic))
            write = change_of(change, context.config, codec, number)
            spent = 1 + len(write.cbor or b"") // VALUE_BYTES_PER_NAME
            limited = limited or _one_too_many(context, request, write)
            checked.append(limited or write)
        except RequestError as error:
            checked.append(error)
    if limited is not None and not any(isinstance(one, Write) for one in checked):
        raise limited
    verdicts = iter(await context.writes.publish_all([one for one in checked if isinstance(one, Write)]))
    results = [
        _noted(
            context, _result(one, _discreet(context, request, one, next(verdicts)) if isinstance(one, Write) else one)
        )
        for one in checked
    ]
    position = max(
        (result.position for result in results if result.position is not None),
        key=lambda found: found.revision,
        default=context.hub.position,
    )
    codec = request.accepted()
    return Reply(200, codec.dumps(BatchResults(results)), codec.content_type, position_headers(position))


def _one_too_many(context: HttpContext, request: Request, write: Write) -> Overloaded | None:
    """Return the refusal of a change that is over a limit; later ones must not overtake it (P-PUB-6)."""
    try:
        context.gate.check_publish(request.identity, request.address, write.topic, len(write.cbor or b""))
    except Overloaded as error:
        return error
    return None


def _discreet(
    context: HttpContext, request: Request, asked: Write, verdict: tuple[Applied, Position] | RequestError
) -> tuple[Applied, Position] | RequestError:
    """Return a verdict without what only those may learn who may read the topic."""
    if may_be_told(context.gate, request, asked.topic):
        return verdict
    if isinstance(verdict, RequestError):
        return without_current(verdict)
    applied, position = verdict
    return without_version(applied, by_key=asked.key is not None), position


def _noted(context: HttpContext, result: BatchResult) -> BatchResult:
    if result.code:
        context.writes.errors[result.code] += 1
    return result


def _result(asked: Write | RequestError, verdict: tuple[Applied, Position] | RequestError) -> BatchResult:
    topic = asked.topic if isinstance(asked, Write) else ""
    if isinstance(verdict, RequestError):
        return BatchResult(
            topic, 0, verdict.position, code=verdict.code, message=verdict.message,
            retry_ms=verdict.retry_ms, current=verdict.current, why=verdict.why,
        )  # fmt: skip
    applied, position = verdict
    return BatchResult(topic, applied.version, position, applied.repeated)
