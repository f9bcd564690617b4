"""Random names for epochs and lineages."""

from __future__ import annotations

from random import Random, SystemRandom

SYSTEM = SystemRandom()
"""The operating system's randomness: the default wherever a simulation may inject its own."""


def epoch_nonce(random: Random = SYSTEM) -> str:
    """Draw 128 bits in hex, for a store that is being created."""
    return f"{random.getrandbits(128):032x}"


def lineage_nonce(random: Random = SYSTEM) -> str:
    """Draw 64 bits in hex, for a lineage row. Two rows of one epoch must differ; no more is asked of it."""
    return f"{random.getrandbits(64):016x}"
