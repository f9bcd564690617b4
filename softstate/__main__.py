"""The command ``softstate``, and ``python -m softstate``: the command line, if what it needs is installed."""

from __future__ import annotations

import sys

from softstate.extras import without_server


def main() -> None:
    """Run the command in `sys.argv` and leave the process with its exit code: 2 if the extra `server` is missing."""
    try:
        from softstate.cli import main as run  # noqa: PLC0415 - it is what may be missing
    except ModuleNotFoundError as error:
        missing = without_server("the command line", error)
        if missing is None:
            raise
        print(f"softstate: {missing}", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
