"""The shell: which fields of a message it leaves out for a node that has told no level that has them (P-WIRE-10).

And a WebSocket that does not come to be, as runtimes tell it: by an error, a close, or both.
"""

from __future__ import annotations

from typing import Any

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


REFUSED = """
globalThis.setTimeout = () => ({});
globalThis.clearTimeout = () => {};
const asked = [], sockets = [];
class Socket {
  constructor() { sockets.push(this); }
  send() {}
  close() {}
}
const fetch = async (url) => {
  asked.push(String(url).split("/").at(-1));
  throw Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNREFUSED", message: "refused" } });
};
const settle = () => new Promise((resolve) => setImmediate(resolve));
const port = { postMessage() {} };
new Engine({ WebSocket: Socket, fetch }).attach(port);
port.onmessage({ data: { type: "open", options: { urls: ["ws://a"] }, lock: "", provider: false } });
port.onmessage({ data: { type: "subscribe", id: 1, names: ["a"], narrow: false } });
await settle();
const [socket] = sockets;
"""


def _refused(text: str) -> Any:
    return evaluate(WEB, 'import { Engine } from "./client/engine.js";', f"async () => {{ {REFUSED} {text} }}", None)


@pytest.mark.parametrize("events", ["socket.onerror()", "socket.onclose({})", "socket.onerror(); socket.onclose({})"])
def test_the_node_is_asked_why_at_once_and_once(events: str) -> None:
    assert _refused(f"{events}; await settle(); return asked.filter((each) => each === 'ws');") == ["ws"]


def test_an_error_of_one_that_opened_is_not_its_end() -> None:
    assert _refused("socket.onopen(); socket.onerror(); await settle(); return asked;") == []
