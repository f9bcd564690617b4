"""The unit of systemd, run by a small manager that reads it: start, life, reload, crash, hang and end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import urllib.error
from pathlib import Path

from tests.kit.certificates import Authority
from tests.kit.code_map import ROOT
from tests.kit.processes import Server, free_port, until
from tests.kit.unit_runner import Runner

TEXT = (ROOT / "softstate" / "ops" / "softstate.service").read_text(encoding="utf-8")
READ = '[[allow]]\nwho = "anyone"\nread = ["a/"]\n'
WRITE = 'write = ["a/"]\n'
READ_ONLY = f"#{WRITE[1:]}"

HANGS = f"""#!{sys.executable}
# Keeps the loop from turning once it is told to: a handler runs in the loop's thread.
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
from softstate.__main__ import main
sys.exit(main())
"""


class Service:
    """The unit in a folder, with a configuration of one port; `server` makes requests there."""

    def __init__(self, folder: Path, config: str = "", **drop_in: str) -> None:
        self.folder = folder
        for name in ("etc", "var"):
            (folder / name).mkdir()
        program = folder / "softstate"
        program.write_text(HANGS)
        program.chmod(0o755)
        self.server = Server(folder, port=free_port())
        self.config = folder / "etc" / "softstate.toml"
        self.config.write_text(f'listen = "127.0.0.1:{self.server.port}"\n{config}')
        places = {
            "/opt/softstate/.venv/bin/softstate": program,
            "/etc/softstate": self.config.parent,
            "/var/lib/softstate": folder / "var",
        }
        self.runner = Runner(TEXT, folder, places, **drop_in)


def test_it_serves_and_is_there_again_soon_after_a_crash(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service.runner as runner:
        runner.serves()
        assert any(line.startswith(f"STATUS={service.server.http}") for line in runner.told)
        runner.until("it shows life", lambda: "WATCHDOG=1" in runner.told)
        service.server.put("a", 1)
        runner.send(signal.SIGKILL)
        runner.serves(2)
        assert runner.ends == ["SIGKILL"]
        assert runner.restart_s <= 0.2
        assert service.server.request("GET", "/v1/topics/a")[1] == 1
        assert {file.stat().st_mode & 0o077 for file in (tmp_path / "var").iterdir()} == {0}
        assert runner.stop() == 0
        assert "STOPPING=1" in runner.told


def test_a_reload_takes_policy_and_certificate_and_ends_nothing(tmp_path: Path) -> None:
    """The files look as before, to the second and the byte, so nothing but the reload can have read them."""
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other", "other")
    pair = authority.node()
    service = Service(tmp_path, f'tls_cert = "{pair.cert}"\ntls_key = "{pair.key}"\n{READ}{READ_ONLY}')
    service.server.options["tls_cert"] = pair.cert
    service.server.trusts = authority.trusting()
    with service.runner as runner:
        runner.serves()
        assert _publishes(service.server) == 403
        config = service.config.read_text().replace(READ_ONLY, WRITE)
        before = service.config.stat()
        assert len(config) == before.st_size
        service.config.write_text(config)
        os.utime(service.config, ns=(before.st_atime_ns, before.st_mtime_ns))
        made = other.node()
        shutil.copy(made.cert, pair.cert)
        shutil.copy(made.key, pair.key)
        runner.reload()
        service.server.trusts = other.trusting()
        until("the certificate is taken", lambda: _accepted(service.server))
        until("the policy is taken", lambda: _publishes(service.server) == 200)
        assert (runner.ends, runner.stop()) == ([], 0)


def test_it_is_ended_and_started_again_when_its_loop_hangs(tmp_path: Path) -> None:
    service = Service(tmp_path, WatchdogSec="1s")
    with service.runner as runner:
        runner.serves()
        runner.send(signal.SIGUSR1)
        runner.until("it is ended", lambda: runner.ends)
        runner.serves(2)
        assert runner.ends == ["watchdog"]
        assert service.server.put("a", 1) > 0


def _publishes(server: Server) -> int:
    return server.request("PUT", "/v1/topics/a/b", 1)[0]


def _accepted(server: Server) -> bool:
    try:
        return server.request("GET", "/healthz")[0] == 200
    except urllib.error.URLError:  # the certificate is not the one that is trusted
        return False
