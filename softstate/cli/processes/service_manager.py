"""A service manager is told of a node (`Type=notify` of systemd): that it serves, that it ends, that its loop turns.

The protocol is that of sd_notify(3): datagrams of lines ``NAME=value`` to the Unix socket in ``NOTIFY_SOCKET``. Any
supervisor that speaks it will do; without that variable nothing is told.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import final

import trio

from softstate.cli.visible import visible

STATUS_CHARACTERS_MAX = 400
"""Longest text that is told; `systemctl status` shows it on one line."""

TIMES_PER_LIMIT = 2
"""Signs of life within the time after which the service is taken for hung: half of it, as sd_notify(3) advises."""


@final
class ServiceManager:
    """The process that started the service and waits for word of it; nobody, if `address` is empty.

    `watchdog_s` is the time without a sign of life after which it ends the service; None if it does not look.
    Telling never fails and never waits: a datagram that cannot be sent is dropped, as by sd_notify, and the manager
    then acts as if the service hung. `address` may be of the abstract namespace: it begins with ``@``.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s if address else None
        self._serves = trio.Event()

    def ready(self, status: str) -> None:
        """Tell that the service is there for its clients, and what to show of it."""
        self._tell("READY=1", f"STATUS={visible(status)[:STATUS_CHARACTERS_MAX]}")
        self._serves.set()

    def stopping(self) -> None:
        """Tell that the service drains: it ends by itself."""
        self._tell("STOPPING=1", "STATUS=drains: clients are sent elsewhere")

    async def prove_life(self) -> None:
        """Tell again and again that the loop turns, from `ready` on, until cancelled."""
        if self.watchdog_s is None:
            await trio.sleep_forever()
        else:
            await self._serves.wait()
            while True:
                self._tell("WATCHDOG=1")
                await trio.sleep(self.watchdog_s / TIMES_PER_LIMIT)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as to:
            try:
                to.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return


NOBODY = ServiceManager()
"""Stands for the manager of a node that another process of softstate supervises."""


def service_manager(environment: Mapping[str, str]) -> ServiceManager:
    """Return who started this process, by the variables of sd_notify(3) and sd_watchdog_enabled(3)."""
    limit = environment.get("WATCHDOG_USEC", "")
    for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    watchdog_s = int(limit) / 1e6 if limit.isascii() and limit.isdecimal() and int(limit) and for_us else None
    return ServiceManager(environment.get("NOTIFY_SOCKET", ""), watchdog_s)
