"""The limit of open files, and the connections that fit it."""

from __future__ import annotations

import resource

import pytest
import structlog.testing

from softstate.errors import ConfigError
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
    ("wanted", "limit", "fitted", "told"),
    [
        (1000, None, 1000, False),
        (1000, 1000 + RESERVED, 1000, False),
        (1000, 999 + RESERVED, 999, False),
        (1000, 901 + RESERVED, 901, False),
        (1000, 900 + RESERVED, 900, True),
        (20_000, 20_000, 20_000 - RESERVED, False),
        (20_000, 1024, 1024 - RESERVED, True),
        (1000, RESERVED + CONNECTIONS_MIN, CONNECTIONS_MIN, True),
        (10, RESERVED + 10, 10, False),
    ],
)
def test_connections_are_fitted_to_it_with_a_warning_of_a_loss_of_a_tenth(
    wanted: int, limit: int | None, fitted: int, told: bool
) -> None:
    with structlog.testing.capture_logs() as logs:
        config = fit_connections(ServerConfig(connections_max=wanted), limit)
    assert config.connections_max == fitted
    assert [line["taken_max"] for line in logs] == ([fitted] if told else [])


@pytest.mark.parametrize(
    ("wanted", "limit", "needed"),
    [
        (20_000, 20, RESERVED + CONNECTIONS_MIN),
        (20_000, RESERVED + CONNECTIONS_MIN - 1, RESERVED + CONNECTIONS_MIN),
        (10, RESERVED + 9, RESERVED + 10),
    ],
)
def test_a_limit_without_room_for_connections_is_refused_naming_the_one_needed(
    wanted: int, limit: int, needed: int
) -> None:
    with pytest.raises(ConfigError, match=f"may open {limit} files, and a node needs {needed} at least: raise"):
        fit_connections(ServerConfig(connections_max=wanted), limit)
