"""Pages of an answer, encoded in portions: each value is decoded for JSON, and a page may hold 256 KiB of them.

For CBOR a value is decoded once, to see that it is one; then its bytes are copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

from softstate.errors import Unreadable
from softstate.model import Record, SharedRecords
from softstate.server.fanout.turns import Turns
from softstate.wire import DAMAGED, Codec
from softstate.wire.value import is_checked

JSON_BYTES_PER_NAME = 16
"""Bytes of CBOR that take as long to write as JSON, at worst, as a name to be entered into a lease."""

CBOR_BYTES_PER_NAME = 32
"""Bytes of CBOR that take as long to check, at worst."""

RECORDS_PER_NAME = 4
"""Records whose CBOR is copied in that time."""


def encode_in_portions(
    turns: Turns, codec: Codec, records: Sequence[Record], encode: Callable[[Record], bytes]
) -> Generator[int, None, dict[int, bytes]]:
    """Encode records, as many in a turn as its budget allows, and return the bytes of each by its `id`, or `DAMAGED`.

    Yields what each portion costs, in names, ahead of it. Nothing, if they cost so little that they may as well be
    encoded with the message that carries them. A page that several connections are answered with is encoded once: each
    does the portion that is next.
    """
    if _cost(codec, records) <= turns.names_free or (type(records) is SharedRecords and codec in records.made):
        return {}
    encoded, left = _work(turns, codec, records, encode)
    while left:
        names = _cost(codec, left[0])
        yield names
        if not left:
            # Another, which has the same page, was given turns ahead, and had the rest done in them.
            turns.refund(names)
            break
        for record in left.popleft():
            try:
                encoded[id(record)] = encode(record)
            except Unreadable:
                encoded[id(record)] = DAMAGED  # told by the message that would carry it
    return encoded


def _work(
    turns: Turns, codec: Codec, records: Sequence[Record], encode: Callable[[Record], bytes]
) -> tuple[dict[int, bytes], deque[Sequence[Record]]]:
    """Return the bytes that are there, and the groups that are left to be encoded: of a shared page, for all."""
    if type(records) is not SharedRecords:
        return {}, deque(_groups(codec, records, turns.names_max))
    shared = records.made.get(encode)
    if shared is None:
        shared = records.made[encode] = {}, deque(_groups(codec, records, turns.names_max))
    return shared


def encode_by_turns(
    turns: Turns,
    codec: Codec,
    records: Sequence[Record],
    encode: Callable[[Record], bytes],
    encoded: Callable[[dict[int, bytes]], None],
    failed: Callable[[], None],
) -> None:
    """Encode as `encode_in_portions` does, each portion in a turn for it, and call `encoded` with the bytes.

    `failed` is called if a later turn meets a bug.
    """
    portions = encode_in_portions(turns, codec, records, encode)

    def go_on() -> None:
        try:
            while turns.take(names := next(portions)):
                pass
        except StopIteration as done:
            encoded(done.value)
            return
        turns.wait(names, go_on, failed)

    go_on()


async def encode_in_turns(
    turns: Turns, codec: Codec, records: Sequence[Record], encode: Callable[[Record], bytes]
) -> dict[int, bytes]:
    """Encode as `encode_in_portions` does, and wait for a turn for each portion."""
    portions = encode_in_portions(turns, codec, records, encode)
    while True:
        try:
            names = next(portions)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        await turns.spend(names)


def _cost(codec: Codec, records: Sequence[Record]) -> int:
    """Return how many names could be dealt with while records are encoded."""
    if not codec.text:
        unchecked = sum([len(cbor) for record in records if (cbor := record.cbor) and not is_checked(cbor)])
        return len(records) // RECORDS_PER_NAME + unchecked // CBOR_BYTES_PER_NAME
    return len(records) + sum([len(record.cbor or b"") for record in records]) // JSON_BYTES_PER_NAME


def _groups(codec: Codec, records: Sequence[Record], budget: int) -> Iterator[Sequence[Record]]:
    """Cut records into groups that fit into a turn; of a record that does not fit, one is a group."""
    begin = cost = 0
    for end, record in enumerate(records):
        one = _cost(codec, (record,))
        if end > begin and (cost + one > budget or (end - begin) >= budget * RECORDS_PER_NAME):
            yield records[begin:end]
            begin, cost = end, 0
        cost += one
    yield records[begin:]
