"""An issuer whose tokens are signed, and whose keys are fetched: for nodes that run the real authority.

Nodes obey a policy file, in a folder that all of them share, and read it again when it changes; they ask the issuer's
host for its keys. The keys themselves are always the same few, each under a new ID when the issuer rotates them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, final

import trio

from softstate.auth.signature import SigningKey, import_signing_key
from softstate.client.tokens import TokenProvider
from softstate.server.auth.keeper import LOOK_S, STILL_S, PolicyKeeper
from softstate.server.bulkhead import Bulkhead
from softstate.testing.network.network import SimNetwork
from softstate.testing.network.stream import SimStream
from softstate.testing.simulation.clocks import SimClock
from softstate.testing.simulation.issuer import ISSUER, TOKEN_S, ProviderFault, provider_of
from softstate.testing.trace import KeyReplaced, RightsChanged, TokenIssued, Trace

HOST, PORT = "localhost", 9001
"""Where its keys are fetched: only on its own machine a node fetches by http."""

RULES_S = LOOK_S + 4 * STILL_S
"""Time within which every node goes by the file as it is."""

FRESH_S, COOL_S, STALE_S = 30.0, 5.0, 120.0
"""How often nodes fetch keys, and for how long these are good if that fails."""

KEYS_S = STALE_S + 3 * COOL_S
"""Time within which every node knows that a key was removed, also while the issuer cannot be reached."""

SLOW_S = 3.0
"""Time that it takes to answer while it is slow."""

_MATERIAL = (
    ("j3vHBZrSW78frQVKelYkAWYFDS2H8XuDqKHIpXw-c0o", "-iMvlIodpUVcarAX5g0B_yTbj7QfQ14NXz0GzG5P-6k"),
    ("iggFH_yPg3o0oGvhGDbLLreCnnuer5BU4j4yzFO3ZAc", "-qsk3oDM_4AHxCKz1IPupkb0w78o6LYLU034lihtgbU"),
    ("bI5LB20QUdqh-8y5sIROjUu8sN3CFYQQ2snRaBW8rek", "p3zsUC7zt5Pmag-ZNkJb96_qVYx4dy2ZrqiPEgn0PfQ"),
)
"""The public and the private half of each key."""

KeysFault: TypeAlias = Literal["down", "slow", "hangs", "broken"]

Wall: TypeAlias = Callable[[], float]
_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


@final
class SignedIssuer:
    """Signs tokens, publishes keys, and writes the policy file; a `SimIssuer` for nodes that check for themselves.

    `keys_fault` is the fault of the host of its keys, and `asked` counts the times that these were fetched. `stale_s`
    is for how long they are good if that fails, as the next policy file says.
    """

    def __init__(self, network: SimNetwork, trace: Trace, folder: Path, life_s: float = TOKEN_S) -> None:
        self.life_s = life_s
        self.fault: ProviderFault | None = None
        self.keys_fault: KeysFault | None = None
        self.fetches = 0
        self.asked = 0
        self.stale_s = STALE_S
        self.last: dict[str, str] = {}
        self._network = network
        self._trace = trace
        self._file = folder / "auth.toml"
        self._rights: dict[str, tuple[str, ...]] = {}
        self._tokens: dict[str, int] = {}
        self._number = 0
        self._key = self._key_min = 1
        self.write()

    # The rules -------------------------------------------------------------------------------------------------------

    def allow(self, subject: str, *names: str) -> None:
        """Let a subject read and publish below these names alone: each node knows within `RULES_S`."""
        self._rights[subject] = names
        self.write()
        self._trace.add(RightsChanged(trio.current_time(), subject, names))

    def rights(self, subject: str) -> tuple[str, ...]:
        """Return the names that a subject may read."""
        return self._rights[subject]

    def write(self, more: str = "") -> None:
        """Write the policy file, as one whole, with some lines more: also such as no node can read."""
        lines = [
            "[[auth.issuer]]", f'issuer = "{ISSUER}"', 'audience = ["softstate"]',
            f'jwks_url = "http://{HOST}:{PORT}/keys"', "leeway_s = 0", f"fresh_s = {FRESH_S}", f"cool_s = {COOL_S}",
            f"stale_s = {self.stale_s}",
        ]  # fmt: skip
        for subject, names in self._rights.items():
            if names:
                listed = json.dumps(names)
                lines += ["[[allow]]", f'who = {{sub = "{subject}"}}', f"read = {listed}", f"write = {listed}"]
        new = self._file.with_suffix(".new")
        new.write_text("\n".join([*lines, more, ""]))
        new.replace(self._file)

    # Keys and tokens -------------------------------------------------------------------------------------------------

    def rotate(self) -> None:
        """Sign with another key from now on; that of before is published, too."""
        self._key += 1

    def remove_keys(self) -> None:
        """Publish the present key alone: each node knows within `KEYS_S`."""
        self._key_min = self._key
        dead = tuple(text for text, key in self._tokens.items() if key < self._key_min)
        self._trace.add(KeyReplaced(trio.current_time(), dead))

    def issue(self, subject: str, life_s: float | None = None) -> str:
        """Make a token."""
        now = trio.current_time()
        ends_at = now + (self.life_s if life_s is None else life_s)
        self._number += 1
        claims = {
            "iss": ISSUER, "aud": "softstate", "sub": subject, "iat": now, "exp": ends_at, "jti": f"{self._number}",
        }  # fmt: skip
        text = _key(self._key).sign(claims)
        self._tokens[text] = self._key
        self.last[subject] = text
        self._trace.add(TokenIssued(now, subject, text, ends_at))
        return text

    def forge(self, subject: str, key: str) -> str:
        """Return a token that names a key which nobody has."""
        now = trio.current_time()
        claims = {"iss": ISSUER, "aud": "softstate", "sub": subject, "iat": now, "exp": now + self.life_s}
        return _signing_key(0, key).sign(claims)

    def provider(self, subject: str) -> TokenProvider:
        """Return the provider of a client whose tokens are this subject's."""
        return provider_of(self, subject)

    # Nodes -----------------------------------------------------------------------------------------------------------

    def keeper(self, host: str, clock: SimClock, wall: Wall, bulkhead: Bulkhead) -> PolicyKeeper:
        """Return the keeper of a node on a host, which it has to run."""
        opener = self._network.opener(host)
        return PolicyKeeper(self._file, clock.now, bulkhead, open_stream=opener, in_thread=_at_once, wall=wall)

    async def run(self) -> None:
        """Answer those who ask for keys, until cancelled."""
        await trio.serve_listeners(self._serve, [self._network.listen(HOST, PORT)])

    async def _serve(self, stream: SimStream) -> None:
        data = b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while self.keys_fault != "down":
                if b"\r\n\r\n" not in data:
                    more = await stream.receive_some()
                    if not more:
                        break
                    data += more
                    continue
                data = data[data.index(b"\r\n\r\n") + 4 :]
                await self._answer(stream)
        await stream.aclose()

    async def _answer(self, stream: SimStream) -> None:
        if self.keys_fault == "hangs":
            await trio.sleep_forever()
        if self.keys_fault == "slow":
            await trio.sleep(SLOW_S)
        self.asked += 1
        keys = [_key(number).public_jwk() for number in range(self._key_min, self._key + 1)]
        body = b"<html>" if self.keys_fault == "broken" else json.dumps({"keys": keys}).encode()
        await stream.send_all(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def _key(number: int) -> SigningKey:
    return _signing_key(number % len(_MATERIAL), f"k{number}")


@cache
def _signing_key(material: int, name: str) -> SigningKey:
    public, private = _MATERIAL[material]
    members = {"kty": "OKP", "crv": "Ed25519", "x": public, "d": private, "kid": name, "alg": "EdDSA"}
    return import_signing_key(json.dumps(members).encode())


async def _at_once(function: Callable[[_Argument], _Result], argument: _Argument, /) -> _Result:
    await trio.lowlevel.checkpoint()
    return function(argument)
