"""Targets that need no connection: codecs, the small grammars of headers, files of changes, configuration."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import h11
import trio

from bench.trials.fuzz.mutation import ODD_JSON, as_json, damage, draw, form_of, mutate, value
from bench.trials.fuzz.target import Broken, Target, check_length
from softstate.cli import exit_codes, run
from softstate.cli.options.layers import PREFIX
from softstate.cli.terminal.ndjson_lines import BadLine, ChangeFile
from softstate.client.requests.reply import retry_after_ms
from softstate.client.url import parse_url
from softstate.errors import ConfigError, Invalid, RequestError
from softstate.model import Query
from softstate.names import check_prefix, check_topic
from softstate.position import Position
from softstate.server.config.hosts import host_of, origin_of
from softstate.server.http.arguments import Number, Text, read_query
from softstate.server.http.message import Request, decode_segment
from softstate.server.http.validators import Cursor, parse_strong, parse_tags
from softstate.wire import CBOR, JSON, Codec, check_batch, digest_of, digest_text, encode_value
from softstate.wire.messages import Batch, BatchResults, ClientMessage, Error, Poll, Polled, Publish, ServerMessage

KINDS: Sequence[Any] = (ClientMessage, ServerMessage, Poll, Batch, BatchResults, Polled, Error)


class CodecTarget(Target):
    """All decoders of one codec: messages of both sides, bodies of HTTP, values."""

    codec: Codec

    def make(self, random: Random) -> bytes:
        """Draw a message, mutate its tree, damage its bytes, each only sometimes."""
        write, odd = form_of(self.codec)
        tree = draw(random.choice(KINDS), random)
        for _ in range(random.choice([0, 1, 1, 2, 5])):
            tree = mutate(tree, random, odd)
        data = write(tree)
        return damage(data, random, [write(draw(random.choice(KINDS), random))]) if random.random() < 0.5 else data

    async def check(self, data: bytes) -> str:
        """Decode as each kind; a client's message must equal the message decoded from its encoding."""
        outcome = "refused"
        for decode in (self._client, self._server, self._body, self._value):
            try:
                decode(data)
            except RequestError as error:
                check_length(error.message)
            else:
                outcome = "understood"
        return outcome

    def _client(self, data: bytes) -> None:
        message = self.codec.client_message(data)
        if isinstance(message, Publish) and not message.deleted:
            encode_value(message.value)
        again = self.codec.client_message(self.codec.dumps(message))
        if again != message:
            raise Broken(f"{message} came back as {again}")

    def _server(self, data: bytes) -> None:
        self.codec.server_message(data)

    def _body(self, data: bytes) -> None:
        for kind in (Poll, Polled, Error, BatchResults):
            try:
                self.codec.loads(data, kind)
            except Invalid as error:
                check_length(error.message)
        for change in check_batch(self.codec.loads(data, Batch)).changes:
            if not change.deleted:
                encode_value(change.value)

    def _value(self, data: bytes) -> None:
        item = self.codec.loads(data, object)
        stored = encode_value(item)
        for codec in (CBOR, JSON):
            if codec.loads(codec.value(stored), object) != item:
                raise Broken(f"{item!r} does not survive {codec.name}")


class CborTarget(CodecTarget):
    """The CBOR codec."""

    name = "cbor"
    codec = CBOR


class JsonTarget(CodecTarget):
    """The JSON codec."""

    name = "json"
    codec = JSON


SMALL = (
    b"cafe.f00d.41", b'"cafe.f00d.41"', b'W/"a", "b" , ,"c"', b"*", b"1f-2-AbCdEfGh-AbCdEfGh.cafe.f00d.29", b"120",
    b"orders/42", b"orders/", b"f%C3%BCr/%E2%98%83", b"prefix=a%2Fb/&since=12&limit=5&cursor=&at_least=0",
    b"ws://127.0.0.1:8700", b"https://user@[::1]:443/base/v1?x#y", b"ws://node.example/%zz",
    b"application/cbor;q=0.9, application/json;q=0.1, */*",
)  # fmt: skip


class NamesTarget(Target):
    """The small grammars: positions, entity tags, cursors, names, query strings, URLs, digests."""

    name = "names"

    def make(self, random: Random) -> bytes:
        """Damage an example of one of them."""
        return damage(random.choice(SMALL), random, SMALL)

    async def check(self, data: bytes) -> str:
        """Read it as each. The only errors are `Invalid` and `ConfigError`; positions survive."""
        text = data.decode("utf-8", "surrogateescape")
        latin = data.decode("latin-1")
        readers: list[Callable[[], object]] = [
            lambda: _same(Position.parse(text)),
            lambda: parse_tags(latin, "If-None-Match"),
            lambda: parse_strong(latin),
            lambda: Cursor.parse(text, Query({"a": 1}, {"b/": 2})),
            lambda: digest_text(digest_of([check_topic(text)])),
            lambda: digest_text(digest_of([check_prefix(text)])),
            lambda: decode_segment(latin),
            lambda: read_query(latin, {"since": Number(), "prefix": Text(9)}),
            lambda: host_of(latin),
            lambda: origin_of(text),
            lambda: Request("GET", "/", headers={b"accept": data, b"content-type": data}).accepted(),
            lambda: retry_after_ms([(b"retry-after", data)]),
            lambda: _reachable(text),
        ]
        understood = 0
        for read in readers:
            try:
                read()
                understood += 1
            except Invalid as error:
                check_length(error.message)
            except ConfigError:
                pass  # quotes the user's own text, of any length
        return f"read as {understood}"


def _same(position: Position | None) -> None:
    if position is not None and Position.parse(str(position)) != position:
        raise Broken(f"{position} differs from what is read of its text")


def _reachable(text: str) -> None:
    url = parse_url(text)
    h11.Request(method="GET", target=url.target("/v1/ws"), headers=[("Host", url.authority)])


class NdjsonTarget(Target):
    """A file of changes, plain or compressed."""

    name = "ndjson"

    def make(self, random: Random) -> bytes:
        """Write some changes, mutate some of them, damage the file."""
        trees: list[Any] = [{"topic": "a", "value": value(random)} for _ in range(random.randrange(1, 4))]
        trees.append({"topic": "b", "deleted": True})
        data = b"\n".join(as_json(mutate(tree, random, ODD_JSON) if random.random() < 0.3 else tree) for tree in trees)
        if random.random() < 0.05:
            data = b"[" * random.choice([500, 5_000, 60_000]) + data
        return damage(data, random, [b"\x1f\x8b\x08\x00", data]) if random.random() < 0.7 else data

    async def check(self, data: bytes) -> str:
        """Read to the end, or to a `BadLine` that names its line."""
        lines = 0
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(data)
            file.seek(0)
            try:
                changes = ChangeFile(file)
                while (batch := changes.batch()) is not None:
                    for line in batch:
                        encode_value(line.value, 2**30)
                        lines += 1
            except BadLine as error:
                check_length(error.message)
                if error.number < 1 or not str(error).startswith(f"line {error.number}: "):
                    raise Broken(f"the error does not name its line: {error}") from None
                return "refused"
        return "read"


SETTINGS = (
    b'ttl = "60s"\nlisten = "127.0.0.1:8700"\norigin = ["http://a", "http://b"]\n',
    b'store = "memory:"\nrole = "poll"\nvalue_bytes_max = 1000\nhead_s_max = 2.5\nallow_anonymous = true\n',
    b'drain = "10m"\nhandshakes_per_s = 1e3\nlog_format = "json"\nlisten = "[::]:0"\n',
    b"sessions_max = 0x10\nidle_s_max = inf\nttl = 1979-05-27\n[table]\nx = {}\n",
)
VARIABLES = (
    b"SOFTSTATE_TTL=60s", b"SOFTSTATE_LISTEN=a..b:1", b"SOFTSTATE_STORE=memory:\xff", b"SOFTSTATE_TTT=x",
    b"SOFTSTATE_ORIGIN=a b", b"SOFTSTATE_SESSIONS_MAX=" + b"9" * 400, b"SOFTSTATE_ALLOW_ANONYMOUS=maybe",
    b"SOFTSTATE_DRAIN=" + b"9" * 400 + b"h", b"SOFTSTATE_HEAD_S_MAX=nan",
)  # fmt: skip


class ConfigTarget(Target):
    """``softstate serve --check``: bytes before the first NUL are an environment variable, the rest is the file."""

    name = "config"

    def make(self, random: Random) -> bytes:
        """Damage a variable, a file, or both."""
        setting = random.choice([*SETTINGS, b"a = " + b"[" * random.choice([10, 5_000])])
        variable = random.choice(VARIABLES) if random.random() < 0.3 else b""
        if random.random() < 0.8:
            setting = damage(setting, random, SETTINGS)
        elif variable:
            variable = damage(variable, random, VARIABLES).replace(b"\0", b"")
        return variable + b"\0" + setting

    async def check(self, data: bytes) -> str:
        """Check: exit code 2 and one line on stderr, or exit code 0."""
        variable, _, text = data.partition(b"\0")
        name, equals, content = os.fsdecode(variable).partition("=")
        said = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        complained = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
        kept = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith(PREFIX)}
        with tempfile.TemporaryDirectory(prefix="softstate-fuzz-") as folder:
            path = Path(folder) / "node.toml"
            path.write_bytes(text)
            if equals and name.startswith(PREFIX) and not name.endswith("_CHECK"):
                os.environ[name] = content
            try:
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
                    # In a thread, since the command calls trio.run.
                    code = await trio.to_thread.run_sync(run, ["serve", "--check", "--config", str(path)])
            finally:
                if name.startswith(PREFIX):
                    os.environ.pop(name, None)
                os.environ.update(kept)
        complaint = complained.buffer.getvalue() if isinstance(complained.buffer, io.BytesIO) else b""
        if code not in (exit_codes.OK, exit_codes.USAGE) or complaint.count(b"\n") != (code != exit_codes.OK):
            raise Broken(f"exit code {code}, and printed: {complaint[:400]!r}")
        return "valid" if code == exit_codes.OK else "refused"
