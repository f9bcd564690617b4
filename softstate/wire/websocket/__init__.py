"""WebSocket on a node's side, sans-I/O (RFC 6455, no extension): frames are written here, and clients' frames read."""

from softstate.wire.websocket.events import (
    PeerClose as PeerClose,
    Ping as Ping,
    Pong as Pong,
    Received as Received,
    Violation as Violation,
    ViolationCode as ViolationCode,
)
from softstate.wire.websocket.frame_reader import (
    CONTROLS_MAX as CONTROLS_MAX,
    FRAGMENTS_MAX as FRAGMENTS_MAX,
    FrameReader as FrameReader,
)
from softstate.wire.websocket.frames import (
    close_frame as close_frame,
    frame as frame,
    is_close as is_close,
    pong_frame as pong_frame,
)
