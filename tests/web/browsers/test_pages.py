"""The client in pages of real browsers: where the machine runs, what tabs share, and faults of nodes and of the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.browsers import Browser, Page
from tests.kit.processes import Server, until
from tests.kit.static_tokens import CI, OTHER, static

pytestmark = pytest.mark.timeout(280)

FOLLOW = """async ({ name, options, urls }) => {
  const { connect } = await import("/softstate.js");
  window.client = connect(urls ?? undefined, options);
  window.handle = client.subscribe(name);
  window.seen = [];
  handle.addEventListener("change", ({ detail }) => seen.push(detail));
  handle.addEventListener("reset", () => seen.push("reset"));
  await handle.fresh();
  return client.mode;
}"""

NEXT = """async (wanted) => {
  const is = (each) => each === wanted || each.value === wanted;
  while (!seen.some(is)) await new Promise((resolve) => handle.addEventListener("age", resolve, { once: true }));
  return handle.age;
}"""
"""Waits until a value, or a reset, was seen: an age follows each."""


def follow(page: Page, name: str, urls: list[str] | None = None, **options: Any) -> Any:
    return page.call(FOLLOW, {"name": name, "options": options, "urls": urls})


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("node"), store="memory:").start()
    yield server
    server.kill()


def open_tab(browser: Browser, node: Server) -> Page:
    """Open a page of the node's origin, one that browsers may keep for the way back."""
    return browser.open(f"{node.http}/softstate.d.ts")


@pytest.mark.parametrize("worker", ["shared", "dedicated", "page"])
def test_a_value_goes_out_and_comes_back_wherever_the_machine_runs(browser: Browser, node: Server, worker: str) -> None:
    page = open_tab(browser, node)
    name = f"{browser.kind}/{worker}/"
    follow(page, name, worker=worker, maxAge=5)
    text = """async (topic) => {
      const value = { big: 2n ** 63n - 1n, bytes: new Uint8Array([0, 255]) };
      const version = await client.publish(topic, value);
      while (!seen.length) await new Promise((resolve) => handle.addEventListener("change", resolve, { once: true }));
      await handle.fresh(60);
      const known = client.read(topic, { maxAge: 60 });
      return [version === seen[0].version, String(known.value.big), [...known.value.bytes], client.mode];
    }"""
    assert page.call(text, f"{name}1") == [True, str(2**63 - 1), [0, 255], "live"]
    page.act("close")


def test_tabs_share_one_session_which_ends_with_the_last(browser: Browser, tmp_path: Path) -> None:
    node = Server(tmp_path, store="memory:", ttl="5s").start()
    tabs = [open_tab(browser, node) for _ in range(3)]
    for tab in tabs:
        assert follow(tab, "shared/") == "live"
    assert node.status()["sessions"] == 1
    node.put("shared/1", "one")
    for tab in tabs:
        assert tab.call(NEXT, "one") < 60
    tabs[0].act("close")
    node.put("shared/1", "two")
    assert tabs[1].call(NEXT, "two") < 60
    for tab in tabs[1:]:
        tab.act("close")
    until("the session has ended, if need be with its lease", lambda: node.status()["sessions"] == 0)
    node.kill()


def test_a_hidden_tab_goes_on(browser: Browser, node: Server) -> None:
    hidden = open_tab(browser, node)
    follow(hidden, "hidden/")
    front = open_tab(browser, node)
    front.act("front")
    node.put("hidden/1", "one")
    assert hidden.call(NEXT, "one") < 60
    front.act("close")
    hidden.act("close")


def test_pages_go_on_with_another_node_when_theirs_is_killed(browser: Browser, tmp_path: Path) -> None:
    first = Server(tmp_path).start()
    second = Server(tmp_path, store=first.store, origin=first.http).start()
    page = open_tab(browser, first)
    assert follow(page, "killed/", [first.http, second.http]) == "live"
    first.kill()
    second.put("killed/1", "one")
    assert page.call(NEXT, "one") < 60
    page.act("close")
    second.kill()


def test_a_wiped_store_is_told_as_a_reset(browser: Browser, tmp_path: Path) -> None:
    server = Server(tmp_path).start()
    page = open_tab(browser, server)
    server.put("reset/1", "old")
    follow(page, "reset/")
    assert page.call(NEXT, "old") < 60
    server.kill()
    for file in tmp_path.glob("softstate.db*"):
        file.unlink()
    server.start()
    server.put("reset/2", "new")
    assert page.call(NEXT, "new") < 60
    told = "() => [seen.indexOf('reset') > -1, handle.resetCount, [...handle.snapshot().keys()]]"
    assert page.call(told) == [True, 1, ["reset/2"]]
    page.act("close")
    server.kill()


def test_a_page_polls_and_says_why_where_websocket_does_not_pass(browser: Browser, node: Server) -> None:
    page = open_tab(browser, node)
    page.call("""() => {
      window.WebSocket = class {
        constructor() { setTimeout(() => this.onclose({ code: 1006, reason: "" })); }
        close() {}
      };
    }""")
    node.put("blocked/1", "one")
    assert follow(page, "blocked/", worker="page") == "polling"
    assert page.call(NEXT, "one") < 60
    because = (
        "async () => { while (!client.because) await new Promise((r) => setTimeout(r, 10)); return client.because; }"
    )
    assert "does not pass WebSocket" in page.call(because)
    page.act("close")


def test_a_token_that_is_refused_is_fetched_again(browser: Browser, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(static("ci", CI, read=["/"], write=["/"]))
    server = Server(tmp_path, auth=str(policy)).start()
    page = open_tab(browser, server)
    text = """async ([bad, good]) => {
      const { connect } = await import("/softstate.js");
      window.asked = [];
      const token = async (request) => { asked.push(request.rejected); return asked.length < 2 ? bad : good; };
      window.client = connect(undefined, { token });
      window.handle = client.subscribe("token/");
      while (client.mode !== "live") await new Promise((resolve) => client.addEventListener("mode", resolve));
      return [asked.length, asked[0], typeof asked[1]];
    }"""
    assert page.call(text, [OTHER, CI]) == [2, None, "string"]
    page.act("close")
    server.kill()


def test_a_page_of_another_origin_runs_a_worker_of_its_own(browser: Browser, node: Server, tmp_path: Path) -> None:
    other = Server(tmp_path, store="memory:", origin=node.http).start()
    page = open_tab(browser, node)
    text = """async (url) => {
      const started = [];
      const Real = window.Worker;
      window.Worker = class extends Real {
        constructor(target, options) { super(target, options); started.push(String(target).split(":")[0]); }
      };
      const { connect } = await import(`${url}/softstate.js`);
      const client = connect(url);
      const handle = client.subscribe("far/");
      const version = await client.publish("far/1", "one");
      for await (const change of handle) {
        if (change.version !== version) continue;
        await handle.fresh(60);
        client.close();
        return [started, change.value];
      }
    }"""
    assert page.call(text, other.http) == [["blob"], "one"]
    page.act("close")
    other.kill()
