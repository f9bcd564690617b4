"""What people who build on softstate need to test it: the conformance test for stores."""

from __future__ import annotations

from softstate.testing.store_contract import STORE_CHECKS, StoreCheck, check_store, run_check
from softstate.testing.store_stage import Rewindable, Stage, Truth

__all__ = ["STORE_CHECKS", "Rewindable", "Stage", "StoreCheck", "Truth", "check_store", "run_check"]
