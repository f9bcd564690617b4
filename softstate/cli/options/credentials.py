"""The options by which client commands present credentials (a token, or a file that holds one), and trust nodes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from softstate.cli.visible import visible
from softstate.errors import ConfigError
from softstate.wire.messages import TOKEN_CHARS_MAX

if TYPE_CHECKING:
    import ssl

    from softstate.client.tokens import TokenProvider, TokenRequest

VARIABLE = "SOFTSTATE_TOKEN"
CA_VARIABLE = "SOFTSTATE_TLS_CA"

PATIENT_ATTEMPTS = 2
"""A command that does not wait for another token has ended with the refusal by this call of its provider."""


@Parameter(name="*")
@dataclass(frozen=True)
class Presented:
    """Credentials, as a user gives them."""

    token: Annotated[
        str | None,
        Parameter(
            env_var=VARIABLE, metavar="TOKEN", help="Credentials. Others can read a command line: prefer --token-file."
        ),
    ] = field(default=None, repr=False)
    token_file: Annotated[
        Path | None, Parameter(metavar="FILE", help="A file with the token; it is read again before a token ends.")
    ] = None

    tls_ca: Annotated[
        Path | None,
        Parameter(
            env_var=CA_VARIABLE, metavar="FILE", help="Authorities (PEM) that nodes are trusted by, in the place of the"
            " system's.",
        ),
    ] = None  # fmt: skip
    tls_cert: Annotated[
        Path | None, Parameter(metavar="FILE", help="A certificate (PEM) to present to nodes that ask for one.")
    ] = None
    tls_key: Annotated[
        Path | None, Parameter(metavar="FILE", help="The key of --tls-cert (PEM); by default it is in the same file.")
    ] = None

    def tls(self, urls: Sequence[str]) -> ssl.SSLContext | None:
        """Return what `softstate.connect` takes as `tls` for these URLs. Raises `ConfigError`.

        An authority that the environment names is for all commands of a user: URLs without TLS do without it.
        """
        if self.tls_key is not None and self.tls_cert is None:
            raise ConfigError("--tls-key is of no use alone: name the certificate with --tls-cert FILE")
        if self.tls_ca is None and self.tls_cert is None:
            return None
        from softstate.client.url import parse_url  # noqa: PLC0415 - --help does without

        if not any(parse_url(url).tls for url in urls):
            if self.tls_cert is None and str(self.tls_ca) == os.environ.get(CA_VARIABLE):
                return None
            flag = "--tls-ca" if self.tls_cert is None else "--tls-cert"
            raise ConfigError(f"{flag} is of no use for URLs without TLS: begin one with wss:// or https://")
        import ssl  # noqa: PLC0415 - most commands do without

        what = f"--tls-ca {self.tls_ca}"
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert is not None:
                what = f"--tls-cert {self.tls_cert} with its key"
                context.load_cert_chain(self.tls_cert, self.tls_key, _no_passphrase)
        except ssl.SSLError as error:
            raise ConfigError(f"{what} cannot be used: it must be PEM, and a key must fit ({error})") from None
        except OSError as error:
            raise ConfigError(f"cannot read {what}: {error.strerror}") from None
        return context

    def for_client(self) -> str | TokenProvider | None:
        """Return what `softstate.connect` takes as `token`. Raises `ConfigError`."""
        if self.token_file is not None:
            if self.token is not None and self.token != os.environ.get(VARIABLE):
                raise ConfigError("--token and --token-file say two things: give one of them")
            read_token(self.token_file)
            return _provider(self.token_file)
        if self.token is not None and self.token != os.environ.get(VARIABLE):
            print(
                f"softstate: others can read --token in the list of processes: use --token-file or {VARIABLE}",
                file=sys.stderr,
            )
        return self.token


NO_CREDENTIALS = Presented()


def _no_passphrase() -> str:
    raise ConfigError("the key of --tls-cert is protected by a passphrase: give it without one")


def read_token(path: Path) -> str:
    """Return the token that the file of ``--token-file`` holds. Raises `ConfigError`."""
    return token_in(path, f"--token-file {path}")


def token_in(path: Path, name: str) -> str:
    """Return the token that a file holds. Raises `ConfigError`, which calls the file by a name."""
    try:
        with path.open("rb") as file:
            return token_of(file.read(2 * TOKEN_CHARS_MAX + 1), name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {name}: {getattr(error, 'strerror', error)}") from None


def token_of(data: bytes, name: str) -> str:
    """Return the one token that the data of a file hold. Raises `ConfigError`, which calls the file by a name."""
    from softstate.client.tokens import is_token  # noqa: PLC0415 - --help does without

    text = data.decode("ascii", "replace").strip()
    if len(text.split()) != 1 or not is_token(text):
        raise ConfigError(f"{name} must hold one token, and nothing else: a line of printable ASCII")
    return text


def _provider(path: Path) -> TokenProvider:
    given: str | None = None
    told: str | None = None

    def tell(text: str) -> None:
        nonlocal told
        if text != told:
            told = text
            print(f"softstate: {visible(text)}", file=sys.stderr, flush=True)

    async def provide(request: TokenRequest) -> str:
        import trio  # noqa: PLC0415 - reads over plain sockets do without

        nonlocal given
        try:
            token = await trio.to_thread.run_sync(read_token, path)
        except ConfigError as error:
            tell(f"{error}; it is read again")
            raise
        if token == given and request.rejected is not None and request.attempt >= PATIENT_ATTEMPTS:
            tell(f"nodes refuse the token in {path} ({request.rejected}): it is read again until there is another one")
        given = token
        return token

    return provide
