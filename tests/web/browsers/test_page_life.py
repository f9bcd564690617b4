"""The life of a page: browsers freeze it, and keep it for the way back. Ages are never too young."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.auth.keys import key
from tests.auth.tokens import encoded
from tests.kit.browsers import Browser
from tests.kit.issuer_policy import issuer
from tests.kit.processes import Server, until
from tests.kit.static_tokens import ROOT, static
from tests.web.browsers.test_pages import NEXT, follow, open_tab

pytestmark = pytest.mark.timeout(280)

FOLLOW_WITH_TOKENS = """async ([jwk, seconds]) => {
  const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
  const { kty, n, e, d, p, q, dp, dq, qi, kid } = jwk;
  const key = await crypto.subtle.importKey("jwk", { kty, n, e, d, p, q, dp, dq, qi }, algorithm, false, ["sign"]);
  const text = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_");
  const encoded = (bytes) => text(bytes).replace(/=+$/, "");
  const part = (value) => encoded(new TextEncoder().encode(JSON.stringify(value)));
  window.asked = [];
  const token = async ({ rejected }) => {
    const now = Math.floor(Date.now() / 1000);
    const exp = now + (asked.push(rejected) === 1 ? seconds : 600); // the first one ends soon
    const claims = { iss: "https://id", aud: "softstate", sub: "u1", iat: now - 60, exp, jti: `t${asked.length}` };
    const signed = `${part({ alg: "RS256", kid })}.${part(claims)}`;
    return `${signed}.${encoded(await crypto.subtle.sign(algorithm, key, new TextEncoder().encode(signed)))}`;
  };
  const { connect } = await import("/softstate.js");
  window.client = connect(undefined, { token });
  window.modes = [];
  client.addEventListener("mode", ({ detail }) => modes.push(detail));
  window.handle = client.subscribe("token/");
  window.seen = [];
  handle.addEventListener("change", ({ detail }) => seen.push(detail));
  while (asked.length < 2) await new Promise((resolve) => setTimeout(resolve, 50));
  await handle.fresh();
  return [modes, asked];
}"""

WORKERS = ["shared", "dedicated", "page"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("node"), store="memory:").start()
    yield server
    server.kill()


@pytest.mark.parametrize("worker", WORKERS)
def test_a_frozen_tab_is_as_old_as_it_was_frozen_and_catches_up(chromium: Browser, node: Server, worker: str) -> None:
    page, other = open_tab(chromium, node), open_tab(chromium, node)
    follow(page, f"frozen/{worker}/", worker=worker)
    follow(other, f"frozen/{worker}/", worker=worker)
    page.call("""() => {
      window.ages = [];
      document.addEventListener("freeze", () => (window.frozenAt = performance.now()));
      document.addEventListener("resume", () => {
        window.resumedAt = performance.now();
        ages.push([handle.age, (resumedAt - frozenAt) / 1000]);
      });
    }""")
    page.act("state", state="frozen")
    node.put(f"frozen/{worker}/1", "one")
    assert other.call(NEXT, "one") < 60
    page.act("state", state="active")
    assert page.call(NEXT, "one") < 60
    age, frozen_s = page.call("() => ages[0]")
    assert age >= frozen_s > 0, "what it knew was of before it was frozen"
    page.act("close")
    other.act("close")


@pytest.mark.parametrize(("worker", "tabs"), [*((worker, 1) for worker in WORKERS), ("shared", 2)])
def test_a_page_that_comes_back_catches_up(chromium: Browser, node: Server, worker: str, tabs: int) -> None:
    name = f"back/{worker}/{tabs}/"
    page, *others = [open_tab(chromium, node) for _ in range(tabs)]
    for tab in (page, *others):
        follow(tab, name, worker=worker)
    page.call("() => { window.kept = true; }")
    page.act("goto", url=f"{node.http}/softstate.js")
    node.put(f"{name}1", "one")
    for tab in others:
        assert tab.call(NEXT, "one") < 60
    reasons = page.back()
    assert page.call("() => window.kept === true"), f"the browser has not kept the page: {reasons}"
    assert page.call(NEXT, "one") < 60
    for tab in (page, *others):
        tab.act("close")


def test_tabs_go_on_when_the_process_of_their_worker_has_crashed(chromium: Browser, node: Server) -> None:
    first, *others = [open_tab(chromium, node) for _ in range(3)]
    for tab in (first, *others):
        follow(tab, "crashed/")
    first.act("crash")
    node.put("crashed/1", "one")
    for tab in others:
        assert tab.call(NEXT, "one") < 60
        tab.act("close")


def test_a_token_is_refreshed_in_place_and_another_fetched_when_it_is_revoked_while_hidden(
    chromium: Browser, tmp_path: Path
) -> None:
    (tmp_path / "auth.toml").write_text(
        issuer(tmp_path, ["/"], "r") + static("root", ROOT, admin=True, write=["/", "$softstate/"])
    )
    server = Server(tmp_path, auth="auth.toml").start()
    page = open_tab(chromium, server)
    assert page.call(FOLLOW_WITH_TOKENS, [key("r").jwk, 5]) == [["syncing", "live"], [None, None]]
    front = open_tab(chromium, server)
    front.act("front")
    until("the page is hidden", lambda: page.call("() => document.visibilityState") == "hidden")
    digest = encoded(sha256(b"t2").digest())[:22]
    headers = {"Authorization": f"Bearer {ROOT}", "Content-Type": "application/json"}
    assert server.request("PUT", f"/v1/topics/$softstate/revoked/token/{digest}", {}, headers)[0] == 200
    assert server.request("PUT", "/v1/topics/token/1", "one", headers)[0] == 200
    assert page.call(NEXT, "one") < 60
    assert page.call("() => [asked, client.mode !== 'stopped']") == [[None, None, "revoked"], True]
    page.act("close")
    front.act("close")
    server.kill()
