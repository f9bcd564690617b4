"""Writes `OPTIONS.md`: ``python -m softstate.server.config.options_page > softstate/server/config/OPTIONS.md``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from softstate.server.config.server_config import SETTINGS
from softstate.server.config.settings import Setting

HEAD = """\
# Options of a node

Written by `python -m softstate.server.config.options_page` from `server/config/server_config.py`: change it there.

Every option is a flag of `softstate serve`, an environment variable and a key of a TOML file: `--pending-max`,
`SOFTSTATE_PENDING_MAX`, `pending_max`. Names that end in `_ms` are milliseconds, in `_s` seconds; `bytes` are bytes.
The options `ttl` and `drain` are written with a unit (`500ms`, `60s`, `10m`), `memory_max` is a number of bytes or has
one (`512MiB`, `2GB`), `listen` is HOST:PORT or unix:PATH. The other options of `softstate serve` (`workers`,
`allow_anonymous`, `plaintext_ok`, `config`, `check`, `log_format`, `verbose`) are in its `--help`.

| option | default | allowed | |
|---|---|---|---|
"""


FOOT = """
## What one client can cost

Memory of a node, by default and at most; the buffers that the kernel has for a socket come on top.

| what | bytes | bound |
|---|---|---|
| a connection / its TLS | 2,000 / 18 KiB | `connections_max`, `connections_per_address_max` |
| a session | 900 | `sessions_max`, `sessions_per_identity_max` |
| a name of others, too / of its own | 95 / 445 | `subscriptions_max`, `subscriptions_per_identity_max` |
| what it is sent and does not read | 1 MiB, and a page of an answer | `pending_bytes_max` |
| an unfinished message / HTTP body | 256 KiB / 1 MiB | `message_bytes_max`, `body_bytes_max` |

So a session with as many names as it may have takes 4.5 MB; an identity at its limits 45 MB, and 100 MiB more while it
reads nothing. All clients together are held to `memory_max`, with each session and name, and for the rest every 5 s, or
0.5 s while unfinished messages are much of it. A node that is full closes connections with large ones first.
"""


NO_OPTIONS = frozenset({"auth_in_config"})
"""Settings that nobody gives: they follow from others."""


def page() -> str:
    """Return the whole page."""
    return HEAD + "".join(_rows()) + FOOT


def _rows() -> Iterator[str]:
    for setting in SETTINGS:
        if setting.name in NO_OPTIONS:
            continue
        allowed = "" if setting.bound is None else setting.bound.text(partial(_number, setting))
        yield f"| {_name(setting)} | {_default(setting)} | {allowed} | {setting.text} |\n"


def _name(setting: Setting) -> str:
    if setting.option == "listen":
        return f"`listen`, the {setting.name}"
    return f"`{setting.option}`"


def _default(setting: Setting) -> str:
    match setting.default:
        case bool(on):
            return "on" if on else "off"
        case () | "":
            return "none"
        case str(text):
            return f"`{text}`"
        case number:
            return _number(setting, number)


def _number(setting: Setting, number: float) -> str:
    """Write a number as its option takes it: with a unit if it is a duration of the command line."""
    if setting.option == setting.name or not setting.unit:
        return f"{number:.15g}"
    return f"{number / 1_000 if setting.unit == ' ms' else number:g}s"


if __name__ == "__main__":
    print(page(), end="")
