"""The browser client as a node serves it: whole or packed, asked for again by its tag, for pages that may have it."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from softstate.web import PAGE_PATHS, WEB_PATHS, bundle
from tests.kit.fake_node import FakeNode
from tests.kit.node_js import WEB

PAGE = "http://good.example"


@pytest.mark.parametrize("path", WEB_PATHS)
async def test_each_file_is_served_as_it_is(path: str) -> None:
    answer = await FakeNode().ask("GET", path)
    assert answer.status == 200
    made = path[1:] in bundle.BUNDLES
    assert answer.body == (bundle.bundle(path[1:]).encode() if made else (WEB / path[1:]).read_bytes())
    assert answer["content-type"] == ("text/plain" if path.endswith(".ts") else "text/javascript") + "; charset=utf-8"
    assert answer["cache-control"] == "no-cache"
    assert answer["vary"] == "Accept-Encoding, Origin"
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("deflate,GZIP", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
async def test_it_is_packed_for_those_who_unpack_it(accepts: str, packed: bool) -> None:
    answer = await FakeNode().ask("GET", "/softstate.js", Accept_Encoding=accepts)
    assert ("content-encoding" in answer.headers) == packed
    body = gzip.decompress(answer.body) if packed else answer.body
    assert body == bundle.bundle("softstate.js").encode()


@pytest.mark.parametrize("accepts", ["gzip", "br"])
async def test_it_is_not_sent_again_while_it_is_the_same(accepts: str) -> None:
    node = FakeNode()
    tag = (await node.ask("GET", "/softstate-worker.js", Accept_Encoding=accepts))["etag"]
    again = await node.ask("GET", "/softstate-worker.js", Accept_Encoding=accepts, If_None_Match=tag)
    assert (again.status, again.body, again["etag"]) == (304, b"", tag)
    other = await node.ask("GET", "/softstate-worker.js", Accept_Encoding=accepts, If_None_Match='"0"')
    assert other.status == 200


async def test_a_form_has_a_tag_of_its_own() -> None:
    node = FakeNode()
    tags = [(await node.ask("GET", "/softstate.js", Accept_Encoding=each))["etag"] for each in ("", "gzip")]
    assert len(set(tags)) == 2


async def test_pages_of_an_allowed_origin_may_have_it_and_others_may_not() -> None:
    node = FakeNode(origins=(PAGE,))
    allowed = await node.ask("GET", "/softstate.js", Origin=PAGE)
    assert (allowed.status, allowed["access-control-allow-origin"]) == (200, PAGE)
    assert (await node.ask("GET", "/softstate.js", Origin="http://bad.example")).status == 403


async def test_the_page_is_served_to_anybody_by_a_node_that_was_told_to() -> None:
    off = await FakeNode().ask("GET", "/ui")
    said = json.loads(off.body)["message"]
    assert (off.status, said) == (404, "this node serves no page: it was not started with --ui")
    node = FakeNode(ui=True, ui_nodes=("http://b:1",))
    for path in PAGE_PATHS:
        answer = await node.ask("GET", path)
        assert answer.status == 200
        policy = "default-src 'self'; connect-src 'self' http://b:1; base-uri 'none'; form-action 'none'; "
        assert answer["content-security-policy"].startswith(policy)
    page = (await node.ask("GET", "/ui")).body.decode()
    assert '<meta name="nodes" content="http://b:1" />' in page
    assert not re.search(r"<style|style=|<script>|\son\w+=", page), "the policy of the page forbids it"
    named = re.findall(r'(?:src|href)="(ui/[^"]+)"', page)
    assert {f"/{name}" for name in named} <= set(PAGE_PATHS)


async def test_a_page_may_put_a_version_behind_its_path() -> None:
    assert (await FakeNode().ask("GET", "/softstate.js?v=3")).status == 200
