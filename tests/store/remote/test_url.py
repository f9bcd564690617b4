"""URLs of remote stores: hosts, options, and a password that is never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from softstate.errors import ConfigError
from softstate.store.remote.url import StoreUrl, read_url

SECRET = "hush/@:?#"


def read(url: str) -> StoreUrl:
    return read_url(url, port=99, options=("size", "mode"))


def test_parts() -> None:
    url = read("x://us%40er:p%2Fw@h1,h2:7,[::1],[::2]:8/some/path?size=2.5&mode=")
    assert url.scheme == "x"
    assert url.hosts == (("h1", 99), ("h2", 7), ("::1", 99), ("::2", 8))
    assert (url.user, url.password, url.path) == ("us@er", "p/w", "some/path")
    assert url.options == {"size": "2.5", "mode": ""}
    assert url.name == "x://us%40er@h1,h2:7,[::1],[::2]:8/some/path"


def test_a_name_is_looked_up_in_ascii() -> None:
    url = read("x://bücher.example,a_b,xn--tda.")
    assert url.hosts == (("xn--bcher-kva.example", 99), ("a_b", 99), ("xn--tda.", 99))
    assert url.name == "x://bücher.example,a_b,xn--tda.", "and shown as it was given"


def test_a_host_that_is_a_folder() -> None:
    url = read_url(f"x://%2Frun%2F{'f' * 70}:7,%40abstract,h", port=99, options=(), folders=True)
    assert url.hosts == ((f"/run/{'f' * 70}", 7), ("@abstract", 99), ("h", 99))


def test_little_is_needed() -> None:
    url = read("x://h")
    assert (url.hosts, url.user, url.password, url.path, url.options) == ((("h", 99),), None, None, "", {})
    assert read("x://:pw@h").user is None
    assert read("x://:pw@h").password == "pw"
    assert read("x://u@h").password is None
    assert read("x://u:@h").password == "", "an empty password is one"


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ("", "'' is not HOST"),
        (":7", "':7' is not HOST"),
        ("h:", "'h:' is not HOST"),
        ("h:0", "'h:0' is not HOST"),
        ("h:65536", "is not HOST"),
        ("h:x", "is not HOST"),
        ("h:-1", "is not HOST"),
        ("h:٣", "is not HOST"),
        ("a,,b", "'' is not HOST"),
        ("h/p#x", "%23"),
        ("h/?what=1", "unknown option 'what'; there are mode, password_env, password_file, size"),
        ("h/?size=1&size=2", "option 'size' is given twice"),
        ("h/?password_env=NOT_SET_ANYWHERE", "'NOT_SET_ANYWHERE', which is not set"),
        ("h:" + "1" * 5_000, "is not HOST"),
        ("a..b", "host 'a..b' is no name or address"),
        ("h,ü..x:1", "host 'ü..x' is no name or address"),
        (".", "host '.' is no name or address"),
        ("x" * 64, "is no name or address"),
        ("a b", "host 'a b' is no name or address"),
        ("a\0b", r"host 'a\x00b' is no name or address"),
        ("\udcff", r"host '\udcff' is no name or address"),
        ("%2Ftmp", "host '%2Ftmp' is no name or address"),
        ("[::1%ü]", "is no IPv6 address in brackets"),
        ("[::1%\0]", "is no IPv6 address in brackets"),
        ("%00@h", "the user must not hold a NUL"),
        ("\udcff@h", "the user must be valid Unicode"),
        ("u:%00@h", "the password must not hold a NUL"),
        ("u:\ud800@h", "the password must be valid Unicode"),
        ("h/%00", "the path must not hold a NUL"),
        ("h/\udcff", "the path must be valid Unicode"),
        ("h/?mode=%00", "mode must not hold a NUL"),
        ("h/?mode=\udcff", "mode must be valid Unicode"),
        ("h/?password_file=%00", r"password_file '\x00' can be no file's name"),
        ("h/?password_file=\ud800", r"password_file '\ud800' can be no file's name"),
        ("h/?password_env=%00", "password_env must not hold a NUL"),
        ("h/?password_file=/nowhere/at/all", "cannot be read"),
        ("h/?password_file=a&password_env=b", "give the password once"),
    ],
)
def test_what_is_wrong_is_named(rest: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        read(f"x://{rest}")
    assert complaint in str(wrong.value)


@pytest.mark.parametrize(
    "rest",
    [
        "h:x",
        "h/?what=1",
        "h/?password_env=HOME",
        "h:1,",
        "h/#x",
        "℀",
        "a..b",
        "h/%00",
        "[::1",
        "[zz]",
        "%00@h",
        "\ud800@h",
    ],
)
def test_no_message_holds_the_password(rest: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        read(f"x://user:hush@{rest}")
    error: BaseException | None = wrong.value
    while error is not None:
        assert "hush" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "password",
    [
        "hu/sh", "hu#sh", "hu?sh", "12/hush", "12#hush", "12?hush", "12?size=hush", "/hush", "?hush", "#hush", "hush#",
        "hush/", "hush?", "hu@sh/hush", "hu@h/hush", "hu@h?hush", "hu@h?size=hush&size=1",
        "hu@h:7#hush", "[hush/", "hu/sh@sh",
    ],
)  # fmt: skip
@pytest.mark.parametrize("user", ["user", ""])
def test_a_password_that_is_not_escaped_is_not_shown(user: str, password: str) -> None:
    """None of it, and nothing of the URL: it is not known which part that is."""
    with pytest.raises(ConfigError, match=r"x://…: the URL cannot be (read|used)") as wrong:
        read(f"x://{user}:{password}@quiet/path?what=1")
    error: BaseException | None = wrong.value
    while error is not None:
        for part in ("hu", "sh", "12", "quiet"):
            assert part not in f"{error} {error!r}".replace("is not shown", "").replace("such as", "")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize("hosts", ["h", "u@h", "u:p@h"])
def test_an_option_may_hold_an_at_sign(hosts: str) -> None:
    assert read(f"x://{hosts}?mode=a@b").options == {"mode": "a@b"}
    assert read(f"x://{hosts}:7?mode=a%40b").options == {"mode": "a@b"}


def test_password_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\r\n")
    url = read(f"x://u@h?password_file={path}")
    assert url.password == SECRET
    assert url.options == {}
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"the password in '.*' must be valid Unicode"):
        read(f"x://u@h?password_file={path}")
    path.write_text("hush\0")
    with pytest.raises(ConfigError, match=r"the password in '.*' must not hold a NUL") as wrong:
        read(f"x://u@h?password_file={path}")
    assert "hush" not in str(wrong.value)
    other = tmp_path / os.fsdecode(b"\xff")
    other.write_text(SECRET)
    assert read(f"x://u@h?password_file={other}").password == SECRET, "a file's name may be of any bytes"


def test_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", SECRET)
    url = read("x://u@h?password_env=SOME_SECRET")
    assert url.password == SECRET
    assert SECRET not in f"{url} {url!r} {url.name}"
    monkeypatch.setenv("SOME_SECRET", os.fsdecode(b"hush\xff"))
    with pytest.raises(ConfigError, match="the password in SOME_SECRET must be valid Unicode") as wrong:
        read("x://u@h?password_env=SOME_SECRET")
    assert "hush" not in str(wrong.value)


def test_numbers() -> None:
    url = read("x://h?size=2.5&mode=x")
    assert url.number("size", 1.0) == 2.5
    assert url.number("other", 1.0) == 1.0
    with pytest.raises(ConfigError, match="mode must be a number of at least 0, not 'x'"):
        url.number("mode", 1.0)
    with pytest.raises(ConfigError, match="size must be a number of at least 3"):
        url.number("size", 4.0, least=3.0)
    for text in ("inf", "nan", "-1"):
        with pytest.raises(ConfigError):
            read(f"x://h?size={text}").number("size", 1.0)
