"""The cache in front of PostgreSQL: no worker answers with a price older than it says, while the node is killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.examples.test_applications import get, process
from tests.kit.processes import Server, free_port, until
from tests.store.engines.postgres_rig import PostgresRig


@pytest.mark.timeout(120)
def test_a_cached_price_is_never_older_than_it_says(tmp_path: Path) -> None:
    with PostgresRig.running() as rig:
        node, (one, two) = Server(tmp_path, store=rig.url).start(), (free_port(), free_port())
        database = rig.url.partition("?")[0]
        with rig.connect() as connection:
            connection.execute("CREATE TABLE price (product text PRIMARY KEY, cents integer NOT NULL)")
        command = ("-m", "softstate.examples.cache")
        try:
            with (
                process(*command, PORT=str(one), SOFTSTATE_URL=node.url, DATABASE=database),
                process(*command, PORT=str(two), SOFTSTATE_URL=node.url, DATABASE=database),
            ):
                until("both workers answer", lambda: get(one, "/pen")[0] == get(two, "/pen")[0] == 200)
                assert json.loads(get(one, "/pen?120", {})[1])["cents"] == 120
                until("it is in both memories", lambda: _cached(one, 120) and _cached(two, 120))

                node.kill()
                assert get(one, "/pen?130", {})[0] == 200, "prices are written without a node"
                written_at = time.monotonic()
                answer: dict[str, Any] = {"from": "memory"}
                while answer["from"] == "memory":
                    since_written = time.monotonic() - written_at
                    answer = json.loads(get(two, "/pen")[1])
                    assert answer["cents"] == 130 or answer["age"] >= since_written
                assert answer["cents"] == 130

                node.start()
                until("it is in both memories", lambda: _cached(one, 130) and _cached(two, 130))
        finally:
            node.kill()


def _cached(port: int, cents: int) -> bool:
    answer = json.loads(get(port, "/pen")[1])
    return bool(answer["from"] == "memory" and answer["cents"] == cents)
