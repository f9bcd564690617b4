"""``python -m softstate``: the same as the ``softstate`` command."""

from softstate.cli import main

if __name__ == "__main__":
    main()
