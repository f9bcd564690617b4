"""Headers of proxies over HTTP: whose request it is, and from which address."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from softstate.auth.authority import RulesAuthority
from softstate.auth.policy_file import read_policy
from softstate.auth.presented import Presented, Vouched
from tests.kit.fake_node import FakeNode, Peer
from tests.kit.static_tokens import CI, static
from tests.server.http.conftest import U1
from tests.server.http.test_upgrade import handshake

PROXY = f"""
[auth.proxy]
trusted = ["10.0.0.1"]
subject_header = "Softstate-Subject"
grants_header = "Softstate-Grants"
{static("ci", CI, read=["builds/"])}[[allow]]
who = "signed-in"
read = ["users/{{sub}}/"]
[[allow]]
who = "anyone"
read = ["public/"]
"""
SIGNED_IN = {"Authorization": f"Bearer {CI}"}


def behind_proxy(content: str = PROXY) -> FakeNode:
    return FakeNode(authority=RulesAuthority(read_policy(content, "auth.toml").policy))


@pytest.mark.parametrize(
    ("peer", "headers", "subject", "why"),
    [
        ("10.0.0.1:5", {"Softstate-Subject": "u1"}, "u1", None),
        ("10.0.0.1:5", {"Softstate-Subject": "zoë".encode().decode("latin-1")}, "zoë", None),
        ("10.0.0.1:5", {"Softstate-Subject": "u1", **SIGNED_IN}, "ci", None),
        ("10.0.0.1:5", {"Softstate-Subject": "u1", "Softstate-Grants": "{}"}, "u1", None),
        ("10.0.0.1:5", {}, "", None),
        ("10.0.0.2:5", {}, "", None),
        ("10.0.0.2:5", SIGNED_IN, "ci", None),
        ("10.0.0.2:5", {"Softstate-Subject": "u1"}, None, "untrusted"),
        ("10.0.0.2:5", {"Softstate-Subject": "u1", **SIGNED_IN}, None, "untrusted"),
        ("10.0.0.2:5", {"Softstate-Grants": "{}"}, None, "untrusted"),
        ("peer", {"Softstate-Subject": "u1", "X-Forwarded-For": "10.0.0.1"}, None, "untrusted"),
        ("10.0.0.1:5", {"Softstate-Grants": "{}"}, None, "malformed"),
        ("10.0.0.1:5", {"Softstate-Subject": "zoë"}, None, "malformed"),
        ("10.0.0.1:5", {"Softstate-Subject": ""}, None, "malformed"),
        ("10.0.0.1:5", {"Softstate-Subject": "u1", "Softstate-Grants": "x"}, None, "malformed"),
        ("10.0.0.1:5", {"Softstate-Subject": "u1", "Authorization": "Bearer bad"}, None, "malformed"),
    ],
)
async def test_a_proxy_that_is_trusted_may_say_who_a_request_is_from(
    peer: str, headers: dict[str, str], subject: str | None, why: str | None
) -> None:
    node = behind_proxy()
    node.peer_name = peer
    answer = await node.ask("GET", "/v1/whoami", None, **headers)
    assert answer.status == (401 if why else 200)
    assert answer.json.get("why") == why
    assert answer.json.get("subject") == subject


async def test_a_header_from_elsewhere_is_refused_with_the_name_of_the_setting() -> None:
    answer = await behind_proxy().ask("GET", "/v1/topics/public/x", None, Softstate_Subject="u1")
    assert answer.json["message"] == (
        "peer may not say who a request is from: leave out the header softstate-subject, or name that address in"
        " 'trusted' of [auth.proxy]"
    )


@pytest.mark.parametrize(("peer", "status"), [("10.0.0.1:5", 101), ("10.0.0.2:5", 401)])
async def test_a_handshake_may_come_with_the_header_of_a_proxy(nursery: trio.Nursery, peer: str, status: int) -> None:
    node = behind_proxy()
    node.peer_name = peer
    request = handshake(Softstate_Subject="u1", X_Forwarded_For="192.0.2.1")
    if status == 401:
        (answer,) = await node.exchange(request)
        assert (answer.status, answer.json["why"]) == (401, "untrusted")
        return
    await Peer(node, nursery).send(request)
    ((shaken, _),) = node.upgrades
    assert shaken.presented == Presented(Vouched("u1", None, "10.0.0.1"), "192.0.2.1")


async def test_the_log_tells_the_address_of_the_client_and_not_that_of_its_proxy() -> None:
    node = behind_proxy()
    node.peer_name = "10.0.0.1:5"
    with capture_logs() as lines:
        await node.ask("GET", "/v1/topics/x", None, X_Forwarded_For="1.1.1.1, 192.0.2.1")
        await node.ask("GET", "/v1/topics/x", None, X_Forwarded_For="192.0.2.1", Authorization="Bearer bad")
        await node.ask("GET", "/v1/topics/x", None, X_Forwarded_For="192.0.2.2", Authorization="Basic bad")
        node.peer_name = "10.0.0.2:5"
        await node.ask("PUT", "/v1/topics/x", 1, X_Forwarded_For="192.0.2.1", **SIGNED_IN)
    assert [line["peer"] for line in lines] == ["192.0.2.1", "192.0.2.1", "10.0.0.2"]


async def test_a_node_without_a_proxy_takes_no_notice_of_its_headers(node: FakeNode) -> None:
    answer = await node.ask("GET", "/v1/whoami", None, Softstate_Subject="root", **U1)
    assert answer.json["subject"] == "u1"
