"""``softstate demo``: the whole story in under 30 seconds, with real processes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from softstate.cli import exit_codes
from softstate.cli.processes.interrupt import interruptible


async def command() -> int:
    """Show the whole story in under 30 seconds: push, expire, kill -9, poll, recover.

    Starts two nodes on one temporary SQLite file, 21 subscribers and a publisher; stops one subscriber until its lease
    expires, kills a node with SIGKILL in mid-stream and starts it again; checks every promise on the way. Nothing has
    to be prepared, nothing is left behind. Exit code 1 if a promise was broken.
    """
    return await interruptible(_tell)


async def _tell() -> int:
    from softstate.cli.commands.demo.story import Story  # noqa: PLC0415 - brings the client and rich: --help does without

    with tempfile.TemporaryDirectory(prefix="softstate-demo-") as folder:
        kept = await Story(Path(folder)).run()
    return exit_codes.OK if kept else exit_codes.BROKEN
