"""The examples that are programs for users: each runs as a process while its node is killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from softstate.examples.revocation import MAX_AGE_S
from tests.kit.processes import WAIT_S, Server, environment, free_port, running, until

GONE = -1
"""Stands for the status of an answer where nobody listens yet."""


def get(port: int, path: str = "/", body: Any = None, **headers: str) -> tuple[int, str]:
    """Ask an application (PUT, if there is a body); return status and text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method="PUT" if data else "GET")
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return GONE, ""


@contextmanager
def process(*command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this Python for the length of a block."""
    with subprocess.Popen(
        [sys.executable, *command], env=environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True,
    ) as started:  # fmt: skip
        try:
            yield started
        finally:
            os.killpg(started.pid, signal.SIGKILL)


@contextmanager
def serving(*command: str, port: int, node: Server, **variables: str) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run an application beside a node; yield a function that asks it."""
    with process(*command, PORT=str(port), SOFTSTATE_URL=node.url, **variables):
        until("the application answers", lambda: get(port)[0] != GONE)
        yield lambda path="/", body=None, **headers: get(port, path, body, **headers)


def test_no_revoked_session_is_let_in_later_than_the_bound(tmp_path: Path) -> None:
    with running(tmp_path) as node, running(tmp_path, store=node.store) as other:
        with serving("-m", "softstate.examples.revocation", port=free_port(), node=node) as ask:
            until("good sessions are let in", lambda: ask(Session="good")[0] == 200)
            assert ask(Session="bad")[0] == 200
            assert ask()[0] == ask(Session="no/")[0] == 401
            node.signal(signal.SIGSTOP)  # it says nothing more, and its connections stay open
            other.put("sessions/revoked/bad", "laptop was stolen")
            revoked_at, let_in = time.monotonic(), []
            while True:
                asked_at = time.monotonic()
                if ask(Session="bad")[0] != 200:
                    break
                let_in.append(asked_at - revoked_at)
            assert max(let_in, default=0.0) <= MAX_AGE_S
            assert ask(Session="good")[0] == 503, "it fails closed, for all"
            node.kill()
            node.start()
            assert until("it knows", lambda: (answer := ask(Session="bad"))[0] != 503 and answer)[0] == 401
            assert ask(Session="good")[0] == 200


def test_settings_are_there_without_a_node_and_change_with_one(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"greeting": "Good day", "free_shipping_from": 30}')
    node = Server(tmp_path, port=free_port())
    with process("-m", "softstate.examples.config", SOFTSTATE_URL=node.url, SETTINGS=str(file)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "Good day! Shipping is free from 30.\n"
        try:
            node.start()
            node.put("config/shop", {"greeting": "Hi", "free_shipping_from": 20})
            assert program.stdout.readline() == "Hi! Shipping is free from 20.\n"
            node.put("config/shop", {"greeting": "Hi", "free_shipping_from": "free!"})
            assert program.stdout.readline().startswith("refused: 'config/shop' at version 3 is no Settings")
            node.kill()
            assert json.loads(file.read_text()) == {"greeting": "Hi", "free_shipping_from": 20}
            node.start()
            node.put("config/shop", {"greeting": "Welcome"})
            assert program.stdout.readline() == "Welcome! Shipping is free from 50.\n"
        finally:
            node.kill()


@pytest.mark.parametrize("framework", ["fastapi", "django"])
def test_a_web_application_answers_from_what_it_follows(tmp_path: Path, framework: str) -> None:
    port = free_port()
    if framework == "fastapi":
        command = ["-m", "uvicorn", f"--port={port}", "softstate.examples.fastapi_app:app"]
    else:
        command = ["-m", "gunicorn", "--preload", "--workers=2", f"--bind=127.0.0.1:{port}"]
        command.append("softstate.examples.django_app")

    with running(tmp_path) as node, serving(*command, port=port, node=node) as ask:
        assert ask("/price/eur")[0] == 404
        if framework == "fastapi":
            assert ask("/price/eur", 1.5)[0] == 200
        else:
            node.put("prices/eur", 1.5)

        def priced(price: float) -> Any:
            status, text = ask("/price/eur")
            return status == 200 and json.loads(text)["price"] == price and json.loads(text)

        assert until("the price is there", lambda: priced(1.5))["age"] <= 5
        node.kill()
        refused = until("it is too old", lambda: (answer := ask("/price/eur"))[0] == 503 and answer)
        assert json.loads(refused[1])["detail"]
        node.start()
        node.put("prices/eur", 1.6)
        assert until("the new price is there", lambda: priced(1.6))["age"] <= 5
