"""``python -m softstate.testing.conformance.client`` writes the traces again; with ``--check`` it only compares."""

from __future__ import annotations

import sys

from softstate.testing.conformance.client.generate import generate
from softstate.testing.conformance.client.trace import FOLDER, load_all, write_all


def main(arguments: list[str]) -> int:
    """Write or compare; return 1 if something differs, or the arguments mean nothing."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m softstate.testing.conformance.client [--check]", file=sys.stderr)
        return 2
    if not arguments:
        written, removed = write_all(generate())
        print(f"{len(written)} traces written, {len(removed)} removed, in {FOLDER}")
        return 0
    kept = {trace.name: trace.text() for trace in load_all()}
    made = {trace.name: trace.text() for trace in generate()}
    differing = sorted(name for name in {*kept, *made} if kept.get(name) != made.get(name))
    for name in differing:
        print(f"{name} differs from what the machine does: run without --check, and review the difference")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
