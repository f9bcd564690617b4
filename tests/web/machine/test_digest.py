"""The digest of JavaScript, against that of Python: SHA-256 is written out there."""

from __future__ import annotations

from hashlib import sha256
from random import Random

from softstate.wire.subscription_digest import digest_of, digest_text, name_hash
from tests.kit.node_js import WEB, evaluate


def test_sha256_of_every_length_up_to_three_blocks() -> None:
    source = Random(1)
    inputs = [source.randbytes(size) for size in range(193)]
    found = evaluate(
        WEB,
        'import { sha256 } from "./machine/digest.js";',
        """(inputs) => inputs.map((hex) => {
          const words = sha256(Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16)));
          return Array.from(words, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
        })""",
        [each.hex() for each in inputs],
    )
    assert found == [sha256(each).hexdigest() for each in inputs]


def test_digests_of_sets() -> None:
    names = ["a", "p/", "größe/€", "𝄞", "$sys/x", "/", "x" * 255]
    text = """(names) => {
      const hashes = names.map(nameHash);
      return [hashes.map(String), digestText(hashes.reduce((one, other) => one + other)), digestText(-1n)];
    }"""
    hashes, digest, minus = evaluate(WEB, 'import { nameHash, digestText } from "./machine/digest.js";', text, names)
    assert [int(each) for each in hashes] == [name_hash(name) for name in names]
    assert digest == digest_text(digest_of(names))
    assert minus == "f" * 16, "what was taken out of a set leaves a digest of 64 bits"
