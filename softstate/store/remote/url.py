"""Reading the URL of a remote store: hosts, credentials and options, with the password out of sight.

A password may stand in the URL, where process lists and shell histories show it, or better in a file
(``?password_file=/run/secrets/x``) or an environment variable (``?password_env=NAME``). `StoreUrl.name` is shown in
logs, `softstate status` and error messages; it never holds the password.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from softstate.errors import ConfigError

TLS_OPTIONS = ("cacert", "cert", "key")
"""Options that name files for TLS: the authority to trust, and this client's certificate and key; see `tls_context`."""

PORT_MAX = 65_535

FILES = ("password_file", *TLS_OPTIONS)
"""Options that name files, whose names may be of any bytes but NUL."""

_HOST_FORM = re.compile(r"[A-Za-z0-9._-]+")
"""A name as it is looked up, or an IPv4 address. No host has an underscore, but names in private networks do."""

NAMESPACE = "softstate"
"""Default for the option that sets apart several stores in one server: a key prefix, or a schema."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL, taken apart. `hosts` has at least one, in ASCII; `path` is without its leading slash.

    Text of it is valid Unicode without NUL.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    path: str
    user: str | None
    password: str | None = field(repr=False)
    options: Mapping[str, str]
    name: str

    def number(self, option: str, default: float, *, least: float = 0.0) -> float:
        """Return a numeric option. Raises `ConfigError`, naming it."""
        text = self.options.get(option)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value < float("inf"):
            raise ConfigError(f"store {self.name}: {option} must be a number of at least {least:g}, not {text!r}")
        return value


def read_url(url: str, *, port: int, options: Collection[str], folders: bool = False) -> StoreUrl:
    """Take apart ``scheme://user:password@host:port,host:port/path?option=value``.

    `port` is the default, `options` the names that may stand behind the question mark, beside ``password_file`` and
    ``password_env``. With `folders` a host may be the folder of a Unix socket, percent-encoded. Raises `ConfigError`
    that names what is wrong, and never holds the password.
    """
    parts: SplitResult | None = None
    with suppress(ValueError):
        parts = urlsplit(url)
    # The URL may hold a password anywhere, and so may the text of that error, which is no context of these.
    scheme = url.partition(":")[0]
    if parts is None:
        raise ConfigError(
            f"store {scheme}://…: the URL cannot be read: write the IPv6 address of a host in brackets,"
            " such as [::1], and other characters than letters, digits, '.', '-' and '_' percent-encoded"
        )
    if _hides_a_password(parts):
        raise ConfigError(
            f"store {scheme}://…: the URL cannot be read: in a password '/' must be written %2F, '?' %3F, '#' %23, '%'"
            " %25 and '@' %40, and behind the hosts '@' %40 and '#' %23"
        )
    try:
        return _store_url(parts, port=port, options=options, folders=folders)
    except ConfigError:
        if "@" not in parts.query:
            raise
    raise ConfigError(
        f"store {scheme}://…: the URL cannot be used, and is not shown, since an '@' behind the hosts may end a"
        " password: write that one %40 to see what is wrong"
    )


def _hides_a_password(parts: SplitResult) -> bool:
    """Tell whether a password may go on behind what seems to be the hosts: one with '/', '?' or '#' in it.

    An option may hold an '@', such as the name of a file, if what stands before it is no user and password.
    """
    behind = "@" in parts.path or bool(parts.fragment)
    return behind or ("@" in parts.query and ":" in parts.netloc and "@" not in parts.netloc)


def _store_url(parts: SplitResult, *, port: int, options: Collection[str], folders: bool) -> StoreUrl:
    userinfo, _, authority = parts.netloc.rpartition("@")
    user, colon, password = userinfo.partition(":")
    name = f"{parts.scheme}://{user + '@' if user else ''}{authority}{parts.path}"
    given = _options(parts, name, {*options, "password_file", "password_env"})
    secret = _checked(unquote(password), "the password", name) if colon else None
    return StoreUrl(
        parts.scheme,
        tuple(_host(text, port, name, folders=folders) for text in authority.split(",")),
        _checked(unquote(parts.path.removeprefix("/")), "the path", name),
        _checked(unquote(user), "the user", name) or None,
        _password(secret, given, name),
        {option: value for option, value in given.items() if option not in ("password_file", "password_env")},
        name,
    )


def _options(parts: SplitResult, name: str, known: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for option, value in parse_qsl(parts.query, keep_blank_values=True):
        if option not in known:
            raise ConfigError(f"store {name}: unknown option {option!r}; there are {', '.join(sorted(known))}")
        if option in found:
            raise ConfigError(f"store {name}: option {option!r} is given twice")
        found[option] = check_path(value, option, name) if option in FILES else _checked(value, option, name)
    return found


def _checked(text: str, part: str, name: str) -> str:
    """Return a part of a URL, which is not shown. Raises `ConfigError` if no engine can take it."""
    if "\0" in text:
        raise ConfigError(f"store {name}: {part} must not hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"store {name}: {part} must be valid Unicode, in UTF-8")
    return text


def check_path(path: str, part: str, name: str) -> str:
    """Return the path of a file. Raises `ConfigError`, naming `part` of store `name`, if no file can have that path."""
    try:
        fits = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise ConfigError(
            f"store {name}: {part} {path!r} can be no file's name: it must be text without NUL characters"
        )
    return path


def _host(text: str, port: int, name: str, *, folders: bool) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, digits = text, str(port)
    if not host or re.fullmatch(r"[0-9]{1,5}", digits) is None or not 0 < int(digits) <= PORT_MAX:
        raise ConfigError(f"store {name}: {text!r} is not HOST or HOST:PORT")
    if host.startswith("["):
        return _ipv6(host, name), int(digits)
    if ":" in host:
        raise ConfigError(f"store {name}: write the IPv6 address of {text!r} in brackets, such as [::1]:{port}")
    folder = unquote(host)
    if folders and folder.startswith(("/", "@")) and "," not in folder:
        return check_path(_checked(folder, "the host", name), "the host", name), int(digits)
    try:
        found = (folder if folders else host).encode("idna").decode("ascii")
    except UnicodeError:
        found = ""
    if not _HOST_FORM.fullmatch(found):
        raise ConfigError(
            f"store {name}: host {host!r} is no name or address: a name is letters, digits, '.', '-' and '_', 1 to 63"
            " between two '.'"
        )
    return found, int(digits)


def _ipv6(text: str, name: str) -> str:
    try:
        IPv6Address(text[1:-1] if text.endswith("]") else text)
    except AddressValueError:
        found = False
    else:
        # The zone of a link-local address may be any text to Python.
        found = text.isascii() and text.isprintable()
    if not found:
        raise ConfigError(f"store {name}: {text!r} is no IPv6 address in brackets")
    return text[1:-1]


def _password(given: str | None, options: Mapping[str, str], name: str) -> str | None:
    sources = [option for option in ("password_file", "password_env") if option in options]
    if len(sources) + (given is not None) > 1:
        raise ConfigError(f"store {name}: give the password once: in the URL, as password_file or as password_env")
    if "password_file" in options:
        path = options["password_file"]
        try:
            # Bytes that are not UTF-8 are refused below: the error of decoding them would hold the password.
            text = Path(path).read_text(encoding="utf-8", errors="surrogateescape").rstrip("\r\n")
        except OSError as error:
            raise ConfigError(f"store {name}: password_file {path!r} cannot be read: {error}") from None
        return _checked(text, f"the password in {path!r}", name)
    if "password_env" in options:
        variable = options["password_env"]
        if variable not in os.environ:
            raise ConfigError(f"store {name}: password_env names {variable!r}, which is not set")
        return _checked(os.environ[variable], f"the password in {variable}", name)
    return given


def tls_context(url: StoreUrl, scheme: str) -> ssl.SSLContext | None:
    """Return the TLS settings of connections if the URL's scheme is the one that asks for TLS, else None.

    The server's certificate and name are checked, against the authority in ``cacert`` or those of the system; ``cert``
    and ``key`` are this client's. Raises `ConfigError`, naming the option.
    """
    given = {option: url.options[option] for option in TLS_OPTIONS if option in url.options}
    if url.scheme != scheme:
        if given:
            raise ConfigError(f"store {url.name}: {', '.join(given)} need TLS: write {scheme}://")
        return None
    if "key" in given and "cert" not in given:
        raise ConfigError(f"store {url.name}: key is given without cert, the certificate that it belongs to")
    option = "cacert"
    try:
        context = ssl.create_default_context(cafile=given.get("cacert"))
        if "cert" in given:
            option = "cert"
            # Without a password it would ask for one at the terminal.
            context.load_cert_chain(given["cert"], given.get("key"), password="")
    except OSError as error:
        # ssl.SSLError is an OSError too: the file is there, but not what it should be.
        raise ConfigError(f"store {url.name}: {option} {given[option]!r} cannot be used: {error}") from None
    return context
