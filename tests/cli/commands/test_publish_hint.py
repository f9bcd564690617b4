"""`softstate publish` says what it waits for, as long as no node is reached."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from softstate.cli.commands.publish import HINT_AFTER_S, OneChange, publish_one
from softstate.cli.exit_codes import Failure
from softstate.cli.options.credentials import NO_CREDENTIALS
from softstate.errors import OutcomeUnknown

CHANGE = OneChange("p/a", 1, False, None, None)


@pytest.mark.parametrize(("timeout_s", "hinted"), [(HINT_AFTER_S + 3, True), (HINT_AFTER_S - 1, False)])
async def test_with_nobody_listening_it_hints(
    timeout_s: float, hinted: bool, capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    with pytest.raises(Failure):
        await publish_one(CHANGE, ["ws://127.0.0.1:1"], NO_CREDENTIALS, timeout_s)
    hint = f"softstate: hint: no node reached at ws://127.0.0.1:1 so far: trying for {timeout_s:g} s\n"
    assert capsys.readouterr().err == (hint if hinted else "")


async def test_a_node_that_keeps_silent_is_reached(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, lambda stream: stream.receive_some(), [listener])
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
    with pytest.raises(OutcomeUnknown):
        await publish_one(CHANGE, [url], NO_CREDENTIALS, HINT_AFTER_S + 3)
    assert not capsys.readouterr().err
