"""nginx before the nodes of a throw-away installation: clients know its URL alone."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from softstate.cli.exit_codes import UNAVAILABLE, USAGE, Failure
from softstate.cli.processes.child import START_S_MAX, child, free_port

RECIPE = Path(__file__).parents[3] / "ops" / "nginx" / "softstate-proxy.conf"
"""How nginx passes requests on: as in the recipe for users."""

LOOK_EVERY_S = 0.05

_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    map $http_upgrade $softstate_connection {{ default upgrade; "" ""; }}
    upstream softstate {{
        zone softstate 64k;
{servers}
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://softstate; include {recipe}; }}
    }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, ports: Sequence[int]) -> AsyncIterator[str]:
    """Run nginx before the nodes at these ports of the loopback address; yield its URL. It logs to a file in `folder`.

    It is one process: the workers of a master that is killed would go on.

    Raises `Failure` if there is no nginx, or it does not listen.
    """
    port, log = free_port(), folder / "nginx.log"
    servers = "\n".join(f"        server 127.0.0.1:{each} max_fails=1 fail_timeout=1s;" for each in ports)
    log.touch()
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, servers=servers, port=port, recipe=RECIPE), encoding="utf-8")
    command = ["nginx", "-p", str(folder), "-c", str(config), "-e", str(log)]
    try:
        async with child(command, subprocess.DEVNULL) as process:
            await _listens(process, port, log)
            yield f"ws://127.0.0.1:{port}"
    except FileNotFoundError:
        raise Failure("--nginx needs the program nginx: install it, or leave --nginx out", USAGE) from None


async def _listens(process: trio.Process, port: int, log: Path) -> None:
    """Return once a port accepts connections."""
    with trio.move_on_after(START_S_MAX):
        while process.poll() is None:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(LOOK_EVERY_S)
            else:
                await stream.aclose()
                return
    last = (await trio.Path(log).read_text("utf-8")).strip().rpartition("\n")[2]
    raise Failure(f"nginx does not listen: {last or 'its log is empty'}", UNAVAILABLE)
