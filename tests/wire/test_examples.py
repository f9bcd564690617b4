"""The codecs against the examples that are kept as data for every language."""

import copy
from typing import Any

import cbor2
import msgspec
import pytest

from softstate.errors import ERRORS_BY_CODE, Invalid, Unsupported
from softstate.position import REVISION_MAX, Position
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import (
    DURATION_MS_MAX,
    ID_CHARS_MAX,
    KEY_CHARS_MAX,
    NAME_CHARS_MAX,
    TOKEN_CHARS_MAX,
    Hello,
    Notify,
    Publish,
    Subscribe,
)
from tests.wire.example_files import EXAMPLES, KINDS, REFUSED, Example, Refused, json_text, write
from tests.wire.fields import FIELDS, Field

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
EACH = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)


def steps(path: str) -> list[str | int]:
    return [int(step) if step.isdigit() else step for step in path.split(".")]


def place(path: str) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps(path))


def holder(fields: Any, path: str) -> Any:
    """Find what holds the last step of a path, or None where this example has no such thing."""
    for step in steps(path)[:-1]:
        try:
            fields = fields[step]
        except (KeyError, IndexError):
            return None
    return fields


def has(example: Example, field: Field) -> bool:
    where = holder(example.fields, field.path)
    return where is not None and steps(field.path)[-1] in where


def examples_of(field: Field) -> list[Example]:
    """List the examples in which the field, or the map that it belongs to, can stand."""
    return [
        example
        for example in EXAMPLES
        if (example.sender, example.op) == (field.sender, field.op) and holder(example.fields, field.path) is not None
    ]


def with_value(example: Example, path: str, value: object) -> dict[str, Any]:
    fields = copy.deepcopy(example.fields)
    holder(fields, path)[steps(path)[-1]] = value
    return fields


def test_each_operation_has_a_file_of_its_own_and_each_example_a_name() -> None:
    assert {(example.sender, example.op) for example in EXAMPLES} == set(KINDS)
    assert all(example.name.startswith(f"{example.op}: ") for example in EXAMPLES)
    assert len({example.name for example in EXAMPLES}) == len(EXAMPLES)


@EACH
def test_the_object_has_what_the_map_has_and_defaults_for_the_rest(example: Example) -> None:
    message = msgspec.to_builtins(example.message, builtin_types=(bytes,))
    expected = {name: value for name, value in example.fields.items() if name in message}
    if example.fields.get("changes"):
        assert "changes" in message
        filled = [{"value": None, "deleted": False, **change} for change in example.fields["changes"]]
        message["changes"] = [dict(sorted(change.items())) for change in message["changes"]]
        expected["changes"] = [dict(sorted(change.items())) for change in filled]
    assert json_text(dict(sorted(message.items()))) == json_text(dict(sorted(expected.items())))
    assert {name for name in example.fields if name not in message} <= {"changes"}  # left out where it is empty
    assert type(example.message) is KINDS[example.sender, example.op]


def test_some_objects_spelt_out() -> None:
    def message(name: str) -> object:
        return next(example.message for example in EXAMPLES if example.name == name)

    at = Position("e5c1", "9f0a", 41)
    assert message("hello: a new client") == Hello()
    assert message("hello: resume") == Hello(position=at, session="s3cret", since=39)
    assert message("subscribe: the whole set") == Subscribe(2, {"a": 38, "b/c": 0}, {"b/": 12, "/": 0}, replace=True)
    assert message("publish: null") == Publish(6, "a", None)
    assert message("publish: bytes") == Publish(6, "a", b"\x01")
    assert message("publish: a deletion") == Publish(6, "a", deleted=True)
    assert message("notify: unknown") == Notify("a", 0, unknown=True)


@EACH
@BOTH
def test_what_one_side_encodes_the_other_side_decodes(codec: Codec, example: Example) -> None:
    assert example.decode(codec, example.encode(codec)) == example.message
    assert example.decode(codec, codec.encode(example.message)) == example.message
    assert example.decode(codec, write(codec, example.fields)) == example.message


@EACH
def test_the_json_text_is_exact(example: Example) -> None:
    assert example.encode(JSON).decode() == example.json
    assert example.decode(JSON, example.json) == example.message


@EACH
def test_plain_cbor2_reads_the_same_fields_in_the_same_order(example: Example) -> None:
    assert example.encode(CBOR).hex() == cbor2.dumps(example.fields).hex() == example.cbor.hex()
    decoded = cbor2.loads(example.encode(CBOR))
    assert decoded == example.fields
    assert list(decoded) == list(example.fields)
    assert msgspec.json.encode(decoded) == msgspec.json.encode(example.fields)  # True is not 1 here


TEXTS = {
    "hello: a new client": '{"op":"hello"}',
    "subscribe: the whole set": """
        {"op":"subscribe","id":2,"topics":{"a":38,"b/c":0},"prefixes":{"b/":12,"/":0},"replace":true}
    """,
    "notify: a value": """
        {"op":"notify","topic":"a","version":41,"value":{"state":"paid","lines":[1,2.5,null,true],"raw":{"$bytes":"AP8="},"für":"naïve ☃ 𝄞"}}
    """,  # noqa: E501
    "error: rewound": """
        {"op":"error","code":"rewound","message":"version 50 of 'a' is above what the store holds: forget what you hold and begin at e5c1.9f0a.41","id":9,"position":{"epoch":"e5c1","lineage":"9f0a","revision":41}}
    """,  # noqa: E501
}


@pytest.mark.parametrize("name", TEXTS)
def test_some_texts_letter_by_letter(name: str) -> None:
    [example] = [example for example in EXAMPLES if example.name == name]
    assert example.json == TEXTS[name].strip()
    assert example.encode(JSON).decode() == TEXTS[name].strip()


NOTIFIES = [each for each in EXAMPLES if isinstance(each.message, Notify) and not each.message.unknown]


@pytest.mark.parametrize("example", NOTIFIES, ids=lambda example: example.name)
@BOTH
def test_a_notify_made_from_a_record_is_the_same_to_the_byte(codec: Codec, example: Example) -> None:
    [record] = example.records
    assert codec.notify(record) == example.encode(codec)


@EACH
@BOTH
def test_unknown_fields_are_ignored_in_every_map(codec: Codec, example: Example) -> None:
    fields = copy.deepcopy(example.fields)
    maps = [fields, *(fields[key] for key in ("position", "poll", "recover", "limits") if key in fields)]
    if example.op in ("subscribed", "polled"):
        maps += fields["changes"]
    for each in maps:
        each["from_the_future"] = {"deep": [1, {"$bytes": 5}, None]}
        each["op2"] = "nope"
    assert example.decode(codec, write(codec, fields)) == example.message


@pytest.mark.parametrize("op", ["", "nope", "Hello", "welcome", "notify", "x" * 5_000, "$.op"])
@BOTH
def test_an_unknown_request_is_unsupported(codec: Codec, op: str) -> None:
    with pytest.raises(Unsupported, match="unknown op"):
        codec.client_message(write(codec, {"op": op, "id": 1}))


@pytest.mark.parametrize("op", ["", "nope", "hello", "subscribe"])
@BOTH
def test_an_unknown_reply_is_unsupported(codec: Codec, op: str) -> None:
    with pytest.raises(Unsupported, match="unknown op"):
        codec.server_message(write(codec, {"op": op, "id": 1}))


@pytest.mark.parametrize("fields", [{}, {"op": None}, {"op": 5}, {"op": ["hello"]}, {"op": True}, {"id": 1}], ids=repr)
@BOTH
def test_an_op_that_is_missing_or_no_text_is_invalid(codec: Codec, fields: dict[str, Any]) -> None:
    for decode in (codec.client_message, codec.server_message):
        with pytest.raises(Invalid, match=r"`op`|`\$\.op`"):
            decode(write(codec, fields))


@pytest.mark.parametrize("field", FIELDS, ids=str)
@BOTH
def test_a_wrong_value_is_refused_by_name(codec: Codec, field: Field) -> None:
    examples = [example for example in examples_of(field) if has(example, field)]
    for deeper, wrong in field.wrong:
        for example in examples:
            with pytest.raises(Invalid) as caught:
                example.decode(codec, write(codec, with_value(example, field.path, wrong)))
            assert f"`{place(field.path)}{deeper}`" in caught.value.message


@pytest.mark.parametrize("field", [field for field in FIELDS if "value" not in field.path], ids=str)
@BOTH
def test_null_is_either_as_good_as_nothing_or_refused_by_name(codec: Codec, field: Field) -> None:
    for example in examples_of(field):
        data = write(codec, with_value(example, field.path, None))
        if not field.null:
            with pytest.raises(Invalid) as caught:
                example.decode(codec, data)
            assert f"`{place(field.path)}`" in caught.value.message
        elif not has(example, field):
            assert example.decode(codec, data) == example.message
        else:
            left_out = copy.deepcopy(example.fields)
            del holder(left_out, field.path)[steps(field.path)[-1]]
            assert example.decode(codec, data) == example.decode(codec, write(codec, left_out))


@pytest.mark.parametrize("field", [field for field in FIELDS if not field.optional], ids=str)
@BOTH
def test_a_missing_field_is_refused_by_name(codec: Codec, field: Field) -> None:
    for example in examples_of(field):
        fields = copy.deepcopy(example.fields)
        del holder(fields, field.path)[steps(field.path)[-1]]
        with pytest.raises(Invalid, match=f"`{steps(field.path)[-1]}`"):
            example.decode(codec, write(codec, fields))


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_every_field_has_an_example_with_it_and_optional_ones_one_without(field: Field) -> None:
    present = {has(example, field) for example in examples_of(field)}
    assert present == ({True, False} if field.optional and not field.path.startswith("changes") else {True})


def test_the_tables_know_every_operation_and_every_field() -> None:
    for (sender, op), kind in KINDS.items():
        known = {field.path for field in FIELDS if (field.sender, field.op) == (sender, op)}
        assert {path for path in known if "." not in path} == set(kind.__struct_fields__), op


def test_the_examples_know_every_error_code() -> None:
    assert {example.fields["code"] for example in EXAMPLES if example.op == "error"} == set(ERRORS_BY_CODE)


@pytest.mark.parametrize(
    ("fields", "optional"),
    [
        (
            {"op": "hello"},
            {"position": None, "session": None, "since": None, "ttl_ms": None, "token": None, "name": ""},
        ),
        ({"op": "subscribe", "id": 1}, {"topics": {}, "prefixes": {}, "replace": False}),
        ({"op": "publish", "id": 1, "topic": "a", "value": 1}, {"deleted": False, "expect": None, "key": None}),
    ],
    ids=["hello", "subscribe", "publish"],
)
@BOTH
def test_a_default_spelt_out_is_the_same_as_one_left_out(
    codec: Codec, fields: dict[str, Any], optional: dict[str, Any]
) -> None:
    assert codec.client_message(write(codec, {**fields, **optional})) == codec.client_message(write(codec, fields))


@pytest.mark.parametrize("extra", [{}, {"value": None, "deleted": True}, {"value": 1, "deleted": True}], ids=repr)
@BOTH
def test_a_publish_has_either_a_value_or_is_a_deletion(codec: Codec, extra: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="publish needs either value or deleted"):
        codec.client_message(write(codec, {"op": "publish", "id": 1, "topic": "a", **extra}))


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"deleted": False},
        {"value": 1, "deleted": True},
        {"value": 1, "unknown": True},
        {"deleted": True, "unknown": True},
        {"value": None, "deleted": True, "unknown": True},
    ],
    ids=repr,
)
@BOTH
def test_a_notify_says_exactly_one_thing(codec: Codec, extra: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="notify needs one of"):
        codec.server_message(write(codec, {"op": "notify", "topic": "a", "version": 1, **extra}))


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "hello", "ttl_ms": DURATION_MS_MAX, "since": REVISION_MAX},
        {"op": "hello", "session": "é" * ID_CHARS_MAX, "token": "t" * TOKEN_CHARS_MAX, "name": "𝄞" * NAME_CHARS_MAX},
        {"op": "hello", "position": {"epoch": "e", "lineage": "l", "revision": REVISION_MAX}},
        {"op": "subscribe", "id": "é" * ID_CHARS_MAX, "topics": {"a": REVISION_MAX}},
        {"op": "renew", "id": REVISION_MAX, "digest": "f" * 16, "count": REVISION_MAX},
        {"op": "publish", "id": 0, "topic": "a", "value": 2**63 - 1, "key": "k" * KEY_CHARS_MAX},
        {"op": "publish", "id": "", "topic": "a", "value": -(2**63), "key": "k"},
    ],
)
@BOTH
def test_values_at_their_limits_are_accepted(codec: Codec, fields: dict[str, Any]) -> None:
    message = codec.client_message(write(codec, fields))
    assert cbor2.loads(CBOR.encode(message)) == fields


# Refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", [each for each in REFUSED if each.sender == "node"], ids=lambda each: each.name)
@BOTH
def test_what_no_node_may_send_is_refused(codec: Codec, refused: Refused) -> None:
    with pytest.raises((Invalid, Unsupported)) as caught:
        codec.server_message(write(codec, refused.fields))
    assert caught.value.code == refused.code
    assert refused.names in caught.value.message


def test_every_operation_that_can_be_wrong_has_a_message_that_is_refused() -> None:
    covered = {(each.sender, each.fields.get("op")) for each in REFUSED}
    assert set(KINDS) - covered == {("client", "bye")}  # which has no field
