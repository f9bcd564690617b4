"""Bounds that several engines share."""

from __future__ import annotations

from softstate.position import REVISION_MAX

CALL_S = 3.0
"""How long one call to a remote engine may take, connecting included, in seconds; then it raises `Unavailable`."""

CHECK_EVERY_S = 1.0
"""How often a node that waits for commits checks the store itself, in seconds: a lost notification costs no more."""

PROBE_EVERY_S = 10.0
"""How often an engine is asked at most how durable its commits are, in seconds."""

COMPACT_ROWS = 4_096
"""How many rows one compacting transaction removes at most, so that publishes get their turn in between.

etcd (`softstate.store.etcd.write`) and Redis (``lua/publish.lua``) take fewer: one transaction holds fewer operations,
and nothing else runs beside a function."""

NEAR_HEAD = 256
"""Within so many revisions of the head, a prefix is searched for among all that changed: rows stored side by side."""

PREFIX_TOPICS_MAX = 16_384
"""A prefix with more topics than this to show is read in version order, passing over what it does not cover.

Up to here it is cheaper to take its versions from the index by name and sort them, for every page again. etcd takes
half, since it sends all of them."""

REVISION_DIGITS_MAX = len(str(REVISION_MAX))
"""The longest revision in a notification; what is longer is none."""
