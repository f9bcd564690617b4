"""The protocol field by field: which operation has which, which may be left out, and what each one refuses.

A kind lists wrong values, each with the place at which it is wrong, relative to the field. (Integers
that need more than CBOR's 64 bits travel as a tag, and are refused as such: see test_codec.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from softstate.position import REVISION_MAX
from softstate.wire.messages import (
    DURATION_MS_MAX,
    ID_CHARS_MAX,
    KEY_CHARS_MAX,
    MODE_CHARS_MAX,
    NAME_CHARS_MAX,
    TOKEN_CHARS_MAX,
)

Wrong = tuple[str, Any]
Kind = list[Wrong] | tuple[list[Wrong], str]


def _text(chars_max: int | None = None, chars_min: int = 0) -> list[Wrong]:
    wrong: list[Wrong] = [("", 5), ("", True), ("", ["x"]), ("", {"x": 1})]
    if chars_max is not None:
        wrong.append(("", "é" * (chars_max + 1)))
    if chars_min:
        wrong.append(("", ""))
    return wrong


def _all(*wrong: Any) -> list[Wrong]:
    return [("", value) for value in wrong]


def _natural(highest: int) -> list[Wrong]:
    return _all(-1, highest + 1, 2**63, 2**64 - 1, 1.0, 1.5, True, "1", [1], {})


TEXT = _text()
REVISION = _natural(REVISION_MAX)
MS = _natural(DURATION_MS_MAX)
ID = _all(-1, REVISION_MAX + 1, 2**64 - 1, 1.0, True, "é" * (ID_CHARS_MAX + 1), [1], {})
FLAG = _all(0, 1, "true", [], {})
CHOICE = _all("nonsense", "", 5, True, [])
NAMES: list[Wrong] = [("", 5), ("", "a"), ("", {"a": 1}), ("[0]", [5]), ("[1]", ["a", None])]
VERSIONS: list[Wrong] = [
    ("", 5),
    ("", "a"),
    ("", ["a"]),
    *(("[...]", {"a": wrong}) for wrong in (None, *(value for _place, value in REVISION))),
]
NARROW: list[Wrong] = [("", 5), ("", ["a"]), *(("[...]", {"a/": wrong}) for wrong in (None, 5, "a/b", {"a/b": 1}))]
NESTED = _all(5, "e.l.1", [])
ANYTHING: list[Wrong] = []


@dataclass(frozen=True)
class Field:
    """One field of one operation."""

    sender: str
    op: str
    path: str
    """Name, or names joined by dots where maps are nested; ``changes.0`` is the first of a list."""
    wrong: list[Wrong]
    optional: bool = False
    null: bool = False
    """Whether null means the same as leaving it out."""

    def __str__(self) -> str:
        return f"{self.op}.{self.path}"


def _operation(sender: str, op: str, **kinds: Kind) -> list[Field]:
    fields = []
    for name, kind in kinds.items():
        path = name.replace("__", ".")
        wrong, how = kind if isinstance(kind, tuple) else (kind, "")
        fields.append(Field(sender, op, path, wrong, optional="?" in how, null="null" in how))
    return fields


POSITION: dict[str, Kind] = {
    "position": NESTED,
    "position__epoch": TEXT,
    "position__lineage": TEXT,
    "position__revision": REVISION,
}
MAYBE_POSITION: dict[str, Kind] = {**POSITION, "position": (NESTED, "? null")}
POLL_ADVICE: dict[str, Kind] = {"poll": NESTED, "poll__every_ms": MS, "poll__spread_ms": MS}
RECOVER_ADVICE: dict[str, Kind] = {
    "recover": NESTED,
    "recover__spread_ms": MS,
    "recover__base_ms": MS,
    "recover__cap_ms": MS,
}
CHANGES: dict[str, Kind] = {
    "changes": ([("", 5), ("", {}), ("", "a"), ("[0]", [5])], "?"),
    "changes__0__topic": TEXT,
    "changes__0__version": REVISION,
    "changes__0__value": (ANYTHING, "?"),
    "changes__1__deleted": (FLAG, "?"),
}

FIELDS = [
    *_operation(
        "client",
        "hello",
        **MAYBE_POSITION,
        session=(_text(ID_CHARS_MAX), "? null"),
        since=(REVISION, "? null"),
        ttl_ms=(MS, "? null"),
        token=(_text(TOKEN_CHARS_MAX), "? null"),
        name=(_text(NAME_CHARS_MAX), "?"),
        beat_ms=(MS, "? null"),
    ),
    *_operation("client", "subscribe", id=ID, topics=(VERSIONS, "?"), prefixes=(VERSIONS, "?"), replace=(FLAG, "?")),
    *_operation("client", "unsubscribe", topics=(NAMES, "?"), prefixes=(NAMES, "?")),
    *_operation(
        "client",
        "renew",
        id=ID,
        digest=_text(16),
        count=REVISION,
        ttl_ms=(MS, "? null"),
        beat_ms=(MS, "? null"),
        age_ms=(MS, "? null"),
        mode=(_text(MODE_CHARS_MAX), "? null"),
    ),
    *_operation(
        "client",
        "poll",
        id=(ID, "?"),
        **MAYBE_POSITION,
        topics=(VERSIONS, "?"),
        prefixes=(VERSIONS, "?"),
        min_revision=(REVISION, "?"),
        cursor=(_text(128), "? null"),
        wait_ms=(MS, "? null"),
        age_ms=(MS, "? null"),
        mode=(_text(MODE_CHARS_MAX), "? null"),
    ),
    *_operation(
        "client",
        "publish",
        id=ID,
        topic=TEXT,
        value=(ANYTHING, "?"),
        deleted=(FLAG, "?"),
        expect=(REVISION, "? null"),
        key=(_text(KEY_CHARS_MAX, 1), "? null"),
        publisher=(_text(ID_CHARS_MAX, 1), "? null"),
        seq=(REVISION, "?"),
        settled=(REVISION, "?"),
    ),
    *_operation("client", "auth", id=ID, token=_text(TOKEN_CHARS_MAX)),
    *_operation(
        "node",
        "welcome",
        session=_text(ID_CHARS_MAX),
        resumed=FLAG,
        node=TEXT,
        **POSITION,
        ttl_ms=MS,
        renew_ms=MS,
        timeout_ms=MS,
        **POLL_ADVICE,
        **RECOVER_ADVICE,
        limits=NESTED,
        limits__subscriptions=REVISION,
        limits__value_bytes=REVISION,
        limits__message_bytes=REVISION,
        limits__pending=REVISION,
        limits__keys=REVISION,
        limits__key_ms=REVISION,
        limits__inflight=REVISION,
        limits__value_items=REVISION,
        limits__message_items=REVISION,
        durability=CHOICE,
        level=(REVISION, "?"),
        reset=(FLAG, "?"),
        beat_ms=(MS, "?"),
        clock_ms=(REVISION, "? null"),
        credentials_ms=(MS, "? null"),
        subject=(TEXT, "? null"),
    ),
    *_operation(
        "node",
        "subscribed",
        id=ID,
        **POSITION,
        **CHANGES,
        more=(FLAG, "?"),
        digest=(TEXT, "?"),
        count=(REVISION, "?"),
        compacted=(NAMES, "?"),
        denied=(NAMES, "?"),
        lag_ms=(REVISION, "?"),
        unreadable=(NAMES, "?"),
        clock_ms=(REVISION, "? null"),
        narrow=(NARROW, "?"),
    ),
    *_operation(
        "node", "notify", topic=TEXT, version=REVISION, value=(ANYTHING, "?"), deleted=(FLAG, "?"), unknown=(FLAG, "?")
    ),
    *_operation("node", "position", **POSITION),
    *_operation(
        "node",
        "renewed",
        id=ID,
        match=FLAG,
        **POSITION,
        sent=REVISION,
        ttl_ms=MS,
        renew_ms=MS,
        **POLL_ADVICE,
        **RECOVER_ADVICE,
        store=CHOICE,
        lag_ms=(REVISION, "?"),
        beat_ms=(MS, "?"),
        clock_ms=(REVISION, "? null"),
        credentials_ms=(MS, "? null"),
    ),
    *_operation("node", "beat", next_ms=MS, sent=REVISION, **MAYBE_POSITION, clock_ms=(REVISION, "?")),
    *_operation("node", "denied", names=NAMES, narrow=(NARROW, "?")),
    *_operation("node", "authenticated", id=ID, credentials_ms=(MS, "? null"), subject=(TEXT, "? null")),
    *_operation("node", "revoked", reason=CHOICE, retry_ms=(MS, "? null"), spread_ms=(MS, "? null")),
    *_operation(
        "node",
        "polled",
        id=ID,
        **POSITION,
        **CHANGES,
        more=(FLAG, "?"),
        cursor=(_text(128), "? null"),
        compacted=(NAMES, "?"),
        denied=(NAMES, "?"),
        next_ms=(MS, "? null"),
        lag_ms=(REVISION, "?"),
        unreadable=(NAMES, "?"),
        credentials_ms=(MS, "? null"),
        narrow=(NARROW, "?"),
        held_ms=(MS, "?"),
    ),
    *_operation("node", "published", id=ID, topic=TEXT, version=REVISION, **POSITION, repeated=(FLAG, "?")),
    *_operation(
        "node",
        "error",
        id=(ID, "? null"),
        code=TEXT,
        message=TEXT,
        retry_ms=(MS, "? null"),
        current=(REVISION, "? null"),
        **MAYBE_POSITION,
        why=(TEXT, "? null"),
        version=(REVISION, "? null"),
    ),
    *_operation("node", "bye", reason=CHOICE, retry_ms=MS, spread_ms=MS),
]
