"""Options that the revoke commands share: how long, why, and whom; and times as people write and read them."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

from softstate.auth.policy import STATIC_ISSUER
from softstate.auth.revocations import REASON_CHARS_MAX
from softstate.auth.token import SUBJECT_CHARS_MAX
from softstate.cli.options.durations import DURATION_MS_MAX, parse_ms
from softstate.cli.visible import visible
from softstate.errors import ConfigError

EVER = "ever"


def lasting(_type: Any, tokens: Any) -> float:
    """Convert ``--for`` to seconds, infinity for ``ever``; for cyclopts, as `softstate.cli.options.durations`."""
    text = tokens[0].value
    if text == EVER:
        return math.inf
    try:
        ms = parse_ms(text, "--for")
    except ConfigError as error:
        raise ConfigError(f"{error}; or {EVER!r}") from None
    if ms < 1_000:
        raise ConfigError(f"--for must be at least 1s, not {text[:32]!r}")
    return ms / 1_000


def wall_time(_type: Any, tokens: Any) -> float:
    """Convert ``--before`` to seconds since 1970, infinity for ``ever``; for cyclopts."""
    text = tokens[0].value
    if text == EVER:
        return math.inf
    try:
        seconds = float(text) if text.replace(".", "", 1).isdecimal() else _moment(text)
    except ValueError:
        raise ConfigError(
            f"--before must be a time with its zone, such as 2026-11-30T12:00:00Z, or seconds since 1970, or {EVER!r},"
            f" not {text[:40]!r}"
        ) from None
    if not 0 < seconds <= now() + DURATION_MS_MAX / 1_000:
        raise ConfigError(f"--before must be after 1970, and at most a year from now, not {text[:40]!r}")
    return seconds


def _moment(text: str) -> float:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment.timestamp()


Lasting: TypeAlias = Annotated[
    float | None, Parameter(name="--for", converter=lasting, metavar="DURATION", show_default=False)
]
Reason: TypeAlias = Annotated[
    str,
    Parameter(
        metavar="TEXT",
        show_default=False,
        help=f"Why, for those whose credentials are refused: {REASON_CHARS_MAX} characters at most.",
    ),
]
Printed: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--print",
        negative=(),
        show_default=False,
        help="Publish nothing: print the topic and its value in JSON, with a tab between them. Needs no node.",
    ),
]


def check_name(text: str, argument: str) -> str:
    """Return the name of an issuer or a subject. Raises `ConfigError`, naming the argument."""
    if not 1 <= len(text) <= SUBJECT_CHARS_MAX or not text.isprintable():
        raise ConfigError(f"{argument} must be text of 1 to {SUBJECT_CHARS_MAX} printable characters")
    return text


def check_key(issuer: str, kid: str) -> None:
    """Check the names of a key. Raises `ConfigError`."""
    if check_name(issuer, "ISSUER") == STATIC_ISSUER:
        raise ConfigError("ISSUER: no key signs static tokens. Revoke each (softstate revoke token), or its subject")
    if kid:
        check_name(kid, "KID")


def check_reason(text: str) -> str:
    """Return a reason. Raises `ConfigError`."""
    if len(text) > REASON_CHARS_MAX:
        raise ConfigError(f"--reason must be {REASON_CHARS_MAX} characters at most, this one has {len(text)}")
    if not text.isprintable():
        raise ConfigError("--reason must be printable text, on one line")
    return text


def now() -> float:
    """Return the time in seconds since 1970, rounded up to milliseconds."""
    return math.ceil(time.time() * 1_000) / 1_000


def until_of(lasts_s: float | None, default_s: float) -> float:
    """Return when a revocation ends, in whole seconds since 1970; infinity for never."""
    seconds = now() + (default_s if lasts_s is None else lasts_s)
    return math.ceil(seconds) if math.isfinite(seconds) else math.inf


def time_text(seconds: float) -> str:
    """Write a time for people, ``ever`` for infinity."""
    if math.isinf(seconds):
        return EVER
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:g} s since 1970"


def subject_text(issuer: str, subject: str) -> str:
    """Name a subject for people."""
    return visible(f"{subject} of {issuer}")
