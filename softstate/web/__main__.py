"""``python -m softstate.web FOLDER``: write the package for npm into a folder that exists."""

import sys
from pathlib import Path

from softstate.web.bundle import write

if __name__ == "__main__":
    match [Path(word) for word in sys.argv[1:]]:
        case [folder] if folder.is_dir():
            write(folder)
        case _:
            sys.exit("usage: python -m softstate.web FOLDER (which exists)")
