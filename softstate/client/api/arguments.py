"""Checks of what an application passes, before anything is sent: a wrong type is a bug, and is raised where it is made.

A message that a node cannot decode would cost its answer. Each error names the argument, and is both what this library
raises (`Invalid`, `ConfigError`) and what Python raises for such a bug (`TypeError`, `ValueError`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from softstate.client.tokens import is_token, takes_request
from softstate.errors import ConfigError, Invalid
from softstate.names import check_prefix, check_topic, is_prefix
from softstate.position import REVISION_MAX
from softstate.wire.messages import DURATION_MS_MAX, KEY_CHARS_MAX, NAME_CHARS_MAX, TOKEN_CHARS_MAX

SECONDS_MAX = 86_400
"""Longest time that a client can be told to wait, or to be content with, in seconds."""

OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "accept", "user-agent"}
    | {f"sec-websocket-{each}" for each in ("key", "version", "protocol", "extensions", "accept")}
)
"""Headers, in lower case, that a client writes itself."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,8190}[\x21-\x7e])?")

SHOWN_CHARS_MAX = 200
"""Characters of a wrong argument that its error repeats."""


class WrongType(Invalid, TypeError):
    """An argument of a type that it cannot have."""


class WrongValue(Invalid, ValueError):
    """An argument of the right type with a value that it cannot have."""


class WrongSetting(ConfigError, TypeError, ValueError):
    """An argument of `connect` that it cannot have."""


def topic_of(name: object, field: str = "topic") -> str:
    """Return a topic. Raises `Invalid`."""
    if not isinstance(name, str):
        raise WrongType(f"{field} must be text, not {_shown(name)}")
    return check_topic(name, field)


def prefix_of(name: object, field: str = "prefix") -> str:
    """Return a prefix. Raises `Invalid`."""
    if not isinstance(name, str):
        raise WrongType(f"{field} must be text, not {_shown(name)}")
    return check_prefix(name, field)


def name_of(name: object) -> str:
    """Return a topic or a prefix. Raises `Invalid`."""
    return prefix_of(name, "a prefix") if isinstance(name, str) and is_prefix(name) else topic_of(name, "a name")


def check_version(version: object, field: str) -> None:
    """Raise `Invalid` unless an argument is None or a version."""
    if version is None:
        return
    if not isinstance(version, int) or isinstance(version, bool):
        raise WrongType(f"{field} must be a version, an integer from 0 to {REVISION_MAX}, not {_shown(version)}")
    if not 0 <= version <= REVISION_MAX:
        raise WrongValue(f"{field} must be a version, an integer from 0 to {REVISION_MAX}, not {_shown(version)}")


def check_key(key: object) -> None:
    """Raise `Invalid` unless an argument is None or an idempotency key."""
    if key is None:
        return
    if not isinstance(key, str):
        raise WrongType(f"key must be text of 1 to {KEY_CHARS_MAX} characters, not {_shown(key)}")
    if not 1 <= len(key) <= KEY_CHARS_MAX:
        raise WrongValue(f"key must be text of 1 to {KEY_CHARS_MAX} characters, not {_shown(key)}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise WrongValue("key must be valid Unicode (it holds a lone surrogate)") from None


def check_seconds(seconds: object, field: str = "timeout_s") -> None:
    """Raise `Invalid` unless an argument is a number of seconds, 0 and infinity included."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise WrongType(f"{field} must be a number of seconds, not {_shown(seconds)}")
    if math.isnan(seconds) or seconds < 0:
        raise WrongValue(f"{field} must be a number of seconds, at least 0, not {_shown(seconds)}")


def urls_of(urls: object) -> list[str]:
    """Return the URLs that `connect` was given, one or several. Raises `ConfigError`."""
    given = [urls] if isinstance(urls, str) else list(urls) if isinstance(urls, Iterable) else [urls]
    found = [url for url in given if isinstance(url, str)]
    if len(found) < len(given):
        raise WrongSetting("urls must be text, or a list of texts, such as 'ws://127.0.0.1:8700'")
    return found


def check_settings(
    *, push: object, codec: object, name: object, token: object, ttl_ms: object, beat_ms: object
) -> None:
    """Raise `ConfigError` for an argument of `connect` that is wrong."""
    if not isinstance(push, bool):
        raise WrongSetting(f"push must be True or False, not {_shown(push)}")
    if codec not in ("cbor", "json"):
        raise WrongSetting(f"codec must be 'cbor' or 'json', not {_shown(codec)}")
    if not isinstance(name, str) or len(name) > NAME_CHARS_MAX or not _is_unicode(name):
        raise WrongSetting(f"name must be text of at most {NAME_CHARS_MAX} characters")
    if token is not None and not is_token(token) and not takes_request(token):
        text = f"token must be text of 1 to {TOKEN_CHARS_MAX} printable ASCII characters, or an async function"
        raise WrongSetting(f"{text} that takes a TokenRequest")
    for setting, wanted in (("ttl_ms", ttl_ms), ("beat_ms", beat_ms)):
        if wanted is not None and not (
            isinstance(wanted, int) and not isinstance(wanted, bool) and 0 < wanted <= DURATION_MS_MAX
        ):
            raise WrongSetting(f"{setting} must be a whole number from 1 to {DURATION_MS_MAX}, not {_shown(wanted)}")


def check_options(*, max_age: object, connect_timeout_s: object, poll_timeout_s: object, ordered: object) -> None:
    """Raise `ConfigError` for an argument of `connect` that is wrong."""
    for setting, wanted in (
        ("max_age", max_age),
        ("connect_timeout_s", connect_timeout_s),
        ("poll_timeout_s", poll_timeout_s),
    ):
        if wanted is None and setting == "max_age":
            continue
        seconds = wanted if isinstance(wanted, int | float) and not isinstance(wanted, bool) else math.nan
        if not 0 < seconds <= SECONDS_MAX:
            raise WrongSetting(
                f"{setting} must be a number of seconds from above 0 to {SECONDS_MAX}, not {_shown(wanted)}"
            )
    if not isinstance(ordered, bool):
        raise WrongSetting(f"ordered must be True or False, not {_shown(ordered)}")


def headers_of(headers: object, *, token: bool) -> list[tuple[str, str]]:
    """Return the headers that `connect` was given. Raises `ConfigError`."""
    if headers is None:
        return []
    if not isinstance(headers, Mapping):
        raise WrongSetting(f"headers must be a dict of names and values, not {_shown(headers)}")
    found = []
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise WrongSetting(f"{_shown(name)} is no name of a header: letters, digits and - are")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise WrongSetting(f"the header {name} must be printable ASCII on one line")
        if name.lower() in OWN_HEADERS:
            raise WrongSetting(f"the header {name} is this client's own: leave it out")
        if name.lower() == "authorization" and token:
            raise WrongSetting("the header Authorization and token say two things: leave one out")
        found.append((name, value))
    return found


def check_tls(tls: object, kind: type, wanted: bool, *, own: bool) -> None:
    """Raise `ConfigError` for a context of TLS that is none, or of no use: no URL asks for it, or streams are `own`.

    `kind` is the class of contexts: nothing here imports what does I/O.
    """
    if tls is None:
        return
    if not isinstance(tls, kind):
        raise WrongSetting(f"tls must be an ssl.SSLContext, not {_shown(tls)}")
    if own:
        raise WrongSetting("tls and open_stream say two things: have open_stream use the context, and leave out tls")
    if not wanted:
        raise WrongSetting("tls is of no use for URLs without TLS: begin one with wss:// or https://")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(argument: object) -> str:
    return f"{argument!r:.{SHOWN_CHARS_MAX}}"
