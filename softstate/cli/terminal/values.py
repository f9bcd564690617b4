"""Values as people type and read them: JSON, with bytes as ``{"$bytes": base64}``."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

import msgspec

from softstate.cli.visible import for_programs, visible
from softstate.errors import Invalid
from softstate.model import Change, Value
from softstate.wire.value import VALUE_DEPTH_MAX, check_value, unwrap_bytes, wrap_bytes


def value_of(text: str | bytes) -> Value:
    """Read a value from JSON, also behind a byte-order mark.

    Raises `Invalid`, with help on quoting: that is what usually went wrong.
    """
    text = text.removeprefix("\ufeff") if isinstance(text, str) else text.removeprefix(codecs.BOM_UTF8)
    try:
        value = unwrap_bytes(msgspec.json.decode(text if isinstance(text, str) else text.decode()))
    except RecursionError:
        raise Invalid(f"the value is nested too deep (it may have {VALUE_DEPTH_MAX} levels)") from None
    except UnicodeError:
        raise Invalid(
            f"the value is not text in UTF-8: {text[:60]!r}. Bytes are written in base64, as in"
            """ '{"$bytes": "AAE="}'"""
        ) from None
    except msgspec.DecodeError as error:
        shown = text if isinstance(text, str) else text.decode(errors="replace")
        raise Invalid(
            f"the value is not JSON ({error}): {shown[:60]!r}. "
            f"""Text needs its own quotes inside the shell's, as in '"paid"' or '{{"state": "paid"}}'"""
        ) from None
    check_value(value)
    return value


def json_text(value: Value) -> str:
    """Write a value as JSON for people, on one line."""
    return visible(msgspec.json.encode(wrap_bytes(value)).decode())


def change_fields(change: Change) -> dict[str, Any]:
    """Return a change as the fields that every ``--json`` output has for it."""
    fields: dict[str, Any] = {"topic": change.topic, "version": change.version}
    if change.deleted:
        fields["deleted"] = True
    else:
        fields["value"] = wrap_bytes(change.value)
    return fields


def line_text(fields: dict[str, Any]) -> str:
    """Write one object as one line of JSON for programs, without its end."""
    return for_programs(msgspec.json.encode(fields).decode())


def unreadable_text(topics: Sequence[str]) -> str:
    """Name topics whose stored records are damaged, and what to do about them, for people."""
    names, them = ", ".join(map(visible, topics)), "it" if len(topics) == 1 else "them"
    return f"damaged in the store: {names}; publish {them} again, or restore a backup"
