"""``python -m softstate.server.http.describe``: write what is made of the table of routes, a document and a page."""

from __future__ import annotations

from softstate.server.http import openapi, reference
from softstate.server.http.openapi_route import OPENAPI_FILE


def main() -> None:
    """Write both files in their places in the repository."""
    OPENAPI_FILE.write_text(openapi.text(), encoding="utf-8")
    reference.REFERENCE_FILE.write_text(reference.page(), encoding="utf-8")


if __name__ == "__main__":
    main()
