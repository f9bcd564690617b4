"""The example `dashboard` in real browsers: a page of another origin than the node, which is killed meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.test_applications import get, process
from tests.kit.browsers import Browser
from tests.kit.processes import Server, free_port, until

pytestmark = pytest.mark.timeout(280)

SHOWN = """async (text) => {
  while (document.querySelector("table").innerText.trim() !== text) await new Promise((next) => setTimeout(next, 20));
  return document.querySelector("soft-age").dataset.state;
}"""

STALE = """async () => {
  const age = document.querySelector("soft-age");
  age.setAttribute("warn", "0.1");
  while (age.dataset.state !== "stale") await new Promise((next) => setTimeout(next, 20));
  return document.querySelector("table").innerText.trim();
}"""


def test_the_page_shows_prices_and_their_age_across_a_kill(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    node = Server(tmp_path, origin=f"http://127.0.0.1:{port}").start()
    try:
        with process("-m", "softstate.examples.dashboard", PORT=str(port), NODE=node.http):
            until("the page is served", lambda: get(port)[0] == 200)
            node.put("prices/eur", 1.5)
            page = browser.open(f"http://127.0.0.1:{port}/")
            assert page.call(SHOWN, "prices/eur\t1.5") in ("fresh", "unknown")
            node.kill()
            assert page.call(STALE) == "prices/eur\t1.5"
            node.start()
            node.put("prices/eur", 1.6)
            page.call(SHOWN, "prices/eur\t1.6")
            page.act("close")
    finally:
        node.kill()
