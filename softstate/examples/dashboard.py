"""A page that shows prices as they change, and how old they may be.

Run it, and a node that lets this page in: ``softstate serve --origin http://127.0.0.1:8701`` and
``python -m softstate.examples.dashboard``. Open http://127.0.0.1:8701, and ``softstate publish prices/eur 1.5``. Then
kill the node: prices stay, and the page says how old they may be.
"""

import os
from collections.abc import Iterable
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

NODE = os.environ.get("NODE", "http://127.0.0.1:8700")
PORT = int(os.environ.get("PORT", "8701"))

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Prices</title>
<style>
  body { font: 1rem sans-serif; margin: 2rem }
  td { padding: 0.2rem 1rem 0.2rem 0 }
  [data-state="stale"], [data-state="unknown"] { color: firebrick; font-weight: bold }
</style>
<h1>Prices</h1>
<p>Not older than: <soft-age for="prices/" warn="5"></soft-age></p>
<table></table>
<script type="module">
  import { connect } from "NODE/softstate.js";

  const table = document.querySelector("table");
  const rows = new Map();

  function show({ topic, value, deleted }) {
    if (!rows.has(topic)) {
      const row = table.insertRow();
      row.insertCell().textContent = topic;
      rows.set(topic, row.insertCell());
    }
    rows.get(topic).textContent = deleted ? "" : String(value);
  }

  const prices = connect("NODE").subscribe("prices/");
  prices.addEventListener("reset", () => {
    rows.clear();
    table.replaceChildren();
  });
  for await (const change of prices) show(change);
</script>
</html>
"""


def application(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the page."""
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [PAGE.replace("NODE", NODE).encode()]


if __name__ == "__main__":
    with make_server("127.0.0.1", PORT, application) as server:
        server.serve_forever()
