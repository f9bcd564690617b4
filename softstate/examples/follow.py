"""Follow prices, and stop trusting them when they may be too old.

A screen that shows a price of ten minutes ago as if it were today's is worse than one that shows none. The age says
which it is, also while no node can be reached.
"""

import trio

import softstate

URL = "ws://127.0.0.1:8700"
AGE_S_MAX = 30.0


async def show(updates: softstate.Updates, prices: dict[str, object], every_s: float = 1.0) -> None:
    """Print all prices every second, marked if they may be older than `AGE_S_MAX`."""
    while True:
        mark = "" if updates.age <= AGE_S_MAX else " (may be out of date)"
        for topic, price in sorted(prices.items()):
            print(f"{topic}: {price}{mark}")
        await trio.sleep(every_s)


async def follow(url: str = URL) -> None:
    """Keep the newest price of each topic below prices/, until cancelled."""
    prices: dict[str, object] = {}
    async with softstate.connect(url) as client, client.subscribe("prices/") as updates, trio.open_nursery() as nursery:
        nursery.start_soon(show, updates, prices)
        async for change in updates:
            if change.deleted:
                prices.pop(change.topic, None)
            else:
                prices[change.topic] = change.value


if __name__ == "__main__":
    trio.run(follow)
