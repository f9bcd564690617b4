"""``softstate store info``: print what a store holds."""

from __future__ import annotations

from softstate.cli import exit_codes
from softstate.cli.commands.store.opening import DEFAULT_STORE, StoreUrl, reading
from softstate.cli.options.nodes import AsJson
from softstate.cli.options.store_urls import plain
from softstate.cli.terminal.fields import print_fields


async def command(*, store: StoreUrl = DEFAULT_STORE, json: AsJson = False) -> int:
    """Print what a store holds: where its history stands, how many topics, tombstones and so on, its size, its layout.

    And whether acknowledged publishes are safe there: `durability`, and what speaks against it.
    """
    async with reading(store) as opened:
        head = await opened.head()
        info = await opened.info()
        floor = (await opened.dump(head.revision, 1)).floor
        fields = {
            "store": plain(opened.name),
            "durability": str(opened.durability),
            "store_warnings": list(opened.warnings),
            "epoch": head.epoch,
            "lineage": head.lineage,
            "revision": head.revision,
            "floor": floor,
            "topics": info.topics,
            "tombstones": info.tombstones,
            "keys": info.keys,
            "publishers": info.publishers,
            "layout": info.layout,
            "store_bytes": info.size_bytes,
        }
        if info.notes:
            fields["notes"] = list(info.notes)
    print_fields(fields, json=json)
    return exit_codes.OK
