"""Signatures and keys: the one module that imports joserfc, and through it cryptography, which costs 11 MB.

A key is imported from the members that make it, after its bounds have been checked here; what a set says besides
(`use`, `key_ops`, private parts) decides whether it is taken at all.
"""

from __future__ import annotations

import hmac
import json
import warnings
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

from softstate.wire.messages import TOKEN_CHARS_MAX

RSA_BITS_MIN, RSA_BITS_MAX = 2_048, 8_192
KEYS_MAX = 64
"""Most keys of one set."""

HASHES = ("256", "384", "512")
ALGORITHMS = (*(f"{kind}{size}" for kind in ("HS", "RS", "PS", "ES") for size in HASHES), "EdDSA", "Ed25519")
"""Every algorithm that a token may be signed by."""

_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_CURVES_OF = {"EC": tuple(_CURVES), "OKP": ("Ed25519",)}
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_ERRORS = (JoseError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""Errors of joserfc for a key that is none; most are not of its own tree."""

_Joserfc: TypeAlias = RSAKey | ECKey | OKPKey | OctKey
_KINDS: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey, "oct": OctKey}


class BadKey(Exception):
    """This is no key that a token may be checked or signed by; the message says why, and holds nothing of it."""


class _One(JWSRegistry):
    """The registry of one algorithm. Others do not exist, and that of Ed25519 raises no warning about its old name."""

    max_header_length = TOKEN_CHARS_MAX
    max_payload_length = TOKEN_CHARS_MAX
    max_signature_length = TOKEN_CHARS_MAX

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(strict_check_header=False)
        self._names = names

    def get_alg(self, name: str) -> Any:
        """Return the algorithm of a token's header, if it is this one."""
        if name not in self._names:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks signatures, by one algorithm: a `softstate.auth.keyring.Key`."""

    id: str | None
    algorithms: frozenset[str]
    print: str
    material: _Joserfc
    check: Callable[[bytes, bytes, _Joserfc], bool]
    """Checks a signature by the algorithm, and by no other."""

    def __repr__(self) -> str:
        return f"PublicKey({self.id!r}, {self.algorithm})"

    @property
    def algorithm(self) -> str:
        """The usual name of the algorithm."""
        return max(self.algorithms)

    @property
    def secret(self) -> bool:
        """Tell whether this is a secret, by which tokens can be signed as well."""
        return isinstance(self.material, OctKey)

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Tell whether a signature of these bytes is of this key. A token's header has been read by then, not here."""
        try:
            return self.check(signed, signature, self.material)
        except (JoseError, ValueError):
            return False


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, or a secret. `jwk` is all of it, to be written to a file; `public` what others may know."""

    jwk: Mapping[str, str]
    public: PublicKey
    material: _Joserfc

    def __repr__(self) -> str:
        return f"SigningKey({self.public!r})"

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return a token of these claims."""
        header = {"alg": self.public.algorithm, "typ": "JWT"}
        if self.public.id is not None:
            header["kid"] = self.public.id
        payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
        return serialize_compact(header, payload, self.material, registry=_One(self.public.algorithms))

    def public_jwk(self) -> dict[str, str]:
        """Return the public half as it stands in a set of keys. Raises `BadKey` for a secret, which has none."""
        if self.public.secret:
            raise BadKey("a secret has no public half")
        return {name: value for name, value in self.jwk.items() if name not in _PRIVATE}


def import_key_set(
    data: bytes, algorithms: Sequence[str] = (), *, fetched: bool = False
) -> tuple[list[PublicKey], list[str]]:
    """Import each key of a set by itself; return those that are good, and what is wrong with each of the others.

    A set that was fetched may hold public keys alone. Raises `BadKey` if it is no set of keys at all.
    """
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError):
        document = None
    items = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise BadKey("it is no set of keys: a JSON object with a list 'keys'")
    keys: list[PublicKey] = []
    problems: list[str] = []
    if len(items) > KEYS_MAX:
        problems.append(f"only the first {KEYS_MAX} of {len(items)} keys are looked at")
    for number, item in enumerate(items[:KEYS_MAX]):
        name = f"key {_named(item, number)}"
        try:
            key = import_jwk(item, algorithms, fetched=fetched)
        except BadKey as error:
            problems.append(f"{name}: {error}")
            continue
        keys.append(key)
    ids = [key.id for key in keys]
    twice = {key.id for key in keys if key.id is not None and ids.count(key.id) > 1}
    problems += [f"key {name!r} is there more than once: none of them is taken" for name in sorted(map(str, twice))]
    return [key for key in keys if key.id not in twice], problems


def import_jwk(item: object, algorithms: Sequence[str] = (), *, fetched: bool = False) -> PublicKey:
    """Import one key of a set. Raises `BadKey`."""
    if not isinstance(item, dict) or not all(isinstance(item.get(name), str) for name in ("kty",)):
        raise BadKey("it is no key: an object with a 'kty'")
    kind, key_id, use = item["kty"], item.get("kid"), item.get("use")
    if kind not in _MEMBERS:
        raise BadKey(f"keys of type {_ascii(kind)} are not known here")
    if fetched and (kind == "oct" or _PRIVATE & item.keys()):
        raise BadKey("a secret or a private key in a set that everybody can fetch is no longer one")
    if key_id is not None and not (isinstance(key_id, str) and 1 <= len(key_id) <= 255 and key_id.isprintable()):
        raise BadKey("its 'kid' must be text of 1 to 255 printable characters")
    if use not in (None, "sig"):
        raise BadKey(f"its use is {_ascii(use)}, not to sign")
    operations = item.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and {"verify", "sign"} & {*map(str, operations)}):
        raise BadKey("its 'key_ops' do not let it verify")
    members = {name: item.get(name) for name in _MEMBERS[kind]}
    if not all(isinstance(value, str) and len(value) <= TOKEN_CHARS_MAX for value in members.values()):
        raise BadKey(f"a key of type {kind} has {', '.join(_MEMBERS[kind])}, each of them text")
    return _public({"kty": kind, **cast("dict[str, str]", members)}, key_id, item.get("alg"), algorithms)


def import_pem(data: bytes, algorithms: Sequence[str] = (), key_id: str | None = None) -> PublicKey:
    """Import a public key written as PEM. Raises `BadKey`, for a private key as well."""
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key: Any = _quietly(kind.import_key, data)
        except _ERRORS:
            continue
        if key.is_private:
            raise BadKey("it is a private key: name a file with the public one")
        members = {name: value for name, value in key.as_dict(private=False).items() if isinstance(value, str)}
        members = {name: members[name] for name in ("kty", *_MEMBERS[members["kty"]])}
        return _public(members, key_id, None, algorithms)
    raise BadKey("it is no public key in PEM that is known here")


def import_secret(data: bytes, algorithms: Sequence[str] = ()) -> PublicKey:
    """Import a secret: a JSON Web Key of type oct as `softstate token key` writes it, or else the bytes themselves."""
    item = None
    if data.lstrip().startswith(b"{"):
        try:
            item = json.loads(data.decode())
        except (ValueError, RecursionError):
            item = None
    if isinstance(item, dict):
        if item.get("kty") != "oct":
            raise BadKey("it is a key, but no secret: name it in jwks_file or public_key_file")
        return import_jwk(item, algorithms)
    return _public({"kty": "oct", "k": _base64(data.rstrip(b"\r\n"))}, None, None, algorithms)


def import_signing_key(data: bytes) -> SigningKey:
    """Import a private key or a secret as `new_key` makes it. Raises `BadKey`."""
    try:
        item = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise BadKey("it is no JSON Web Key: `softstate token key` makes one") from None
    if isinstance(item, dict) and "keys" in item:
        raise BadKey("it is a set of public keys: name the file that `softstate token key` wrote")
    public = import_jwk(item)
    if public.secret:
        return SigningKey(item, public, public.material)
    if not isinstance(item.get("d"), str):
        raise BadKey("it is a public key: only the private one can sign")
    try:
        key = _quietly(_KINDS[item["kty"]].import_key, {**item})
    except _ERRORS as error:
        raise BadKey(f"its private part is not in order ({type(error).__name__})") from None
    return SigningKey(item, public, cast("_Joserfc", key))


def new_key(algorithm: str, key_id: str | None = None) -> SigningKey:
    """Make a key at random, with its thumbprint for an ID unless one is given. Raises `BadKey` for an algorithm."""
    if algorithm not in ALGORITHMS:
        raise BadKey(f"the algorithm must be one of {', '.join(ALGORITHMS)}")
    key = _generate(algorithm)
    members = {name: value for name, value in key.as_dict(private=True).items() if isinstance(value, str)}
    name = "EdDSA" if algorithm == "Ed25519" else algorithm
    item = {**members, "kid": key.thumbprint() if key_id is None else key_id, "alg": name, "use": "sig"}
    return import_signing_key(json.dumps(item).encode())


def _generate(algorithm: str) -> _Joserfc:
    if algorithm in ("Ed25519", "EdDSA"):
        return OKPKey.generate_key("Ed25519")
    for curve, name in _CURVES.items():
        if name == algorithm:
            return ECKey.generate_key(curve)
    if algorithm.startswith("HS"):
        return OctKey.generate_key(int(algorithm[2:]))
    return RSAKey.generate_key(RSA_BITS_MIN)


def _public(members: dict[str, str], key_id: str | None, algorithm: object, wanted: Sequence[str]) -> PublicKey:
    """Import a key by its members alone, and settle its algorithm: as it says, else as is wanted, else as is usual."""
    _check_bounds(members)
    try:
        key: Any = _quietly(_KINDS[members["kty"]].import_key, dict(members))
        thumbprint = key.thumbprint()
    except _ERRORS as error:
        raise BadKey(f"it is not in order ({type(error).__name__})") from None
    possible = _possible(members)
    if algorithm is not None and algorithm not in possible:
        raise BadKey(f"a key of this type is not for {_ascii(algorithm)}")
    chosen = (
        str(algorithm) if algorithm is not None else next((name for name in wanted if name in possible), possible[0])
    )
    names = frozenset({"EdDSA", "Ed25519"} if chosen in ("EdDSA", "Ed25519") else {chosen})
    if wanted and not names & set(wanted):
        raise BadKey(f"it is for {chosen}, and only {', '.join(wanted)} may be used")
    bits = len(key.raw_value) * 8 if isinstance(key, OctKey) else 0
    if isinstance(key, OctKey) and bits < int(chosen[2:]):
        raise BadKey(f"a secret for {chosen} has at least {int(chosen[2:]) // 8} bytes, this one {bits // 8}")
    model = JWSRegistry.algorithms[chosen]
    model.check_key(key)  # its type and curve, once for all tokens
    check = partial(_check_mac, f"sha{chosen[2:]}") if isinstance(key, OctKey) else model.verify
    return PublicKey(key_id, names, thumbprint, key, check)


def _check_mac(digest: str, signed: bytes, mac: bytes, key: Any) -> bool:
    """Tell whether an HMAC is right (RFC 7518 section 3.2), in one call of C: joserfc takes twice as long."""
    return hmac.compare_digest(hmac.digest(key.raw_value, signed, digest), mac)


def _check_bounds(members: Mapping[str, str]) -> None:
    if members["kty"] == "RSA":
        # joserfc only warns, and that after it has made the key.
        bits = _bits(members["n"])
        if not RSA_BITS_MIN <= bits <= RSA_BITS_MAX:
            raise BadKey(f"an RSA key has {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, this one {bits}")
    elif "crv" in members and members["crv"] not in _CURVES_OF[members["kty"]]:
        raise BadKey(f"the curve {_ascii(members['crv'])} is not known here")


def _possible(members: Mapping[str, str]) -> tuple[str, ...]:
    match members["kty"]:
        case "RSA":
            return tuple(f"{kind}{bits}" for kind in ("RS", "PS") for bits in HASHES)
        case "EC":
            return (_CURVES[members["crv"]],)
        case "OKP":
            return ("EdDSA", "Ed25519")
    return tuple(f"HS{bits}" for bits in HASHES)


def _bits(text: str) -> int:
    try:
        return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big").bit_length()
    except ValueError:
        return 0


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _quietly(make: Callable[..., object], value: object) -> object:
    """Import a key without joserfc's warnings: what they are about is refused here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(value)


def _named(item: object, number: int) -> str:
    name = item.get("kid") if isinstance(item, dict) else None
    return ascii(name[:64]) if isinstance(name, str) else str(number + 1)


def _ascii(value: object) -> str:
    return ascii(value)[:64]
