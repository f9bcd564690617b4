"""A line for each session that begins, and one for each connection that ends, with the reason (`log_sessions`)."""

from __future__ import annotations

import structlog

from softstate.server.websocket.parts import Parts
from softstate.session import SessionMachine
from softstate.wire import Codec
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import Welcome

log = structlog.get_logger("softstate.sessions")

_CODES: dict[int, str] = {code.value: code.name.lower() for code in CloseCode}


def note_welcome(parts: Parts, session: SessionMachine, codec: Codec, welcome: Welcome) -> None:
    """Tell that a session begins, or goes on."""
    if parts.config.log_sessions:
        fields = _fields(parts, session)
        if welcome.resumed:
            log.info("session resumed", **fields, codec=codec.protocol)
        else:
            log.info("session begun", **fields, codec=codec.protocol)


def note_end(parts: Parts, session: SessionMachine, code: int | None) -> None:
    """Tell that a connection has ended, which this node has closed with `code`, or that was lost."""
    if parts.config.log_sessions:
        because = "the connection was lost" if code is None else _CODES.get(code, str(code))
        log.info("connection ended", **_fields(parts, session), because=because)


def _fields(parts: Parts, session: SessionMachine) -> dict[str, str | None]:
    return {
        "peer": session.presented.address or None,
        "name": session.name or None,
        "who": parts.gate.shown(session.identity),
    }
