"""The subscriber of the demo that runs as a process of its own, by the lines that it prints."""

from __future__ import annotations

from softstate.cli.commands.demo.story import Watched
from softstate.cli.commands.watch import json_line
from softstate.client.machine.events import ModeChanged
from softstate.model import Change


def test_a_subscriber_that_printed_nothing_yet_is_at_version_0() -> None:
    """It may be stopped when it is live, and before its first change: the demo ended in a traceback."""
    watched = Watched()
    assert watched.newest == 0
    watched.take(json_line(ModeChanged("live"), "live", 0.0))
    assert (watched.newest, watched.live) == (0, True)
    watched.take(json_line(Change("a", 7, 1), "live", 0.0))
    watched.take(json_line(Change("b", 5, 1), "live", 0.0))
    assert (watched.newest, watched.went_back) == (7, 0)
    watched.take(json_line(Change("a", 6, 1), "live", 0.0))
    assert (watched.newest, watched.went_back) == (6, 1)
