"""The rules of Host, Origin and Sec-Fetch-Site: which names and which web pages a node answers to."""

import json

import pytest

from softstate.auth.authority import RulesAuthority
from softstate.auth.policy_file import read_policy
from tests.kit.fake_node import Answer, FakeNode
from tests.kit.static_tokens import CI, static
from tests.server.http.test_upgrade import handshake

ROUTES = [
    ("GET", "/v1/topics/a"),
    ("PUT", "/v1/topics/a"),
    ("DELETE", "/v1/topics/a"),
    ("GET", "/v1/topics"),
    ("POST", "/v1/poll"),
    ("POST", "/v1/publish"),
    ("GET", "/v1/status"),
    ("GET", "/metrics"),
    ("GET", "/v1/ws"),
    ("OPTIONS", "/v1/poll"),
    ("GET", "/nowhere"),
    ("GET", "/"),
    ("GET", "/healthz/"),
]

GOOD = [
    "127.0.0.1",
    "127.0.0.1:8700",
    "[::1]:8700",
    "[::ffff:127.0.0.1]",
    "10.2.3.4",
    "localhost",
    "LOCALHOST:8700",
    "localhost.",
    "app.localhost:1",
    "Softstate",
    "softstate:8700",
    "softstate.:8700",
]

BAD = [
    "evil.example",
    "evil.example:8700",
    "127.0.0.1.evil.example",
    "127.0.0.1.evil.example:8700",
    "127.evil.example",
    "127.1",
    "0x7f.1",
    "2130706433",
    "[::1::]",
    "[1]",
    "localhost.evil.example",
    "evillocalhost",
    ".localhost",
    "softstate.evil.example",
    "xsoftstate",
    "x" * 5_000,
]

INVALID = [
    "",
    "::1",
    "[::1",
    "[::1%evil]",
    "[::1]x",
    "user@127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1:8700@evil.example",
    "a b",
    "a/b",
    "a@b",
    "a,b",
    "a?b",
    "a#b",
    "a\\b",
    "a:b",
    "a:1:2",
    "a:65536",
    "127.0.0.1:100000",
    "http://127.0.0.1",
    "127.0.0.1/",
    "127.0.0.1,",
    "localhost, evil.example",
    "evil.example, localhost",
    '"localhost"',
    "local%68ost",
    "\xff",
]
"""Values of Host that RFC 9112 section 3.2 wants answered with 400 on every route."""


async def asked(
    node: FakeNode, target: str, host: str | None, *lines: str, method: str = "GET", http: str = "1.1"
) -> Answer:
    head = [f"{method} {target} HTTP/{http}", *([] if host is None else [f"Host: {host}"]), *lines, "", ""]
    (answer,) = await node.exchange("\r\n".join(head).encode("latin-1"))
    return answer


@pytest.mark.parametrize("host", GOOD)
async def test_addresses_local_names_and_allowed_names_pass(host: str) -> None:
    node = FakeNode(allow_host=("softstate",))
    assert (await asked(node, "/v1/topics", host)).status == 200
    assert await node.converse(handshake(Host=host)) == b"upgraded"


@pytest.mark.parametrize("host", BAD)
async def test_other_names_are_denied_over_http_and_websocket(host: str) -> None:
    node = FakeNode(allow_host=("softstate",))
    answer = await asked(node, "/v1/topics", host)
    assert (answer.status, answer.code, answer.json["why"]) == (403, "denied", "host")
    assert "this node does not answer to" in answer.json["message"]
    (answer,) = await node.exchange(handshake(Host=host))
    assert (answer.status, answer.code) == (403, "denied")
    assert node.upgrades == []


@pytest.mark.parametrize("host", INVALID)
@pytest.mark.parametrize("path", ["/v1/topics", "/healthz", "/nowhere"])
async def test_an_invalid_host_is_no_request(host: str, path: str) -> None:
    for http in ("1.1", "1.0"):
        answer = await asked(FakeNode(), path, host, http=http)
        assert (answer.status, answer.code, answer["connection"]) == (400, "invalid", "close")
        assert "Host must name a host" in answer.json["message"]
    node = FakeNode()
    (answer,) = await node.exchange(handshake(Host=host))
    assert (answer.status, node.upgrades) == (400, [])


async def test_the_refusal_names_the_option() -> None:
    for host in ("softstate", "Softstate:8700"):
        answer = await asked(FakeNode(), "/v1/status", host)
        sentence = "this node does not answer to 'softstate': start it with --allow-host softstate"
        assert answer.json["message"] == sentence


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_has_the_rule(method: str, path: str) -> None:
    node = FakeNode()
    answer = await asked(node, path, "evil.example", "Content-Length: 2", method=method)
    assert (answer.status, answer.code) == (403, "denied")
    # A page that was rebound is of the same origin as the node, for its browser.
    answer = await asked(node, path, "evil.example", "Origin: http://evil.example", "Content-Length: 2", method=method)
    assert (answer.status, answer.code) == (403, "denied")
    assert "access-control-allow-origin" not in answer.headers
    assert await node.store.head() == node.position


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_may_use_any_name_but_pages_may_not(path: str) -> None:
    node = FakeNode(origins=("http://good.example",))
    for host in ("evil.example", "softstate:8700", "127.1"):
        assert (await asked(node, path, host)).status == 200
        answer = await asked(node, path, host, "Origin: http://good.example")
        assert (answer.status, answer["access-control-allow-origin"]) == (200, "http://good.example")
    assert (await asked(node, path, None, http="1.0")).status == 200
    assert (await asked(node, path, "evil.example", "Origin: http://evil.example")).status == 403


async def test_a_request_without_a_host_is_refused() -> None:
    answer = await asked(FakeNode(), "/v1/topics", None, http="1.0")
    assert (answer.status, answer.code) == (403, "denied")
    assert "names no host" in answer.json["message"]
    assert (await asked(FakeNode(), "/v1/topics", None)).status == 400  # RFC 9112 section 3.2


async def test_two_hosts_are_refused() -> None:
    assert (await asked(FakeNode(), "/v1/topics", "localhost", "Host: localhost")).status == 400
    assert (await asked(FakeNode(), "/healthz", "localhost", "host: evil.example")).status == 400


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://127.0.0.1:8700/v1/topics", "127.0.0.1", 200),
        ("HTTP://LOCALHOST/v1/topics", "127.0.0.1", 200),
        ("http://evil.example/v1/topics", "127.0.0.1", 403),
        ("http://127.0.0.1/v1/topics", "evil.example", 403),
        ("http://127.0.0.1@evil.example/v1/topics", "127.0.0.1", 400),
        ("http://evil.example@127.0.0.1/v1/topics", "127.0.0.1", 400),
        ("http://evil.example?/v1/topics", "127.0.0.1", 403),
        ("http:///v1/topics", "127.0.0.1", 400),
        ("http://evil.example/healthz", "evil.example", 200),
    ],
)
async def test_a_target_in_absolute_form_names_the_host_too(target: str, host: str, status: int) -> None:
    assert (await asked(FakeNode(), target, host)).status == status


TOKEN = static("ci", CI, read=["/"], write=["/"])
ANYONE = '[[allow]]\nwho = "anyone"\nread = ["public/"]\n'
PROXY = '[auth.proxy]\ntrusted = "10.0.0.1"\n'
EVIL = "evil.example:18731"
PAGE = f"Origin: http://{EVIL}"


def ruled(content: str) -> FakeNode:
    return FakeNode(authority=RulesAuthority(read_policy(content, "auth.toml").policy))


async def by_a_page(node: FakeNode, *more: str) -> list[int]:
    """Do what a page did whose name was pointed at a node; return the four answers."""
    put = await asked(node, "/v1/topics/a/b", EVIL, PAGE, "Content-Length: 0", *more, method="DELETE")
    get = await asked(node, "/v1/topics/a/b", EVIL, *more)  # a browser sends no Origin with it
    listed = await asked(node, "/v1/topics", EVIL, "Sec-Fetch-Site: same-origin", *more)
    name, _, value = (more or (f"X: {EVIL}",))[0].partition(": ")
    request = handshake(Host=EVIL, Origin=f"http://{EVIL}", **{name: value})
    found = await node.converse(request)
    return [put.status, get.status, listed.status, 101 if found == b"upgraded" else int(found.split()[1])]


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (ANYONE, [403] * 4),
        (TOKEN + ANYONE, [403] * 4),
        (TOKEN + PROXY + 'subject_header = "s"\n', [403] * 4),
        (TOKEN + PROXY, [401, 401, 401, 101]),
        (TOKEN, [401, 401, 401, 101]),  # a hello without a token is refused
    ],
)
async def test_a_page_whose_name_was_pointed_at_a_node_gets_nothing_without_a_token(
    content: str, statuses: list[int]
) -> None:
    assert await by_a_page(ruled(content)) == statuses


async def test_a_node_without_rules_answers_no_such_page() -> None:
    assert await by_a_page(FakeNode()) == [403] * 4


async def test_any_name_of_a_node_will_do_with_a_token_if_nothing_is_given_without_one() -> None:
    token = f"Authorization: Bearer {CI}"
    assert await by_a_page(ruled(TOKEN), token) == [200, 404, 200, 101]
    assert await by_a_page(ruled(TOKEN + ANYONE), token) == [403] * 4


async def test_the_rule_holds_again_once_the_policy_gives_something_to_anyone() -> None:
    authority = RulesAuthority(read_policy(TOKEN, "auth.toml").policy)
    node = FakeNode(authority=authority)
    assert (await asked(node, "/v1/topics", EVIL)).status == 401
    authority.change(read_policy(TOKEN + ANYONE, "auth.toml").policy, {})
    assert (await asked(node, "/v1/topics", EVIL)).status == 403


async def test_pages_of_other_sites_are_refused_by_every_node() -> None:
    answer = await asked(ruled(TOKEN), "/v1/topics", EVIL, "Origin: http://other.example")
    assert (answer.status, answer.json["why"]) == (403, "origin")


SITES = ["cross-site", "Cross-Site", "cross-site, none"]


@pytest.mark.parametrize("site", SITES)
async def test_a_request_from_another_site_needs_an_allowed_origin(site: str) -> None:
    node = FakeNode(origins=("http://good.example",))
    for path in ("/v1/topics", "/healthz", "/v1/ws"):
        answer = await asked(node, path, "127.0.0.1", f"Sec-Fetch-Site: {site}")
        assert (answer.status, answer.json["why"]) == (403, "origin")
        assert "--origin" in answer.json["message"]
        answer = await asked(node, path, "127.0.0.1", f"Sec-Fetch-Site: {site}", "Origin: http://127.0.0.1")
        assert answer.status == 403
    assert (
        await asked(node, "/v1/topics", "127.0.0.1", f"Sec-Fetch-Site: {site}", "Origin: http://good.example")
    ).status == 200


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none", ""])
async def test_other_sites_need_no_more_than_before(site: str) -> None:
    assert (await asked(FakeNode(), "/v1/topics", "127.0.0.1", f"Sec-Fetch-Site: {site}")).status == 200
    assert (
        await asked(FakeNode(), "/v1/topics", "127.0.0.1", f"Sec-Fetch-Site: {site}", "Origin: http://x")
    ).status == 403


@pytest.mark.parametrize("given", ["http://App.example/", "http://app.example:80", "HTTP://APP.EXAMPLE"])
@pytest.mark.parametrize("sent", ["http://app.example", "http://App.example"])
async def test_an_allowed_origin_matches_in_any_spelling(given: str, sent: str) -> None:
    answer = await asked(FakeNode(origins=(given,)), "/v1/topics", "127.0.0.1", f"Origin: {sent}")
    assert (answer.status, answer["access-control-allow-origin"]) == (200, sent)


async def test_refusals_are_errors_of_the_protocol() -> None:
    answer = await asked(FakeNode(), "/v1/topics", "evil.example", "Accept: application/cbor")
    assert set(answer.cbor) == {"op", "code", "message", "why"}
    answer = await asked(FakeNode(), "/v1/topics", "evil.example")
    assert set(json.loads(answer.body)) == {"op", "code", "message", "why"}
