"""The callout: another program that says who presents a token, asked by HTTP. Its settings, questions and answers.

No I/O: `softstate.server.auth.callout` sends questions, and `softstate.auth.answers` keeps answers.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field
from typing import Any

from softstate.auth.answers import INFLIGHT_MAX, Answer, CalloutTimes
from softstate.auth.brought import brought
from softstate.auth.name_answers import Book
from softstate.auth.rules import Known
from softstate.auth.token import SUBJECT_CHARS_MAX
from softstate.auth.toml_tables import TomlTable
from softstate.auth.urls import check_url
from softstate.errors import ConfigError, Unauthenticated

CALLOUT_ISSUER = "callout"
"""The issuer of identities that a callout makes; no other may have this name."""

SIGNATURE_HEADER = "Softstate-Signature"

SECRET_BYTES_MIN = 32

TTL_S_MAX = 86_400.0
"""Longest time for which an answer may hold."""

GROUPS_MAX = 256
"""Most groups, and most claims, that an answer may name."""

VERSION = 1
"""The version of questions and answers."""


class BadAnswer(Exception):
    """An answer is not what it must be; the message says why."""


@dataclass(frozen=True, slots=True)
class Callout:
    """The callout of a policy, and how it is asked."""

    url: str
    secret_file: str
    times: CalloutTimes = field(default_factory=CalloutTimes)
    inflight_max: int = INFLIGHT_MAX
    ceiling: tuple[str, ...] | None = None
    about: frozenset[str] = frozenset({"identity"})
    """Its subjects: ``identity``: who presents a token; ``names``: what a principal may read and write."""
    where: str = field(default="[auth.callout]", compare=False)


def read_callout(table: TomlTable) -> Callout:
    """Read the table ``[auth.callout]``. Raises `ConfigError`."""
    url = table.text("url")
    try:
        check_url(url)
    except ValueError as error:
        raise ConfigError(f"{table.place('url')}: {url!r} cannot be used: {error}") from None
    about = frozenset(table.texts("for", ()) or ("identity",))
    if not about <= {"identity", "names"}:
        raise table.wrong("for", "must hold 'identity', 'names' or both")
    usual = CalloutTimes()
    callout = Callout(
        url,
        table.text("secret_file"),
        CalloutTimes(
            ttl_s=table.number("ttl_s", usual.ttl_s, 1, TTL_S_MAX),
            stale_s=table.number("stale_s", usual.stale_s, 0, TTL_S_MAX),
            timeout_s=table.number("timeout_ms", usual.timeout_s * 1000, 10, 60_000) / 1000,
        ),
        int(table.number("inflight_max", INFLIGHT_MAX, 1, 1_024)),
        table.patterns("may_grant") if "may_grant" in table.data else None,
        about,
        table.place(),
    )
    table.end()
    return callout


def question(token: str, peer: str) -> bytes:
    """Return the body that asks about a token, which `peer` has presented first."""
    return json.dumps({"version": VERSION, "credentials": token, "peer": peer}).encode()


def names_question(book: Book) -> bytes:
    """Return the body that asks whether a principal may read or write some names."""
    identity = {"issuer": book.issuer, "subject": book.subject}
    ask = [{"action": action, "name": name} for action, name in book.asking]
    return json.dumps({"version": VERSION, "identity": identity, "peer": book.peer, "ask": ask}).encode()


def signature(secret: bytes, at_s: int, body: bytes) -> str:
    """Return the header by which the callout knows that this node asks, and when: seconds since 1970."""
    mac = hmac.digest(secret, str(at_s).encode() + b"." + body, "sha256")
    return f"t={at_s},v1={mac.hex()}"


def answer_of(body: bytes, callout: Callout) -> Answer:
    """Read an answer about a token. Raises `BadAnswer`."""
    found = _loaded(body)
    if not isinstance(found, dict) or "identity" not in found:
        raise BadAnswer("the answer must be an object with an 'identity', which is null if the token is not good")
    ttl_s = _ttl_s(found, callout)
    identity = found["identity"]
    if identity is None:
        return Answer(None, ttl_s)
    if not isinstance(identity, dict):
        raise BadAnswer("'identity' of the answer must be an object, or null")
    subject = identity.get("subject")
    if not (isinstance(subject, str) and 1 <= len(subject) <= SUBJECT_CHARS_MAX and subject.isprintable()):
        raise BadAnswer(
            f"'identity.subject' of the answer must be text of 1 to {SUBJECT_CHARS_MAX} printable characters"
        )
    granted = {name: found[name] for name in ("read", "write", "admin") if name in found}
    try:
        own = brought(granted, "the answer", callout.ceiling, where="the callout") if granted else None
    except Unauthenticated as error:
        raise BadAnswer(error.message) from None
    return Answer(
        Known(CALLOUT_ISSUER, subject, _groups(identity), claims=_claims(identity), own=own, ceiling=callout.ceiling),
        ttl_s,
    )


def allowed_of(body: bytes, callout: Callout, count: int) -> tuple[list[bool], float]:
    """Read an answer about `count` names: which are allowed, and for how long that holds. Raises `BadAnswer`."""
    found = _loaded(body)
    allowed = found.get("allowed") if isinstance(found, dict) else None
    if not (isinstance(allowed, list) and len(allowed) == count and all(isinstance(each, bool) for each in allowed)):
        raise BadAnswer(f"the answer must be an object whose 'allowed' is a list of {count} times true or false")
    return allowed, _ttl_s(found, callout)


def _loaded(body: bytes) -> Any:
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        raise BadAnswer("the answer is not JSON") from None


def _ttl_s(found: dict[str, Any], callout: Callout) -> float:
    ttl_s = found.get("ttl_s", callout.times.ttl_s)
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not 1 <= ttl_s <= TTL_S_MAX:
        raise BadAnswer(f"'ttl_s' of the answer must be a number from 1 to {TTL_S_MAX:g}")
    return float(ttl_s)


def _groups(identity: dict[str, Any]) -> frozenset[str]:
    groups = identity.get("groups", [])
    if not (isinstance(groups, list) and len(groups) <= GROUPS_MAX and all(isinstance(name, str) for name in groups)):
        raise BadAnswer(f"'identity.groups' of the answer must be a list of {GROUPS_MAX} texts at most")
    return frozenset(groups)


def _claims(identity: dict[str, Any]) -> dict[str, Any]:
    claims = identity.get("claims", {})
    kinds = (
        isinstance(claims, dict)
        and len(claims) <= GROUPS_MAX
        and all(isinstance(value, str | int) for value in claims.values())
    )
    if not kinds:
        raise BadAnswer(f"'identity.claims' of the answer must be an object of {GROUPS_MAX} texts or integers at most")
    return dict(claims)
