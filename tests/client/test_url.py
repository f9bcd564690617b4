import pytest

from softstate.client.url import parse_url
from softstate.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("ws://127.0.0.1:8700", "ws://127.0.0.1:8700"),
        ("http://node", "ws://node:8700"),
        ("ws://Node/", "ws://node:8700"),
        ("wss://node", "wss://node:443"),
        ("https://node:8443", "wss://node:8443"),
        ("ws://[::1]", "ws://[::1]:8700"),
        ("ws://node/soft/state/", "ws://node:8700/soft/state"),
        ("ws://node/a%20b/c d", "ws://node:8700/a%20b/c%20d"),
        ("ws://bücher.example", "ws://xn--bcher-kva.example:8700"),
        ("unix:/run/a%20b.sock", "unix:/run/a%20b.sock"),
    ],
)
def test_urls_have_one_normal_form(text: str, normal: str) -> None:
    url = parse_url(text)
    assert str(url) == normal
    assert parse_url(normal) == url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("localhost:8700", "must begin with ws://"),
        ("", "must begin with ws://"),
        ("ftp://node", "must begin with ws://"),
        ("ws://", "must name a host"),
        ("ws://:8700", "must name a host"),
        ("ws://node:0", "port above 0"),
        ("ws://node:70000", "not a node's URL"),
        ("ws://node:x", "not a node's URL"),
        ("ws://a..b", "not a node's URL"),
        ("ws://[::1", "not a node's URL"),
        ("ws://user:secret@node", "credentials"),
        ("ws://node?x=1", "query"),
        ("ws://node#x", "fragment"),
        ("ws://node/v1/ws", "base URL"),
        ("ws://node/v1", "base URL"),
        ("unix:", "must name a file"),
        ("unix:/" + "x" * 200, "at most 107 bytes"),
    ],
)
def test_a_wrong_url_is_refused_with_its_reason(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)


def test_parts_of_requests() -> None:
    url = parse_url("wss://[::1]:9000/prefix")
    assert (url.host, url.port, url.tls) == ("::1", 9000, True)
    assert url.authority == "[::1]:9000"
    assert url.target("/v1/poll") == "/prefix/v1/poll"


@pytest.mark.parametrize("text", ["ws://a b", "ws://a\x00b", "ws://[v1.x y]", "ws://a\x7fb", "ws://node/\udcff"])
def test_what_no_request_could_carry_is_refused(text: str) -> None:
    """Found by fuzzing: it failed, with a traceback, when the first request was made."""
    with pytest.raises(ConfigError):
        parse_url(text)
