"""Read one's own write on any node: the version that a publish returns tells the reader how far a node must be."""

import trio

import softstate

URLS = ("ws://127.0.0.1:8700", "ws://127.0.0.1:8701")


async def main(writer_url: str = URLS[0], reader_url: str = URLS[1]) -> softstate.Change | None:
    """Publish through one node and read through another on the same store; return what was read."""
    async with softstate.connect(writer_url) as writer, softstate.connect(reader_url) as reader:
        version = await writer.publish("orders/42", {"state": "paid"})
        change = await reader.get("orders/42", at_least=version)
        print(change)
        return change


if __name__ == "__main__":
    trio.run(main)
