"""The shell: which fields of a message it leaves out for a node that has told no level that has them (P-WIRE-10)."""

from __future__ import annotations

import pytest

from tests.kit.node_js import WEB, evaluate

FIELDS = {"wait_ms", "age_ms", "mode"}

SENT = """
const kept = [];
const none = () => {};
const socket = { bufferedAmount: 0, send: (text) => kept.push(JSON.parse(text)) };
const shell = new Shell({ urls: ["ws://a"] }, none, none, { fetch: none });
shell._connections.set(1, { socket, url: "ws://a", opened: true });
shell._levels.set("ws://a", level);
shell._send(1, { op: "poll", id: 1, wait_ms: 0, age_ms: 5, mode: "live" });
return kept[0];
"""


@pytest.mark.parametrize(
    ("level", "known"), [(0, set[str]()), (1, set[str]()), (2, {"wait_ms"}), (3, FIELDS), (9, FIELDS)]
)
def test_a_node_is_sent_the_fields_of_its_level(level: int, known: set[str]) -> None:
    sent = evaluate(WEB, 'import { Shell } from "./client/shell.js";', f"(level) => {{ {SENT} }}", level)
    assert sent.keys() == {"op", "id", *known}
