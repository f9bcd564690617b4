"""A small service manager: it reads a unit of systemd, and runs its service as systemd would.

It knows of a unit what a node depends on: the commands, the folders, sd_notify(3) with the main process alone
(`NotifyAccess=main`), the watchdog, restarts and the end. Of the sandbox it takes `UMask`, `NoNewPrivileges` and, where
the kernel has it (6.3), `MemoryDenyWriteExecute`.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import re
import shlex
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tests.kit.processes import WAIT_S, environment

LOOK_S = 0.01
"""Time between two looks at the process."""

UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "": 1.0}
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65
LIBC = ctypes.CDLL(None)


def seconds(text: str) -> float:
    """Read a duration of systemd.time(7), of one term."""
    found = re.fullmatch(r"(\d+)(ms|s|min|)", text)
    assert found is not None, text
    return int(found[1]) * UNITS_S[found[2]]


def section(text: str, name: str) -> dict[str, list[str]]:
    """Return the settings of a section, each with its values in order."""
    found: dict[str, list[str]] = {}
    inside = False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line == f"[{name}]"
        elif inside and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


class Runner:
    """Runs the service of a unit, in one thread: things happen in `until`, `reload` and `stop`.

    `places` maps paths that the unit names to those of the test; `drop_in` holds settings that replace the unit's.
    `told` has all lines of sd_notify, `ends` how each process ended.
    """

    def __init__(self, unit: str, folder: Path, places: Mapping[str, Path], **drop_in: str) -> None:
        for path, place in places.items():
            assert path in unit, path
            unit = unit.replace(path, str(place))
        self.settings = section(unit, "Service") | {key: [value] for key, value in drop_in.items()}
        assert self._one("Type") == "notify"
        assert self._one("NotifyAccess") == "main"
        assert self._one("Restart") == "always"
        self.restart_s = seconds(self._one("RestartSec"))
        self.watchdog_s = seconds(self._one("WatchdogSec"))
        self.told: list[str] = []
        self.ends: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._seen_alive = 0.0
        self._log = folder / "log"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self._socket.bind(str(self._folder / "notify"))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.settimeout(LOOK_S)
        try:
            for command in self.settings["ExecStartPre"]:
                subprocess.run(shlex.split(command), env=environment(), cwd=self._cwd, check=True)
            self._start()
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT_S)

    @property
    def log(self) -> str:
        """All that the service has logged."""
        return self._log.read_text(encoding="utf-8")

    def until(self, what: str, check: Callable[[], object]) -> None:
        """Look after the service until something is so."""
        deadline = time.monotonic() + WAIT_S
        while not check():
            assert time.monotonic() < deadline, (
                f"not within {WAIT_S} s: {what}; {self.told[-6:]}, {self.ends}: {self.log}"
            )
            self._turn()

    def serves(self, times: int = 1) -> None:
        """Look after the service until it has told for the Nth time that it is there for its clients."""
        self.until(f"READY for the {times}. time", lambda: self.told.count("READY=1") == times)

    def send(self, number: signal.Signals) -> None:
        """Send the main process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def reload(self) -> None:
        """Run what reloads the service."""
        assert self.process is not None
        for command in self.settings["ExecReload"]:
            words = shlex.split(command.replace("$MAINPID", str(self.process.pid)))
            subprocess.run(words, timeout=WAIT_S, check=True)

    def stop(self) -> int:
        """End the service, and return its exit code. It fails if that takes longer than the unit says."""
        self.send(signal.SIGTERM)
        assert self.process is not None
        code = self.process.wait(seconds(self._one("TimeoutStopSec")))
        while self._heard():
            pass
        return code

    def _one(self, key: str) -> str:
        return self.settings[key][-1]

    @property
    def _cwd(self) -> str:
        return self._one("WorkingDirectory")

    def _start(self) -> None:
        (command,) = self.settings["ExecStart"]
        variables = {"NOTIFY_SOCKET": str(self._folder / "notify"), "WATCHDOG_USEC": str(int(self.watchdog_s * 1e6))}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                shlex.split(command), cwd=self._cwd, env=environment() | variables, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, umask=int(self._one("UMask"), 8), start_new_session=True,
                preexec_fn=self._confine,  # noqa: PLW1509 - it makes two system calls
            )  # fmt: skip
        self._seen_alive = float("inf")  # until it is ready

    def _confine(self) -> None:
        if self._one("NoNewPrivileges") == "yes":
            LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if self._one("MemoryDenyWriteExecute") == "yes":
            LIBC.prctl(PR_SET_MDWE, 1, 0, 0, 0)

    def _turn(self) -> None:
        assert self.process is not None
        self._heard()
        code = self.process.poll()
        if code is None and time.monotonic() > self._seen_alive + self.watchdog_s:
            self.ends.append("watchdog")
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(WAIT_S)
        elif code is not None:
            self.ends.append(signal.Signals(-code).name if code < 0 else f"exit code {code}")
        else:
            return
        time.sleep(self.restart_s)  # as the unit says
        self._start()

    def _heard(self) -> bool:
        """Take a datagram, if there is one; that of any other process is not heeded."""
        with contextlib.suppress(TimeoutError):
            data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
            sender = array.array("i", ancillary[0][2])[0]
            if self.process is not None and sender == self.process.pid:
                lines = data.decode().split("\n")
                self.told += lines
                if "READY=1" in lines or "WATCHDOG=1" in lines:
                    self._seen_alive = time.monotonic()
            return True
        return False
