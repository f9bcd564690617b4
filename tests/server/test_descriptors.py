"""The limit of open files, and the connections that fit it."""

from __future__ import annotations

import resource

import pytest
import structlog.testing

from softstate.server import ServerConfig
from softstate.server.descriptors import CONNECTIONS_MIN, RESERVED, fit_connections, raise_limit


class Limits:
    """Stands for the system's limits of this process."""

    def __init__(self, soft: int, hard: int, *, refuses: bool = False) -> None:
        self.now = (soft, hard)
        self.refuses = refuses

    def get(self, _kind: int) -> tuple[int, int]:
        return self.now

    def set(self, _kind: int, limits: tuple[int, int]) -> None:
        if self.refuses:
            raise ValueError("current limit exceeds maximum limit")
        self.now = limits


@pytest.mark.parametrize(
    ("limits", "after", "returned"),
    [
        (Limits(1024, 4096), (4096, 4096), 4096),
        (Limits(4096, 4096), (4096, 4096), 4096),
        (Limits(256, resource.RLIM_INFINITY, refuses=True), (256, resource.RLIM_INFINITY), 256),
        (Limits(256, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_it_may(
    limits: Limits, after: tuple[int, int], returned: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    assert raise_limit() == returned
    assert limits.now == after


@pytest.mark.parametrize(
    ("wanted", "limit", "fitted"),
    [
        (1000, None, 1000),
        (1000, 1000 + RESERVED, 1000),
        (1000, 999 + RESERVED, 999),
        (1000, 70, CONNECTIONS_MIN),
        (10, 20, 10),
    ],
)
def test_connections_are_fitted_to_it_with_a_warning(wanted: int, limit: int | None, fitted: int) -> None:
    with structlog.testing.capture_logs() as logs:
        config = fit_connections(ServerConfig(connections_max=wanted), limit)
    assert config.connections_max == fitted
    assert [line["taken_max"] for line in logs] == ([fitted] if fitted != wanted else [])
