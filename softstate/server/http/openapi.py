"""The HTTP requests as an OpenAPI 3.1 document, which `softstate.server.http.describe` writes.

It is made of the table that a node routes by, `softstate.server.http.routes.ROUTES`, and of the classes that it
reads bodies with and writes replies from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from softstate.errors import RequestError
from softstate.server.http import patterns
from softstate.server.http.about import (
    ANY_REQUEST,
    AUTHENTICATED,
    BOTH_CODECS,
    CHALLENGE,
    ETAG,
    HELD,
    LAG,
    LEFT,
    LEVEL,
    POSITION,
    RETRY,
    About,
    Answer,
)
from softstate.server.http.arguments import VALUE, VALUE_SCHEMA, Number, Text, Texts
from softstate.server.http.parameters import PATH_TOPIC, TICKET
from softstate.server.http.replies import EVENT_DATA, SCHEMAS
from softstate.server.http.routes import ROUTES, TOPIC_ROUTE, Operation
from softstate.wire.levels import LEVEL as PROTOCOL_LEVEL
from softstate.wire.messages import DURATION_MS_MAX, Error
from softstate.wire.value import BYTES_KEY, VALUE_DEPTH_MAX

Schema: TypeAlias = dict[str, Any]

_MS: Schema = {"type": "integer", "minimum": 0, "maximum": DURATION_MS_MAX}

HEADERS: Mapping[str, tuple[str, Schema]] = {
    POSITION: (
        "Where the store stood at the read behind this; behind an error without a read it certifies nothing.",
        {"type": "string", "pattern": patterns.POSITION},
    ),
    LAG: ("How much older than the request's arrival this may be, in ms.", {"type": "integer", "minimum": 0}),
    LEVEL: ("The level of the protocol that the node knows (P-WIRE-10).", {"type": "integer", "minimum": 1}),
    HELD: ("How long the request was held before the read behind this, in ms.", {"type": "integer", "minimum": 0}),
    ETAG: ("The version and its representation (P-HTTP-3).", {"type": "string", "pattern": patterns.TAG}),
    RETRY: ("When to try again, in whole seconds.", {"type": "integer", "minimum": 0}),
    CHALLENGE: ("`Bearer`, and which check failed.", {"type": "string", "pattern": "^Bearer "}),
    LEFT: ("For how long the credentials are good.", _MS),
}
"""The headers of replies."""

_VALUES: Schema = {
    "Value": {
        "description": "Any value. Integers have 64 bits, signed; numbers are finite; lists and maps nest at most"
        f" {VALUE_DEPTH_MAX} levels. As CBOR it has at most `limits.value_bytes`.",
        "anyOf": [
            {"type": ["null", "boolean", "number", "string"]},
            {"$ref": SCHEMAS.format(name="Bytes")},
            {"type": "array", "items": {"$ref": VALUE_SCHEMA}},
            {
                "type": "object",
                "additionalProperties": {"$ref": VALUE_SCHEMA},
                "not": {"required": [BYTES_KEY], "maxProperties": 1},
            },
        ],
    },
    "Bytes": {
        "description": "Bytes, as JSON has them; in CBOR they are a byte string.",
        "type": "object",
        "properties": {BYTES_KEY: {"type": "string", "pattern": patterns.BASE64}},
        "required": [BYTES_KEY],
        "additionalProperties": False,
    },
}


def document() -> Schema:
    """Return the whole description."""
    described = [(path, method, each) for path, methods in ROUTES.items() for method, each in methods.items()]
    paths: dict[str, Schema] = {}
    for path, method, operation in described:
        if operation.about is not None:
            item = paths.setdefault(path, {"parameters": [_path_topic()]} if path == TOPIC_ROUTE else {})
            item[method.lower()] = _operation(path, method, operation, operation.about)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "softstate",
            "version": f"1.{PROTOCOL_LEVEL}",
            "description": "The requests over HTTP of a softstate node. The protocol's page, PROTOCOL.md, is normative;"
            " the WebSocket, `/v1/ws`, is described there alone. Each GET answers HEAD, too.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": _refusals(),
            "headers": {name: {"description": what, "schema": form} for name, (what, form) in HEADERS.items()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "If the node checks credentials."},
                "ticket": {"type": "apiKey", "in": "query", "name": TICKET, "description": "Of POST /v1/ticket, once."},
            },
        },
    }


def text() -> str:
    """Return the document as it is committed."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


# Operations ----------------------------------------------------------------------------------------------------------


def _operation(path: str, method: str, operation: Operation, about: About) -> Schema:
    words = [word for word in path.replace("/v1", "").replace(".json", "").split("/") if word.isalpha()]
    told: Schema = {
        "operationId": "_".join([method.lower(), *words, *(["one"] if path == TOPIC_ROUTE else [])]),
        "summary": about.summary,
        "security": _security(operation),
    }
    parameters = [_parameter(name, "query", each) for name, each in operation.parameters.items() if name != TICKET]
    parameters += [_parameter(name, "header", each) for name, each in about.headers.items()]
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        form = {"schema": _form_of(operation.body)}
        told["requestBody"] = {"required": True, "content": dict.fromkeys(BOTH_CODECS, form)}
    told["responses"] = dict(sorted(_responses(operation, about).items()))
    return told


def _security(operation: Operation) -> list[Schema]:
    if operation.public:
        return []
    # An empty one: a node without a policy file checks none, and others may give something to everybody.
    return [{}, {"token": []}, *([{"ticket": []}] if TICKET in operation.parameters else [])]


def _parameter(name: str, place: str, each: Number | Text) -> Schema:
    told: Schema = {"name": name, "in": place, "description": each.what, "schema": _form(each)}
    if isinstance(each, Texts):
        told |= {"style": "form", "explode": True}
    return told


def _path_topic() -> Schema:
    return {**_parameter("topic", "path", PATH_TOPIC), "required": True}


def _form(each: Number | Text) -> Schema:
    if isinstance(each, Number):
        form: Schema = {"type": "integer", "minimum": each.low, "maximum": each.high}
    else:
        form = {"type": "string", "minLength": 1, "maxLength": each.chars_max}
        if each.pattern == patterns.EVENT_ID_OR_NONE:
            form["minLength"] = 0
        if each.pattern:
            form["pattern"] = each.pattern
    if each.default is not None:
        form["default"] = each.default
    return {"type": "array", "items": form, "minItems": 1, "maxItems": 64} if isinstance(each, Texts) else form


def errors_of(operation: Operation, about: About) -> dict[int, list[type[RequestError]]]:
    """Return the errors that an operation may be answered with, by status."""
    found: dict[int, list[type[RequestError]]] = {}
    for status, kind in (*ANY_REQUEST, *(() if operation.public else AUTHENTICATED), *about.errors):
        kinds = found.setdefault(status, [])
        if kind not in kinds:
            kinds.append(kind)
    return found


def _responses(operation: Operation, about: About) -> dict[str, Schema]:
    told = {str(status): _answer(answer) for status, answer in about.answers.items()}
    for status, kinds in errors_of(operation, about).items():
        told[str(status)] = {"$ref": f"#/components/responses/{_refusal_name(status, kinds)}"}
    return told


def _refusal_name(status: int, kinds: Iterable[type[RequestError]]) -> str:
    return "_".join([str(status), *(kind.code for kind in kinds)])


def _refusals() -> dict[str, Schema]:
    """Describe each refusal that some operation has, once."""
    told: dict[str, Schema] = {}
    for about, operation in _operations():
        for status, kinds in sorted(errors_of(operation, about).items()):
            told[_refusal_name(status, kinds)] = _refusal(status, [kind.code for kind in kinds])
    return dict(sorted(told.items()))


def _refusal(status: int, codes: list[str]) -> Schema:
    form = {"allOf": [_form_of(Error), {"properties": {"code": {"enum": codes}}}]}
    sometimes = [RETRY, LEVEL, POSITION, LAG, LEFT, *([ETAG] if status == 404 else [])]
    return {
        "description": " or ".join(f"`{code}`" for code in codes),
        "headers": _headers([CHALLENGE] if status == 401 else [], sometimes),
        "content": {media: {"schema": form} for media in BOTH_CODECS},
    }


def _answer(answer: Answer) -> Schema:
    told: Schema = {"description": answer.what}
    if headers := _headers(answer.always, answer.sometimes):
        told["headers"] = headers
    if answer.body is not None:
        told["content"] = {media: {"schema": _form_of(answer.body)} for media in answer.media}
    elif answer.media != BOTH_CODECS:
        told["content"] = {media: {"schema": {"type": "string"}} for media in answer.media}
    return told


def _headers(always: Iterable[str], sometimes: Iterable[str]) -> dict[str, Schema]:
    required = dict.fromkeys(always, True) | {name: False for name in sometimes if name not in set(always)}
    return {name: _header(name, required=needed) for name, needed in required.items()}


def _header(name: str, *, required: bool) -> Schema:
    if not required:
        return {"$ref": f"#/components/headers/{name}"}
    what, form = HEADERS[name]
    return {"description": what, "required": True, "schema": form}


# Schemas -------------------------------------------------------------------------------------------------------------


def _form_of(kind: Any) -> Schema:
    """Return the schema of a body: a reference, for all but plain types."""
    if kind is VALUE:
        return {"$ref": VALUE_SCHEMA}
    (form,), _ = msgspec.json.schema_components([kind], ref_template=SCHEMAS)
    return form


def _schemas() -> Schema:
    bodies = [each.body for _, each in _operations() if each.body not in (None, VALUE)]
    told = [answer.body for about, _ in _operations() for answer in about.answers.values()]
    kinds = [*bodies, *(each for each in told if each not in (None, VALUE)), *EVENT_DATA, Error]
    _, found = msgspec.json.schema_components(kinds, ref_template=SCHEMAS)
    forms = {form["$ref"].rpartition("/")[2] for form in map(_form_of, bodies)}
    for name in forms:
        # A body needs no `op`: its path says what it is.
        found[name]["required"] = [each for each in found[name]["required"] if each != "op"]
    return dict(sorted({**_VALUES, **found}.items()))


def _operations() -> Iterator[tuple[About, Operation]]:
    for methods in ROUTES.values():
        for each in methods.values():
            if each.about is not None:
                yield each.about, each
