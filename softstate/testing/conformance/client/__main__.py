"""``python -m softstate.testing.conformance.client`` writes the traces again; with ``--check`` it only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from softstate.testing.conformance.client.generate import generate
from softstate.testing.conformance.client.scenarios.handing import generate_handing
from softstate.testing.conformance.client.trace import FOLDER, HANDING, Trace, load_all, write_all


def main(arguments: list[str]) -> int:
    """Write or compare; return 1 if something differs, or the arguments mean nothing."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m softstate.testing.conformance.client [--check]", file=sys.stderr)
        return 2
    found = 0
    for folder, traces in ((FOLDER, generate()), (HANDING, generate_handing())):
        if arguments:
            found += _compare(folder, traces)
            continue
        written, removed = write_all(traces, folder)
        print(f"{len(written)} traces written, {len(removed)} removed, in {folder}")
    return 1 if found else 0


def _compare(folder: Path, traces: list[Trace]) -> int:
    kept = {trace.name: trace.text() for trace in load_all(folder)}
    made = {trace.name: trace.text() for trace in traces}
    differing = sorted(name for name in {*kept, *made} if kept.get(name) != made.get(name))
    for name in differing:
        print(f"{name} differs from what the client does: run without --check, and review the difference")
    return len(differing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
