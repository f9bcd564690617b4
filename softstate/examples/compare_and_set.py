"""Add to a counter that others add to as well: read, publish with ``expect``, and begin again after a conflict."""

import trio

import softstate

URL = "ws://127.0.0.1:8700"


async def add(client: softstate.Client, topic: str, amount: int) -> int:
    """Add `amount` to the counter at `topic`, which begins at 0, and return its new value."""
    at_least = None
    while True:
        change = await client.get(topic, at_least=at_least)
        old = change.value if change is not None and not change.deleted else 0
        version = change.version if change is not None and not change.deleted else 0
        try:
            await client.publish(topic, old + amount, expect=version)
        except softstate.Conflict as lost:
            at_least = lost.current  # another client was faster: read what it wrote, on any node
        else:
            return int(old + amount)


async def main(url: str = URL) -> None:
    """Add 1 to counters/visits."""
    async with softstate.connect(url) as client:
        print(await add(client, "counters/visits", 1))


if __name__ == "__main__":
    trio.run(main)
