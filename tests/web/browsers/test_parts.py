"""Parts of pages beside the client: `<soft-age>`, and the hook for React."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.browsers import Browser
from tests.kit.processes import Server
from tests.web.browsers.test_pages import follow, open_tab

pytestmark = pytest.mark.timeout(280)

REACT = """
export const createContext = (value) => ({ value });
export const useContext = (context) => context.value;
export const useMemo = (make) => (globalThis.made ??= make());
export const useEffect = () => {};
export const useSyncExternalStore = (subscribe, snapshot) => {
  globalThis.renders = [];
  globalThis.unsubscribe = subscribe(() => renders.push(snapshot()));
  return snapshot();
};
"""
"""Stands for React: it calls what the hook gives it, and notes what would be rendered."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("node"), store="memory:").start()
    yield server
    server.kill()


def test_the_element_shows_an_age_and_says_when_it_is_too_high(browser: Browser, node: Server) -> None:
    page = open_tab(browser, node)
    follow(page, "other/", worker="page")
    text = """async () => {
      const element = document.createElement("soft-age");
      element.setAttribute("for", "shown/");
      element.setAttribute("warn", "60");
      document.body.append(element);
      const first = [element.dataset.state, element.textContent];
      while (element.dataset.state === "unknown") await new Promise((resolve) => setTimeout(resolve, 10));
      const young = [element.dataset.state, /^\\d+(\\.\\d)? s$/.test(element.textContent)];
      element.setAttribute("warn", "0");
      while (element.dataset.state !== "stale") await new Promise((resolve) => setTimeout(resolve, 10));
      element.remove();
      return [first, young];
    }"""
    assert page.call(text) == [["unknown", "unknown"], ["fresh", True]]
    page.act("close")


def test_the_hook_renders_on_a_change_and_when_fresh_flips(browser: Browser, node: Server) -> None:
    page = open_tab(browser, node)
    # A map of imports counts if it is there before the first module.
    page.call(
        """(react) => {
          const map = document.createElement("script");
          map.type = "importmap";
          map.textContent = JSON.stringify({ imports: { react: `data:text/javascript,${encodeURIComponent(react)}` } });
          document.head.append(map);
        }""",
        REACT,
    )
    follow(page, "other/", worker="page")
    name = f"hook/{browser.kind}"
    begin = """async (name) => {
      const { useTopic } = await import("/softstate-react.js");
      const first = useTopic(name, { maxAge: 60, client });
      while (!renders.some((each) => each.fresh)) await new Promise((resolve) => setTimeout(resolve, 10));
      const version = await client.publish(name, "one");
      while (!renders.some((each) => each.version === version)) await new Promise((resolve) => setTimeout(resolve, 10));
      const last = renders.at(-1);
      unsubscribe();
      return [first.fresh, first.value ?? null, last.value, last.fresh, renders.length];
    }"""
    assert page.call(begin, name) == [False, None, "one", True, 2]
    page.act("close")
