"""The reference page of the HTTP requests, `wire/HTTP.md`: the same table as `openapi` describes, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from softstate.server.http.about import ANY_REQUEST, BOTH_CODECS, About
from softstate.server.http.arguments import VALUE, Number, Text, Texts
from softstate.server.http.openapi import errors_of
from softstate.server.http.openapi_route import OPENAPI_FILE
from softstate.server.http.routes import ROUTES, Operation

REFERENCE_FILE = OPENAPI_FILE.with_name("HTTP.md")
"""The page, as it is committed."""

WIDTH = 120

HEAD = """# Requests over HTTP

Written by `python -m softstate.server.http.describe` from the table that a node routes by, as is
[openapi.json](openapi.json), which each node serves at `/v1/openapi.json`. [PROTOCOL.md](PROTOCOL.md) is normative, and
says what it all means.

Every GET answers HEAD. A parameter or a field that is not named here is refused (P-HTTP-13). Bodies are JSON, or CBOR
where `Content-Type` and `Accept` say so. Beside the errors of each request, any may get:

"""


def page() -> str:
    """Return the whole page."""
    common = ", ".join(f"{status} `{kind.code}`" for status, kind in sorted(ANY_REQUEST, key=lambda each: each[0]))
    parts = [HEAD + "\n".join(textwrap.wrap(f"{common}.", WIDTH)) + "\n"]
    for path, methods in ROUTES.items():
        for method, operation in methods.items():
            if operation.about is not None:
                parts.append("\n".join(_section(method, path, operation, operation.about)) + "\n")
    return "\n".join(parts)


def _section(method: str, path: str, operation: Operation, about: About) -> Iterator[str]:
    yield f"## {method} {path}\n"
    yield f"{about.summary}\n"
    rows = [
        *(("query", name, each) for name, each in operation.parameters.items()),
        *(("header", name, each) for name, each in about.headers.items()),
    ]
    if rows:
        yield "| parameter | in | form | default | |"
        yield "|---|---|---|---|---|"
        for place, name, each in rows:
            default = "" if each.default is None else f"`{each.default}`"
            yield f"| `{name}` | {place} | {_form(each)} | {default} | {each.what} |"
        yield ""
    if operation.body is not None:
        yield f"Body: {_kind(operation.body)}.\n"
    yield "| status | body | headers | |"
    yield "|--:|---|---|---|"
    for status, answer in about.answers.items():
        body = _kind(answer.body) if answer.body is not None else "" if answer.media == BOTH_CODECS else answer.media[0]
        headers = ", ".join([*(f"`{each}`" for each in answer.always), *(f"`{each}`?" for each in answer.sometimes)])
        yield f"| {status} | {body} | {headers} | {answer.what} |"
    for status, kinds in sorted(errors_of(operation, about).items()):
        own = [kind for kind in kinds if (status, kind) not in ANY_REQUEST]
        if own:
            yield f"| {status} | `Error` | | {', '.join(f'`{kind.code}`' for kind in own)} |"


def _kind(kind: object) -> str:
    return "any value" if kind is VALUE else f"`{getattr(kind, '__name__', kind)}`"


def _form(each: Number | Text) -> str:
    if isinstance(each, Number):
        return f"integer, {each.low:,} to {each.high:,}"
    often = ", often" if isinstance(each, Texts) else ""
    return f"text, 1 to {each.chars_max:,} characters{often}"
