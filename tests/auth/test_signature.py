from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

import pytest
from joserfc.jwk import OKPKey, RSAKey

from softstate.auth.signature import (
    ALGORITHMS,
    BadKey,
    SigningKey,
    import_jwk,
    import_key_set,
    import_pem,
    import_secret,
    import_signing_key,
    new_key,
)
from tests.auth.keys import ALGORITHMS as NAMES, key
from tests.auth.tokens import claims, encoded, verifies


def public(name: str, **more: object) -> dict[str, object]:
    """Return the public half of a key of the node, with members beside it; None takes one away."""
    found = {**key(name).public_jwk(), **more}
    return {member: value for member, value in found.items() if value is not None}


BAD: dict[str, tuple[object, str]] = {
    "no object": (1, "no key"),
    "null": (None, "no key"),
    "no type": ({"kid": "x"}, "no key"),
    "a type that is a list": ({"kty": ["RSA"]}, "no key"),
    "an unknown type": ({"kty": "AKP", "alg": "ML-DSA-44"}, "not known here"),
    "a secret": ({"kty": "oct", "k": encoded(b"x" * 64)}, "a secret or a private key"),
    "a private key": (dict(key("e").jwk), "a secret or a private key"),
    "a private part of RSA": (public("r", d="AQAB"), "a secret or a private key"),
    "for encryption": (public("r", use="enc"), "its use is 'enc'"),
    "a use that is a list": (public("r", use=["sig"]), "its use is"),
    "for encryption, by operations": (public("r", key_ops=["encrypt"], use=None), "key_ops"),
    "operations that are text": (public("r", key_ops="verify"), "key_ops"),
    "a kid that is a number": (public("e", kid=7), "kid"),
    "an empty kid": (public("e", kid=""), "kid"),
    "a kid of two lines": (public("e", kid="a\nb"), "kid"),
    "no modulus": (public("r", n=None), "has n, e"),
    "a modulus that is a number": (public("r", n=3), "has n, e"),
    "a modulus that is not base64": (public("r", n="!" * 342), "bits"),
    "an exponent that is not base64": (public("r", e="é"), "not in order"),
    "an exponent of 1": (public("r", e="AQ"), "not in order"),
    "an even exponent": (public("r", e="BA"), "not in order"),
    "few bits": (public("r", n=encoded(b"\xff" * 128)), "2048 to 8192 bits, this one 1024"),
    "too many bits": (public("r", n=encoded(b"\xff" * 1_025)), "this one 8200"),
    "a modulus that is longer than any": (public("r", n="A" * 9_000), "has n, e"),
    "an unknown curve": (public("e", crv="P-999"), "curve 'P-999'"),
    "a curve of payments": (public("e", crv="secp256k1"), "curve 'secp256k1'"),
    "a curve of another size": (public("e", crv="P-384"), "not in order"),
    "a point that is not on the curve": (public("e", x=encoded(b"\1" * 32)), "not in order"),
    "no point": (public("e", y=None), "has crv, x, y"),
    "X25519": (public("d", crv="X25519"), "curve 'X25519'"),
    "Ed448": (public("d", crv="Ed448"), "curve 'Ed448'"),
    "an Ed25519 key that is short": (public("d", x="AAAA"), "not in order"),
    "an algorithm of another type": (public("e", alg="RS256"), "not for 'RS256'"),
    "an algorithm of encryption": (public("r", alg="RSA-OAEP", use=None), "not for 'RSA-OAEP'"),
    "HS256 for a public key": (public("r", alg="HS256"), "not for 'HS256'"),
    "none": (public("r", alg="none"), "not for 'none'"),
    "an algorithm that is a list": (public("r", alg=["RS256"]), "not for"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_key_is_refused_and_harms_no_other(name: str) -> None:
    bad, what = BAD[name]
    document = json.dumps({"keys": [public("e"), bad, public("d")]}).encode()
    keys, problems = import_key_set(document, fetched=True)
    assert [found.id for found in keys] == ["e", "d"]
    (problem,) = problems
    assert what in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"keys":{}}', b"<html>", b"\xff", b'{"keys":' + b"[" * 100_000, b'"keys"']
)
def test_what_is_no_set_of_keys_is_refused_whole(data: bytes) -> None:
    with pytest.raises(BadKey, match="no set of keys"):
        import_key_set(data)


def test_of_keys_with_one_id_none_is_taken() -> None:
    document = json.dumps({"keys": [public("e", kid="x"), public("d"), public("r", kid="x")]}).encode()
    keys, problems = import_key_set(document, fetched=True)
    assert [found.id for found in keys] == ["d"]
    assert problems == ["key 'x' is there more than once: none of them is taken"]


def test_keys_without_an_id_are_taken() -> None:
    document = json.dumps({"keys": [public("e", kid=None), public("d", kid=None)]}).encode()
    keys, problems = import_key_set(document, fetched=True)
    assert ([found.id for found in keys], problems) == ([None, None], [])


def test_a_set_has_a_bound() -> None:
    document = json.dumps({"keys": [public("e", kid=str(number)) for number in range(65)]}).encode()
    keys, problems = import_key_set(document, fetched=True)
    assert len(keys) == 64
    assert problems == ["only the first 64 of 65 keys are looked at"]


def test_a_set_in_a_file_may_hold_secrets() -> None:
    keys, problems = import_key_set(json.dumps({"keys": [dict(key("h").jwk), dict(key("e").jwk)]}).encode())
    assert ([found.id for found in keys], problems) == (["h", "e"], [])


@pytest.mark.parametrize(
    ("name", "said", "wanted", "algorithm"),
    [
        ("r", None, (), "RS256"),
        ("r", None, ("ES256", "PS384"), "PS384"),
        ("r", "PS256", (), "PS256"),
        ("r", "PS256", ("PS256", "RS256"), "PS256"),
        ("e", None, (), "ES256"),
        ("d", None, (), "EdDSA"),
        ("d", "EdDSA", ("Ed25519",), "EdDSA"),
        ("d", "Ed25519", (), "EdDSA"),
    ],
)
def test_a_key_is_for_one_algorithm(name: str, said: str | None, wanted: tuple[str, ...], algorithm: str) -> None:
    found = import_jwk(public(name, alg=said), wanted, fetched=True)
    assert found.algorithms == ({"EdDSA", "Ed25519"} if name == "d" else {algorithm})


def test_a_key_for_an_algorithm_that_is_not_wanted_is_refused() -> None:
    with pytest.raises(BadKey, match=r"for RS256, and only ES256"):
        import_jwk(public("r"), ("ES256",))
    with pytest.raises(BadKey, match=r"for ES256, and only RS256, PS256"):
        import_jwk(public("e", alg=None), ("RS256", "PS256"))


@pytest.mark.parametrize("name", NAMES)
def test_a_signature_is_checked_by_its_key_alone(name: str) -> None:
    token = key(name).sign(claims())
    assert [other for other in NAMES if verifies(key(other).public, token)] == [name]
    assert not verifies(key(name, "stranger").public, token)


@pytest.mark.parametrize("bits", [256, 384, 512])
def test_a_secret_is_as_long_as_its_hash(bits: int) -> None:
    (name,) = import_secret(b"x" * (bits // 8), [f"HS{bits}"]).algorithms
    assert name == f"HS{bits}"
    with pytest.raises(BadKey, match=rf"at least {bits // 8} bytes, this one {bits // 8 - 1}"):
        import_secret(b"x" * (bits // 8 - 1), [f"HS{bits}"])


def test_a_secret_is_the_bytes_of_its_file_or_a_key_in_it() -> None:
    token = key("h").sign(claims())
    raw = urlsafe_b64decode(key("h").jwk["k"] + "=")
    assert verifies(import_secret(json.dumps(dict(key("h").jwk)).encode()), token)
    other = import_secret(b"a secret of more than thirty-two bytes\n")
    assert other.id is None
    assert other.print == import_secret(b"a secret of more than thirty-two bytes").print
    assert len(raw) == 32
    with pytest.raises(BadKey, match="no secret"):
        import_secret(json.dumps(public("e")).encode())


@pytest.mark.parametrize("data", [b"", b"\n", b"short"])
def test_a_secret_is_not_short(data: bytes) -> None:
    with pytest.raises(BadKey):
        import_secret(data)


def test_a_public_key_is_no_secret() -> None:
    with pytest.raises(BadKey, match="not in order"):
        import_secret(RSAKey.import_key(public("r")).as_pem(private=False))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["r", "d"])
def test_a_public_key_may_be_pem(name: str) -> None:
    kind: Any = {"r": RSAKey, "d": OKPKey}[name]
    private = kind.import_key(dict(key(name).jwk))
    found = import_pem(private.as_pem(private=False))
    assert (found.id, found.print) == (None, key(name).public.print)
    assert verifies(found, key(name).sign(claims()))
    with pytest.raises(BadKey, match="private key"):
        import_pem(private.as_pem(private=True))


@pytest.mark.parametrize(
    "data", [b"", b"x", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff\0"]
)
def test_what_is_no_pem_is_refused(data: bytes) -> None:
    with pytest.raises(BadKey, match="no public key in PEM"):
        import_pem(data)


@pytest.mark.parametrize("algorithm", ["HS256", "HS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "RS256"])
def test_a_new_key_signs_and_has_its_thumbprint_for_an_id(algorithm: str) -> None:
    made = new_key(algorithm)
    assert verifies(made.public, made.sign(claims()))
    assert made.public.id == made.public.print
    assert import_signing_key(json.dumps(dict(made.jwk)).encode()).public.print == made.public.print
    assert algorithm in ALGORITHMS
    assert algorithm in made.public.algorithms


def test_a_new_key_is_of_a_known_algorithm() -> None:
    with pytest.raises(BadKey, match="must be one of"):
        new_key("none")


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"\xff"])
def test_what_is_no_key_cannot_sign(data: bytes) -> None:
    with pytest.raises(BadKey):
        import_signing_key(data)


def test_a_public_key_cannot_sign() -> None:
    with pytest.raises(BadKey, match="only the private one"):
        import_signing_key(json.dumps(public("e")).encode())
    with pytest.raises(BadKey, match="not in order"):
        import_signing_key(json.dumps(public("e", d="!")).encode())


def secrets_of(found: SigningKey) -> Mapping[str, str]:
    return {name: value for name, value in found.jwk.items() if name in ("d", "k", "p", "q", "dp", "dq", "qi")}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_secret_is_shown(name: str) -> None:
    assert secrets_of(key(name))
    shown = repr(key(name)) + repr(key(name).public) + ("" if name == "h" else json.dumps(public(name)))
    assert not [value for value in secrets_of(key(name)).values() if value in shown]


def test_a_secret_has_no_public_half() -> None:
    with pytest.raises(BadKey, match="no public half"):
        key("h").public_jwk()
