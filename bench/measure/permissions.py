"""A policy file for throw-away nodes, with keys of its own, and the tokens that these nodes take."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Literal, TypeAlias

from bench.measure.servers import NotInstalled, Server, folder, softstate_server
from softstate.auth.revocations import subject_topic
from softstate.auth.signature import SigningKey, new_key
from softstate.auth.token import STATIC_PREFIX
from softstate.cli.commands.token.options import write_private
from softstate.errors import ConfigError
from softstate.server.auth.policy_files import check_installed

Algorithm: TypeAlias = Literal["HS256", "ES256"]

ADMIN = STATIC_PREFIX + "a" * 43
"""The static token of an administrator."""
GOOD_S = 12 * 3_600
LOAD = "load"
"""The group of load generators, which may publish, and read, what they do."""

OWN = 'read = ["users/{sub}/", "inbox/", "shared/"]\nwrite = ["users/{sub}/cart"]'
"""Rights of those who are signed in: each has a grant of its own."""
SHARED = 'read = ["users/all/", "inbox/", "shared/"]\nwrite = ["users/all/cart"]'
"""As many rights, and one grant that all share."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """A policy file in a folder, and the keys that sign for its issuers, one for each algorithm.

    Each token that is made is of another subject, so that no node has verified it before.
    """

    home: Path
    keys: dict[Algorithm, SigningKey]
    _numbers: Iterator[int] = field(default_factory=count, repr=False)

    @property
    def path(self) -> Path:
        """The policy file."""
        return self.home / "auth.toml"

    def write(self, rights: str = OWN) -> None:
        """Write the policy file, with what those who are signed in may do."""
        digest = sha256(ADMIN.encode()).hexdigest()
        issuers = [
            f'[[auth.issuer]]\nissuer = "{issuer_of(algorithm)}"\naudience = ["bench"]\n{source}\n'
            for algorithm, source in (("HS256", 'secret_file = "secret.jwk"'), ("ES256", 'jwks_file = "keys.json"'))
        ]
        admin = f'[[auth.token]]\nname = "admin"\nsha256 = "{digest}"\nadmin = true\n'
        load = (
            f'[[allow]]\nwho = {{group = "{LOAD}"}}\n'
            'read = ["bench/", "latency/"]\nwrite = ["bench/", "latency/", "warm"]\n'
        )
        rule = f'[[allow]]\nwho = "signed-in"\n{rights}\n'
        self.path.write_text("\n".join([admin, *issuers, rule, load]))

    def tokens(self, algorithm: Algorithm, number: int) -> list[str]:
        """Sign tokens of as many new subjects."""
        return [token for token, _ in self._made(algorithm, number)]

    def load_token(self) -> str:
        """Sign a token of a new subject that is in the group `LOAD`."""
        ((token, _),) = self._made("HS256", 1, groups=[LOAD])
        return token

    def load_tokens_and_revocations(self, number: int) -> list[tuple[str, str]]:
        """Sign tokens of as many new subjects of that group; return each with the topic that revokes its subject."""
        return self._made("HS256", number, groups=[LOAD])

    def _made(self, algorithm: Algorithm, number: int, **more: object) -> list[tuple[str, str]]:
        made = []
        now, issuer = int(time.time()), issuer_of(algorithm)
        for _ in range(number):
            subject = f"user-{next(self._numbers):07}"
            claims = {"iss": issuer, "sub": subject, "aud": "bench", "iat": now, "exp": now + GOOD_S, **more}
            made.append((self.keys[algorithm].sign(claims), subject_topic(issuer, subject)))
        return made


def issuer_of(algorithm: str) -> str:
    """Return the issuer whose tokens are signed by an algorithm."""
    return f"https://{algorithm.lower()}.example"


@contextmanager
def permissions(rights: str = OWN) -> Iterator[Permissions]:
    """Make keys and a policy file, in a folder that is removed at the end. Raises `NotInstalled`."""
    try:
        check_installed()
    except ConfigError as missing:
        raise NotInstalled(str(missing)) from None
    with folder() as home:
        secret, pair = new_key("HS256"), new_key("ES256")
        write_private(home / "secret.jwk", json.dumps(dict(secret.jwk)).encode())
        (home / "keys.json").write_text(json.dumps({"keys": [pair.public_jwk()]}))
        made = Permissions(home, {"HS256": secret, "ES256": pair})
        made.write(rights)
        yield made


@contextmanager
def checking_node(made: Permissions, store: str = "") -> Iterator[Server]:
    """Run a node that checks credentials by this policy file."""
    # Of one subject there are more sessions here than an identity may have.
    words = ("--auth", str(made.path), "--sessions-per-identity-max", "0")
    with softstate_server(*words, store=store, name="softstate --auth") as server:
        yield server
