"""nginx before the nodes of a drill: it listens for the length of the block, and no part of it longer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from softstate.cli.commands.drill.proxy import nginx
from softstate.cli.processes.child import free_port
from softstate.client.url import parse_url
from tests.kit.engines import missing


async def test_no_process_of_nginx_is_left_behind(tmp_path: Path) -> None:
    if shutil.which("nginx") is None:
        missing("nginx is not installed: .dev/engines installs it")
    async with nginx(tmp_path, [free_port()]) as url:
        port = parse_url(url).port
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)
