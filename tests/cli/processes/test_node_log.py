"""The log of a node: nothing of others' text reaches a terminal, and the start is a line for machines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from random import Random

import pytest
import structlog

from softstate.cli.processes.node_log import configure_logging, log_start
from softstate.server import Node, ServerConfig
from softstate.server.observe.build import own_version
from softstate.store.memory.store import MemoryDisk, MemoryStore

HOSTILE = "\x1b[2J\u202eevil\nnode started"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    logging.shutdown()


@pytest.mark.parametrize("field", ["name", "because"])
def test_what_a_terminal_would_obey_is_escaped(capsys: pytest.CaptureFixture[str], field: str) -> None:
    configure_logging("console", verbose=False)
    structlog.get_logger("t").info("session begun", **{field: HOSTILE}, names=[HOSTILE])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "\\u001b[2J\\u202eevil\\u000anode started" in told.replace("\\\\", "\\")
    assert "\x1b[2J" not in told
    assert "\u202e" not in told


def test_a_traceback_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console", verbose=False)
    try:
        int(HOSTILE)
    except ValueError as error:
        structlog.get_logger("t").error("bug", exc_info=error)
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.count("\n") > 3
    assert "\u202e" not in told


async def test_the_start_is_a_line_with_the_options_that_were_changed(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", verbose=False)
    store = MemoryStore(MemoryDisk(Random(1)))
    config = ServerConfig(ttl_ms=7_000, origins=("http://a.example",))
    log_start(Node(config, store, await store.head()))
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["version"]) == ("node started", own_version())
    assert line["options"] == {"ttl": 7_000, "origin": ["http://a.example"]}
