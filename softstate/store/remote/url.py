"""Reading the URL of a remote store: hosts, credentials and options, with the password out of sight.

A password may stand in the URL, where process lists and shell histories show it, or better in a file
(``?password_file=/run/secrets/x``) or an environment variable (``?password_env=NAME``). `StoreUrl.name` is shown in
logs, `softstate status` and error messages; it never holds the password.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from softstate.errors import ConfigError

TLS_OPTIONS = ("cacert", "cert", "key")
"""Options that name files for TLS: the authority to trust, and this client's certificate and key; see `tls_context`."""

NAMESPACE = "softstate"
"""Default for the option that sets apart several stores in one server: a key prefix, or a schema."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL, taken apart. `hosts` has at least one; `path` is without its leading slash."""

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


def read_url(url: str, *, port: int, options: Collection[str]) -> StoreUrl:
    """Take apart ``scheme://user:password@host:port,host:port/path?option=value``.

    `port` is the default, `options` the names that may stand behind the question mark, beside ``password_file`` and
    ``password_env``. Raises `ConfigError` that names what is wrong, and never holds the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        # The text of a URL that cannot be taken apart may hold a password anywhere.
        raise ConfigError(f"store {url.partition(':')[0]}://…: the URL cannot be read: {error}") from None
    userinfo, _, authority = parts.netloc.rpartition("@")
    user, colon, password = userinfo.partition(":")
    name = f"{parts.scheme}://{user + '@' if user else ''}{authority}{parts.path}"
    given = _options(parts, name, {*options, "password_file", "password_env"})
    secret = unquote(password) if colon else None
    return StoreUrl(
        parts.scheme,
        tuple(_host(text, port, name) for text in authority.split(",")),
        unquote(parts.path.removeprefix("/")),
        unquote(user) or None,
        _password(secret, given, name),
        {option: value for option, value in given.items() if option not in ("password_file", "password_env")},
        name,
    )


def _options(parts: SplitResult, name: str, known: Collection[str]) -> dict[str, str]:
    if parts.fragment:
        raise ConfigError(f"store {name}: '#' must be written %23")
    found: dict[str, str] = {}
    for option, value in parse_qsl(parts.query, keep_blank_values=True):
        if option not in known:
            raise ConfigError(f"store {name}: unknown option {option!r}; there are {', '.join(sorted(known))}")
        if option in found:
            raise ConfigError(f"store {name}: option {option!r} is given twice")
        found[option] = value
    return found


def _host(text: str, port: int, name: str) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, digits = text, str(port)
    if host.startswith("["):
        host = _ipv6(host, name)
    elif ":" in host:
        raise ConfigError(f"store {name}: write the IPv6 address of {text!r} in brackets, such as [::1]:{port}")
    if not host or not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 65_536:
        raise ConfigError(f"store {name}: {text!r} is not HOST or HOST:PORT")
    return host, int(digits)


def _ipv6(text: str, name: str) -> str:
    try:
        IPv6Address(text[1:-1] if text.endswith("]") else text)
    except AddressValueError:
        raise ConfigError(f"store {name}: {text!r} is no IPv6 address in brackets") from None
    return text[1:-1]


def _password(given: str | None, options: Mapping[str, str], name: str) -> str | None:
    sources = [option for option in ("password_file", "password_env") if option in options]
    if len(sources) + (given is not None) > 1:
        raise ConfigError(f"store {name}: give the password once: in the URL, as password_file or as password_env")
    if "password_file" in options:
        path = options["password_file"]
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"store {name}: password_file {path!r} cannot be read: {error}") from None
    if "password_env" in options:
        variable = options["password_env"]
        if variable not in os.environ:
            raise ConfigError(f"store {name}: password_env names {variable!r}, which is not set")
        return os.environ[variable]
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
