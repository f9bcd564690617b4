"""The names of a request, checked in portions (P-CONN-11)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from softstate.errors import TooLarge
from softstate.names import check_prefix, check_topic
from softstate.server.http.context import HttpContext

TOPICS_KEPT = 4_096
"""Topics that are remembered as valid: 1 MiB of names at most. It takes 0.1 us to look one up, 2 us to check it."""


@lru_cache(TOPICS_KEPT)
def check_known_topic(topic: str) -> None:
    """Check a name of a poll's `topics`: clients poll for the same ones again and again."""
    check_topic(topic, "topics")


async def check_names(context: HttpContext, topics: Mapping[str, int], prefixes: Mapping[str, int]) -> None:
    """Check the number and the form of the names of a request. Raises `TooLarge` or `Invalid`."""
    count = len(topics) + len(prefixes)
    if count > context.config.subscriptions_max:
        raise TooLarge(f"{count} names in one request, the limit (subscriptions) is {context.config.subscriptions_max}")
    portion = context.turns.names_max
    for number, topic in enumerate(topics, 1):
        check_known_topic(topic)
        if number % portion == 0:
            await context.turns.spend(portion)
    for number, prefix in enumerate(prefixes, 1):
        check_prefix(prefix, "prefixes")
        if number % portion == 0:
            await context.turns.spend(portion)
