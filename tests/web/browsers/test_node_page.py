"""The page of a node, `/ui`, in real browsers: what it shows, of a node that was killed too, and what it publishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.browsers import Browser, Page
from tests.kit.processes import Server, free_port, until
from tests.kit.static_tokens import CI, ROOT, static

pytestmark = pytest.mark.timeout(280)

SIGN_IN = """(token) => {
  document.getElementById("token").value = token;
  document.getElementById("sign-in").requestSubmit();
}"""
CARDS = "() => [...document.querySelectorAll('[data-node]')].map((card) => card.dataset.state)"
ROWS = """() => [...document.querySelectorAll("#topic-list tbody tr")].map(
  ({ children: [topic, , value] }) => [topic.textContent, value.textContent])"""
ASKS = "() => !document.getElementById('sign-in').hidden && document.getElementById('sign-in-why').textContent"


def shows(page: Page, function: str, wanted: object) -> None:
    until(f"{function} is {wanted}", lambda: page.call(function) == wanted)


def test_it_shows_nodes_and_topics_to_an_administrator(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "auth.toml").write_text(
        static("root", ROOT, admin=True, read=["/"], write=["jobs/"]) + static("ci", CI, read=["/"])
    )
    port = free_port()
    first = Server(tmp_path, port=port, auth="auth.toml", ui_node=f"http://127.0.0.1:{free_port()}").start("--ui")
    second = Server(tmp_path, port=int(first.options["ui_node"].rpartition(":")[2]), store=first.store)
    second.options = {"auth": "auth.toml", "origin": first.http}
    second.start()
    page = browser.open(f"{first.http}/ui")
    shows(page, ASKS, "this node wants credentials: give a token")
    page.call(SIGN_IN, CI)
    until("it wants another token", lambda: "administrators" in str(page.call(ASKS)))
    page.call(SIGN_IN, ROOT)
    shows(page, CARDS, ["ok", "ok"])
    assert page.call("() => document.getElementById('store').textContent.includes('sqlite:')")

    headers = {"Authorization": f"Bearer {ROOT}", "Content-Type": "application/json"}
    first.request("PUT", "/v1/topics/jobs/1", {"<b>": "bold"}, headers)
    shows(page, ROWS, [["jobs/1", '{"<b>":"bold"}']])
    page.call("() => document.querySelector('#topic-list button').focus()")
    page.act("press", key="Enter")
    assert page.call("() => document.activeElement.textContent") == "jobs/1", "a reader of the page is where it opened"
    page.call("""() => {
      document.getElementById("value").value = "[1]";
      document.querySelector("#topic form").requestSubmit();
    }""")
    shows(page, ROWS, [["jobs/1", "[1]"]])
    assert first.request("GET", "/v1/topics/jobs/1", headers=headers)[1] == [1]

    page.act("size", width=360, height=800)
    assert page.call("() => document.documentElement.scrollWidth") <= 360

    second.kill()
    page.call("() => { const now = Date.now; Date.now = () => now() + 10_000; }")  # ten seconds later
    shows(page, CARDS, ["ok", "stale"])
    until("it says so", lambda: page.call("() => document.getElementById('summary').textContent").startswith("1 of 2"))
    page.act("close")
    first.kill()


def test_a_node_without_rules_shows_it_to_those_who_reach_it(chromium: Browser, tmp_path: Path) -> None:
    server = Server(tmp_path, store="memory:").start("--ui")
    page = chromium.open(f"{server.http}/ui")
    shows(page, CARDS, ["ok"])
    assert page.call(ASKS) is False
    assert "may be lost" in page.call("() => document.getElementById('store').textContent")
    page.act("close")
    server.kill()
