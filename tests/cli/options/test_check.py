"""`softstate serve --check` refuses what `serve` would refuse, by name, and leaves everything as it was."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from softstate.cli import COMMANDS, run
from softstate.cli.commands.store import COMMANDS as STORE_COMMANDS
from softstate.cli.options.layers import PREFIX
from softstate.errors import ConfigError
from softstate.store import check_url
from tests.kit.certificates import Authority


@pytest.fixture(autouse=True)
def a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `softstate serve --check …` on any free port; return the exit code and what was printed."""

    def checked(*words: str) -> tuple[int, str]:
        listen = [] if "--listen" in words else ["--listen", "127.0.0.1:0"]
        code = run(["serve", "--check", *listen, *words])
        output = capsys.readouterr()
        assert (output.out + output.err).count("\n") == 1
        return code, output.err if code else output.out

    return checked


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://x", "is none of sqlite:PATH"),
        ("bogus", "is none of sqlite:PATH"),
        ("", "is none of sqlite:PATH"),
        ("sqlite:", "is none of sqlite:PATH"),
        ("SQLITE:a", "is none of sqlite:PATH"),
        ("memory:x", "is none of sqlite:PATH"),
        ("redis:h", "is none of sqlite:PATH"),
        ("mysql://user:secret@h", "is none of sqlite:PATH"),
        ("redis://h:99999", "'h:99999' is not HOST or HOST:PORT"),
        ("redis://h:0", "'h:0' is not HOST or HOST:PORT"),
        ("redis://h:x", "'h:x' is not HOST or HOST:PORT"),
        ("etcd://a:1,b:99999", "'b:99999' is not HOST or HOST:PORT"),
        ("postgresql://h:65536/x", "'h:65536' is not HOST or HOST:PORT"),
        ("redis://h?nonsense=1", "unknown option 'nonsense'"),
        ("postgresql://h/x?nonsense=1", "unknown option 'nonsense'"),
        ("etcd://h?nonsense=1", "unknown option 'nonsense'"),
        ("etcd://h?namespace=a&namespace=b", "'namespace' is given twice"),
        ("sqlite:a.db?nonsense=1", "sqlite takes no options"),
        ("redis://[::1", "the URL cannot be read"),
        ("redis://user:secret@[::1", "the URL cannot be read"),
        ("redis://[zz]:1", "the URL cannot be read"),
        ("etcd://[::1]:1,[::zz]:2", ""),
        ("redis://::1:6379", "in brackets"),
        ("redis://h/x", "the number of a database"),
        ("redis://h?password_file=/none", "cannot be read"),
        ("redis://h?password_file=%00", "password_file"),
        ("redis://u:secret@a..b", "host 'a..b'"),
        ("etcd://a..b:1", "host 'a..b'"),
        ("etcd://h,ü..x:1", "host 'ü..x'"),
        ("etcds://h?cacert=/none", "cacert '/none' cannot be used"),
        ("etcd://h?cacert=/none", "cacert need TLS"),
        ("postgresql://h/%00", "the path must not hold a NUL"),
        ("redis://user:secret@℀", "the URL cannot be read"),
        ("rediss://h?cacert=/none", "cacert '/none' cannot be used"),
        ("sqlite:/nonexistent/x.db", "there is no directory /nonexistent"),
        ("sqlite:.", "is a directory"),
    ],
)
def test_a_store_that_cannot_be_opened_is_refused(url: str, words: str, check: Callable[..., tuple[int, str]]) -> None:
    code, text = check("--store", url)
    assert code == 2
    assert words in text
    assert "secret" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:a.db",
        "sqlite:what?.db",
        "memory:",
        "redis://h",
        "redis://u:p@[::1]:6379/2?namespace=x",
        "etcd://a,b:2,[::1]:3",
        "postgresql://u@h:5432/db?schema=s",
        "postgres://%2Frun%2Fpg/db",
    ],
)
def test_good_stores_are_valid(url: str, check: Callable[..., tuple[int, str]]) -> None:
    check_url(url)
    code, text = check("--store", url)
    assert code == 0
    assert "is valid" in text


@pytest.mark.parametrize("url", ["mysql://x", "redis://[::1", "etcd://h?x=1"])
def test_serve_itself_refuses_the_same(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softstate.cli.commands.serve.configure_logging", lambda *_words, **_options: None)
    with pytest.raises(ConfigError):
        check_url(url)
    assert run(["serve", "--listen", "127.0.0.1:0", "--store", url]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_path_with_a_nul_in_a_file_of_options_is_refused(
    check: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "node.toml").write_text('store = "sqlite:a\\u0000b"\n')
    code, text = check("--config", "node.toml")
    assert code == 2
    assert "its file 'a" in text


def test_no_file_is_made(check: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    assert check("--store", "sqlite:node.db")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_opened_and_left_as_it_was(
    check: Callable[..., tuple[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["store", "create", "sqlite:node.db"]) == 0
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    revision = sqlite3.connect("node.db").execute("PRAGMA data_version").fetchone()
    assert check("--store", "sqlite:node.db")[0] == 0
    assert sqlite3.connect("node.db").execute("PRAGMA data_version").fetchone() == revision
    assert (tmp_path / "node.db").read_bytes() == before["node.db"]


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\0" + b"x" * 100])
def test_a_file_that_is_not_ours_is_refused(
    content: bytes, check: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = tmp_path / "foreign.db"
    path.write_bytes(content)
    code, _ = check("--store", f"sqlite:{path}")
    assert code == 2
    assert path.read_bytes() == content


def test_a_store_that_is_required_must_be_there(check: Callable[..., tuple[int, str]]) -> None:
    code, text = check("--require-store", "--store", "sqlite:node.db")
    assert code == 2
    assert "there is no file" in text
    assert check("--require-store", "--store", "memory:")[0] == 2


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_an_address_that_cannot_be_had_is_refused(taken: int, check: Callable[..., tuple[int, str]]) -> None:
    code, text = check("--listen", f"127.0.0.1:{taken}")
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{taken}" in text
    code, text = check("--listen", "192.0.2.1:0", "--allow-anonymous")
    assert code == 2
    assert "cannot listen on 192.0.2.1:0" in text


@pytest.mark.parametrize(
    "origin", ["*", "app.example", "http://app.example/path", "null", "", "http://app.example:99999"]
)
@pytest.mark.parametrize("way", ["flag", "environment", "file"])
def test_an_origin_that_matches_nothing_is_refused(
    origin: str, way: str, check: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = []
    if way == "flag":
        words = ["--origin", origin]
    elif way == "environment":
        if not origin:
            return
        monkeypatch.setenv("SOFTSTATE_ORIGIN", origin)
    else:
        (tmp_path / "node.toml").write_text(f'origin = ["http://good.example", "{origin}"]')
        words = ["--config", "node.toml"]
    code, text = check(*words)
    assert code == 2
    assert "origin must be the scheme, host and port of a web page" in text


def test_origins_and_hosts_are_valid_in_any_spelling(check: Callable[..., tuple[int, str]]) -> None:
    words = [
        "--origin",
        "http://App.example:80/",
        "--origin",
        "https://b.example:443",
        "--allow-host",
        "Node1.",
        "--allow-host",
        "n2",
    ]
    assert check(*words)[0] == 0
    assert check("--allow-host", "*")[0] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"*" = 5', "unknown key '*' in node.toml, line 1"),
        ('# first\n\nstore = "memory:"\n"*" = 5\n', "unknown key '*' in node.toml, line 4"),
        ('ttl = "60s"\ntttl = "1s"', "unknown key 'tttl' in node.toml, line 2; did you mean ttl?"),
        ("[options]\nx = 1", "unknown key 'options' in node.toml, line 1"),
        ("advanced = 1", "unknown key 'advanced' in node.toml, line 1"),
        ('"--ttl" = "60s"', "unknown key '--ttl' in node.toml, line 1"),
        ('"" = 5', "unknown key '' in node.toml, line 1"),
        ("x.y = 5", "unknown key 'x' in node.toml, line 1"),
        ("\n\n[ttl]\nseconds = 3", "ttl in node.toml, line 3 must be text"),
        ('\nttl = ["1s", "2s"]', "ttl in node.toml, line 2 takes one value"),
        ('\n\npending_max = "many"', "node.toml, line 3"),
        ("allow_hosts = []", "did you mean allow_host?"),
    ],
)
def test_a_key_that_is_no_option_is_refused_by_its_line(
    text: str, words: str, check: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "node.toml").write_text(text)
    code, said = check("--config", "node.toml")
    assert code == 2
    assert words in said


def test_a_file_may_begin_with_a_byte_order_mark(check: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('\ufeffstore = "memory:"', "utf-8")
    assert "store memory:" in check("--config", "node.toml")[1]


def test_the_variable_of_no_option_is_refused(
    check: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTSTATE_*", "5")
    code, text = check()
    assert code == 2
    assert "unknown environment variable SOFTSTATE_*" in text


def test_an_unknown_command_is_answered_with_all_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for words, commands in ((["frob"], COMMANDS), (["store", "frob"], STORE_COMMANDS)):
        assert run(words) == 2
        err = capsys.readouterr().err
        assert f"Available commands: {', '.join(commands)} (see: softstate" in err


def test_a_file_without_an_end_is_no_configuration(check: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, text = check("--config", "/dev/zero")
    assert code == 2
    assert "/dev/zero is longer than 1000000 characters: name a configuration file" in text
    (tmp_path / "node.toml").write_text("#" * 999_999 + "\n")
    assert check("--config", "node.toml")[0] == 0


def test_check_tells_of_the_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    words = ["serve", "--check", "--listen", "127.0.0.1:0", "--store", "memory:"]
    for days, end in ((40, "ends in 40.0 days\n"), (5, "ends in 5.0 days: renew it\n")):
        pair = authority.node(days=(-1, days + 0.01))
        assert run([*words, "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]) == 0
        output = capsys.readouterr().out
        assert "for localhost, 127.0.0.1, node.example" in output
        assert output.endswith(end)
    assert run([*words, "--tls-cert", str(pair.cert)]) == 2
    assert "--tls-key" in capsys.readouterr().err


def test_check_leaves_no_unix_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve", "--check", "--listen", f"unix:{tmp_path}/s", "--store", "memory:"]
    assert run(words) == 0
    assert f"listen unix:{tmp_path}/s," in capsys.readouterr().out
    assert not (tmp_path / "s").exists()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    assert run(words) == 0
    assert (tmp_path / "s").is_socket(), "one that a node has left stays"
    (tmp_path / "s").unlink()
    (tmp_path / "s").write_text("")
    assert run(words) == 2
    assert "no socket" in capsys.readouterr().err
