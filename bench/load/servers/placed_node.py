"""``python -m bench.load.servers.placed_node KIND URL WORDS…``: a node whose sessions are in an engine as well.

KIND is redis, sqlite or postgres, for `bench.spectrum.stores`. With ``none``, and any URL, it is a node that does not
compare digests.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from unittest.mock import patch

import trio

from bench.models.measured.copies import Following, patched
from bench.spectrum.placements import Mirror, placed_in
from bench.spectrum.stores import session_store
from softstate.cli import main as softstate


def main() -> None:
    """Run the node."""
    kind, url = sys.argv[1:3]
    sys.argv[1:] = sys.argv[3:]
    with ExitStack() as stack:
        if kind == "none":
            stack.enter_context(patched(Following(digest=False)))
        else:
            store = stack.enter_context(session_store(kind, url))
            mirror = Mirror(kind != "redis", trio.current_time, store=store)
            stack.enter_context(patch("softstate.server.node.LeaseTable", placed_in(mirror)))
        softstate()


if __name__ == "__main__":
    main()
