"""Requests to etcd's JSON gateway and its answers, as far as we use them: the shapes of `etcdserverpb`.

Bytes are base64 there, as msgspec has them by itself; 64-bit numbers are text, which it reads when not strict. What is
zero or empty is left out in both directions. The names are those of etcd 3.4 to 3.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

TXN_OPS_MAX = 128
"""How many operations etcd takes in one list of a transaction (``--max-txn-ops``), less those of the list around it."""

NESTED_MAX = TXN_OPS_MAX // 2
"""The most nested transactions that a long list is folded into, and the most operations of each."""

FOLDED_OPS_MAX = (NESTED_MAX - 1) * NESTED_MAX
"""How many operations one transaction can hold in all, beside a first one."""

Op: TypeAlias = dict[str, Any]
"""One operation of a transaction."""


class Header(msgspec.Struct, frozen=True):
    """The beginning of every answer. `revision` is etcd's own, of the snapshot that the answer was taken from."""

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


class KeyValue(msgspec.Struct, frozen=True):
    """A key as etcd holds it. `mod_revision` is etcd's revision of its last change."""

    key: bytes
    value: bytes = b""
    mod_revision: int = 0


class RangeAnswer(msgspec.Struct, frozen=True):
    """The keys of a range; `count` is how many there are in all."""

    kvs: Sequence[KeyValue] = ()
    count: int = 0
    more: bool = False


class OpAnswer(msgspec.Struct, frozen=True):
    """The answer to one operation of a transaction; only that of a range is of interest."""

    response_range: RangeAnswer = RangeAnswer()


class TxnAnswer(msgspec.Struct, frozen=True):
    """The answer to a transaction whose operations are all ranges."""

    header: Header = Header()
    responses: Sequence[OpAnswer] = ()


class Outcome(msgspec.Struct, frozen=True):
    """The answer to a transaction that writes, with the answers to its operations left out."""

    header: Header = Header()
    succeeded: bool = False


class Status(msgspec.Struct, frozen=True, rename={"db_size": "dbSize", "db_size_quota": "dbSizeQuota"}):
    """The answer of ``/v3/maintenance/status``, about the member asked; `db_size_quota` since etcd 3.6, else 0."""

    header: Header = Header()
    db_size: int = 0
    db_size_quota: int = 0


class Alarm(msgspec.Struct, frozen=True):
    """An alarm that is on, ``NOSPACE`` or ``CORRUPT``."""

    alarm: str = "NONE"


class Alarms(msgspec.Struct, frozen=True):
    """The answer of ``/v3/maintenance/alarm``."""

    header: Header = Header()
    alarms: Sequence[Alarm] = ()


class Token(msgspec.Struct, frozen=True):
    """The answer of ``/v3/auth/authenticate``."""

    token: str


class Failure(msgspec.Struct, frozen=True):
    """An error in place of an answer: a gRPC status code and a text."""

    code: int = 0
    message: str = ""
    error: str = ""


class Event(msgspec.Struct, frozen=True):
    """A change that a watch reports; etcd leaves `type` out when it is PUT."""

    kv: KeyValue
    type: str = "PUT"


class WatchResult(msgspec.Struct, frozen=True):
    """One message of a watch."""

    created: bool = False
    canceled: bool = False
    cancel_reason: str = ""
    events: Sequence[Event] = ()


class WatchLine(msgspec.Struct, frozen=True):
    """One line of a watch's answer: a result, or a failure that ends it."""

    result: WatchResult | None = None
    error: Any = None


def get(key: bytes) -> Op:
    """Read one key."""
    return {"request_range": {"key": key}}


def span(begin: bytes, end: bytes, **options: Any) -> Op:
    """Read the keys from `begin` up to and without `end`: ``limit=``, ``count_only=``, ``keys_only=``."""
    return {"request_range": {"key": begin, "range_end": end, **options}}


def span_last(begin: bytes, end: bytes) -> Op:
    """Read the last key from `begin` up to and without `end`."""
    return span(begin, end, limit=1, sort_order="DESCEND", sort_target="KEY")


def put(key: bytes, value: bytes) -> Op:
    """Write one key."""
    return {"request_put": {"key": key, "value": value}}


def delete(key: bytes) -> Op:
    """Delete one key."""
    return {"request_delete_range": {"key": key}}


def delete_span(begin: bytes, end: bytes) -> Op:
    """Delete the keys from `begin` up to and without `end`."""
    return {"request_delete_range": {"key": begin, "range_end": end}}


def value_is(key: bytes, value: bytes) -> Op:
    """Compare: the key has this value."""
    return {"key": key, "target": "VALUE", "result": "EQUAL", "value": value}


def unchanged(key: bytes, mod_revision: int) -> Op:
    """Compare: the key was last changed at etcd's revision `mod_revision`; 0: it does not exist."""
    return {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": mod_revision}


def none_in(begin: bytes, end: bytes) -> Op:
    """Compare: no key from `begin` up to and without `end` exists. etcd compares each one that does."""
    return {"key": begin, "range_end": end, "target": "MOD", "result": "EQUAL", "mod_revision": 0}


def none_since(begin: bytes, end: bytes, revision: int) -> Op:
    """Compare: no key from `begin` up to and without `end` was changed after `revision`. Deletions do not show."""
    return {"key": begin, "range_end": end, "target": "MOD", "result": "LESS", "mod_revision": revision + 1}


def folded(first: Op, ops: Sequence[Op]) -> list[Op]:
    """Return a list of operations that etcd takes as one transaction: `first`, then `ops`, nested if they are many.

    `ops` are `FOLDED_OPS_MAX` at most. etcd limits each list, and a nested one to what the list around it has left
    (`checkTxnRequest`, the same in 3.4 and 3.6), so two levels of half the limit hold the square of it.
    """
    if len(ops) < NESTED_MAX:
        return [first, *ops]
    assert len(ops) <= FOLDED_OPS_MAX
    parts = (ops[at : at + NESTED_MAX] for at in range(0, len(ops), NESTED_MAX))
    return [first, *({"request_txn": {"success": part}} for part in parts)]
