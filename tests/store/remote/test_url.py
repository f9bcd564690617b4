"""URLs of remote stores: hosts, options, and a password that is never shown."""

from __future__ import annotations

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
        ("h/?password_file=/nowhere/at/all", "cannot be read"),
        ("h/?password_file=a&password_env=b", "give the password once"),
    ],
)
def test_what_is_wrong_is_named(rest: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        read(f"x://{rest}")
    assert complaint in str(wrong.value)


@pytest.mark.parametrize("rest", ["h:x", "h/?what=1", "h/?password_env=HOME", "h:1,", "h/#x"])
def test_no_message_holds_the_password(rest: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        read(f"x://user:hush@{rest}")
    error: BaseException | None = wrong.value
    while error is not None:
        assert "hush" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


def test_password_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\r\n")
    url = read(f"x://u@h?password_file={path}")
    assert url.password == SECRET
    assert url.options == {}
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(f"x://u@h?password_file={path}")


def test_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", SECRET)
    url = read("x://u@h?password_env=SOME_SECRET")
    assert url.password == SECRET
    assert SECRET not in f"{url} {url!r} {url.name}"


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
