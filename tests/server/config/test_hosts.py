import pytest

from softstate.errors import ConfigError
from softstate.server.config import ServerConfig
from softstate.server.config.hosts import Host, host_of, origin_of


@pytest.mark.parametrize(
    ("text", "name", "port", "local"),
    [
        ("127.0.0.1", "127.0.0.1", None, True),
        ("127.0.0.1:8700", "127.0.0.1", 8700, True),
        ("10.1.2.3:", "10.1.2.3", None, True),
        ("[::1]", "[::1]", None, True),
        ("[::1]:8700", "[::1]", 8700, True),
        ("[0:0:0:0:0:0:0:1]", "[::1]", None, True),
        ("[::FFFF:0:1]:1", "[::ffff:0:1]", 1, True),
        ("[FE80::A]", "[fe80::a]", None, True),
        ("localhost", "localhost", None, True),
        ("LOCALHOST:8700", "localhost", 8700, True),
        ("localhost.", "localhost", None, True),
        ("app.localhost", "app.localhost", None, True),
        ("a.b.LocalHost.:80", "a.b.localhost", 80, True),
        ("softstate", "softstate", None, False),
        ("my_node.example:1", "my_node.example", 1, False),
        ("127.0.0.1.evil.example", "127.0.0.1.evil.example", None, False),
        ("127.evil.example", "127.evil.example", None, False),
        ("localhost.evil.example", "localhost.evil.example", None, False),
        ("evillocalhost", "evillocalhost", None, False),
        ("localhost-x", "localhost-x", None, False),
        ("0x7f.example", "0x7f.example", None, False),
    ],
)
def test_hosts_have_one_spelling(text: str, name: str, port: int | None, local: bool) -> None:
    host = host_of(text)
    assert host is not None
    assert (host.name, host.port, host.is_local) == (name, port, local)
    assert host_of(host.name) == Host(name, None, host.is_address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        ".",
        "..",
        ".localhost",
        "a..localhost",
        "localhost..",
        "127.1",
        "127.0.0.1.",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "127.0.0.01",
        "0177.0.0.1",
        "127.0.0.256",
        "1.2.3.4.5",
        "evil.0x7f",
        "::1",
        "::1:80",
        "[::1",
        "::1]",
        "[127.0.0.1]",
        "[]",
        "[::1]x",
        "[::1%lo]",
        "[::1%25lo]",
        "[::1%evil.example]",
        "[v1.x]",
        "user@127.0.0.1",
        "127.0.0.1@evil.example",
        "localhost:80:80",
        "localhost:65536",
        "localhost:8o",
        "localhost:-1",
        "localhost:+1",
        "a b",
        "a/b",
        "a,b",
        "a\tb",
        "http://localhost",
        "localhost/",
        "localhost#",
        "-a",
        "a-",
        "*",
        "*.localhost",
        "\xe9",
        "lo\u0441alhost",
        "\uff11\uff12\uff17.0.0.1",
        "a" * 64,
        ".".join(["abcdefgh"] * 29),
    ],
)
def test_what_is_no_host(text: str) -> None:
    assert host_of(text) is None


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://app.example", "http://app.example"),
        ("http://app.example/", "http://app.example"),
        ("HTTP://App.Example", "http://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:080/", "http://app.example"),
        ("https://app.example:443/", "https://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("https://app.example:80", "https://app.example:80"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[0::1]:3000", "http://[::1]:3000"),
        (" http://app.example ", "http://app.example"),
        ("http://b\xfccher.example", "http://xn--bcher-kva.example"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
    ],
)
def test_origins_are_normalised(text: str, origin: str) -> None:
    assert ServerConfig(origins=(text,)).check().origins == (origin,)
    assert origin_of(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        "app.example",
        "*",
        "",
        "null",
        "http://",
        "http:///",
        "http://*",
        "http://*.example",
        "http://app.example/path",
        "http://app.example//",
        "http://app.example?x",
        "http://app.example/?x",
        "http://app.example#x",
        "//app.example",
        "http:app.example",
        "http://user@app.example",
        "http://app.example:99999",
        "http://app.example:http",
        "http://a.example,http://b.example",
        "http://a.example http://b.example",
        "http://127.1",
        "http://[::1",
        "\udcff",
        "http://\udcff.example",
    ],
)
def test_what_is_no_origin_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="origin must be the scheme, host and port of a web page, such as https"):
        ServerConfig(origins=("http://good.example", text)).check()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Softstate", "softstate"),
        ("node1.example.", "node1.example"),
        (" n ", "n"),
        ("b\xfccher.example", "xn--bcher-kva.example"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_allowed_hosts_are_normalised(text: str, name: str) -> None:
    assert ServerConfig(allow_host=(text,)).check().allow_host == (name,)


@pytest.mark.parametrize(
    "text", ["", "*", "*.example", "softstate:8700", "softstate:", "http://softstate", "a b", "127.1"]
)
def test_what_no_host_header_can_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="allow_host must be the name of a host alone, such as"):
        ServerConfig(allow_host=(text,)).check()


def test_a_checked_configuration_stays_as_it_is() -> None:
    config = ServerConfig(origins=("http://A.example/",), allow_host=("N.",)).check()
    assert config.check() == config
