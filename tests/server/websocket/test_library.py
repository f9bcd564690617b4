"""The server's end of a WebSocket, with peers that break its protocol at bad moments."""

from trio.testing import MockClock

from bench.trials.fuzz.node_targets import SocketTarget, handshake
from bench.trials.fuzz.streams import frame, frames_in
from softstate.wire import JSON


async def test_a_ping_after_the_node_began_to_close_ends_only_this_connection(autojump_clock: MockClock) -> None:
    """Found by fuzzing: wsproto refused to answer it, and its error took the whole node with it."""
    target = SocketTarget()
    async with target.running():
        said = [frame(1, b"no hello", masked=True), frame(9, b"", masked=True)]
        received = await target.talk(handshake(JSON), *said)
        opcodes = [first & 0x0F for first, _ in frames_in(received.partition(b"\r\n\r\n")[2])]
        assert opcodes == [1, 8]
        await target.check_unharmed()
