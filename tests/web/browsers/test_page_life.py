"""The life of a page: browsers freeze it, and keep it for the way back. Ages are never too young."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.browsers import Browser
from tests.kit.processes import Server
from tests.web.browsers.test_pages import NEXT, follow, open_tab

pytestmark = pytest.mark.timeout(280)

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


@pytest.mark.parametrize("worker", WORKERS)
def test_a_page_that_comes_back_catches_up(chromium: Browser, node: Server, worker: str) -> None:
    page = open_tab(chromium, node)
    follow(page, f"back/{worker}/", worker=worker)
    page.call("() => { window.kept = true; }")
    page.act("goto", url=f"{node.http}/softstate.js")
    node.put(f"back/{worker}/1", "one")
    page.act("back")
    assert page.call("() => window.kept === true"), "the browser has kept the page"
    assert page.call(NEXT, "one") < 60
    page.act("close")
