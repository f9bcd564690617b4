"""The protocol of Redis: ``SET``, alone or in a ``MULTI`` with ``PUBLISH``, over sockets without TLS."""

from __future__ import annotations

from bench.load.engines.dialect import TOPICS_MAX, Dialect, Line, Listener, Writer
from bench.load.process import LoadFailed
from bench.load.protocols import VALUE_BYTES
from softstate.store.remote.url import read_url


def resp(*words: bytes) -> bytes:
    """Return a command in RESP."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Redis(Dialect):
    """Keys ``MARK:told:N`` and ``MARK:bare:N``, and the channel ``MARK``."""

    def __init__(self, url: str, mark: str) -> None:
        parts = read_url(url, port=6379, options={"namespace"})
        (self._host, self._port), *_ = parts.hosts
        self._mark = mark.encode()
        self._greeting: list[bytes] = []
        if parts.password is not None:
            user = [parts.user.encode()] if parts.user else []
            self._greeting.append(resp(b"AUTH", *user, parts.password.encode()))
        if parts.path:
            self._greeting.append(resp(b"SELECT", parts.path.encode()))

    def writer(self) -> RedisWriter:
        """Connect."""
        return RedisWriter(self._line(), self._mark)

    def listener(self) -> RedisListener:
        """Connect and ``SUBSCRIBE``."""
        line = self._line()
        self._ask(line, resp(b"SUBSCRIBE", self._mark), 6)
        return RedisListener(line, self._mark)

    def clear(self) -> None:
        """Delete all keys that there can be."""
        keys = [_redis_key(self._mark, topic, tell) for topic in range(TOPICS_MAX) for tell in (False, True)]
        self._ask(self._line(), resp(b"DEL", *keys), 1)

    def _line(self) -> Line:
        line = Line(self._host, self._port)
        for command in self._greeting:
            self._ask(line, command, 1)
        return line

    def _ask(self, line: Line, command: bytes, lines: int) -> None:
        line.socket.sendall(command)
        while not redis_is_whole(line.receive(), lines):
            pass
        line.rest = b""


def redis_is_whole(data: bytes, lines: int) -> bool:
    """Return whether so many lines have come. Raises `LoadFailed` if one of them is an error."""
    if data.startswith(b"-") or b"\r\n-" in data:
        raise LoadFailed(f"Redis answered {data[:200]!r}")
    return data.count(b"\r\n") >= lines


def _redis_key(mark: bytes, topic: int, tell: bool) -> bytes:
    return b"%b:%b:%03d" % (mark, b"told" if tell else b"bare", topic)


class RedisWriter(Writer):
    """``SET``, alone or with ``PUBLISH`` in a transaction, sent in one write, and answered when the AOF is on disk."""

    def __init__(self, line: Line, mark: bytes) -> None:
        self.fd = line.socket.fileno()
        self._line = line
        self._mark = mark
        self._lines = 0

    def write(self, topic: int, value: bytes, *, tell: bool) -> None:
        """Send the command or the whole transaction."""
        put = resp(b"SET", _redis_key(self._mark, topic, tell), value)
        if tell:
            put = resp(b"MULTI") + put + resp(b"PUBLISH", self._mark, value) + resp(b"EXEC")
        self._lines = 6 if tell else 1  # OK, QUEUED twice, and an array of two answers
        self._line.socket.sendall(put)

    def acknowledged(self) -> bool:
        """Receive, and count the lines of the answer."""
        if not redis_is_whole(self._line.receive(), self._lines):
            return False
        self._line.rest = b""
        return True


class RedisListener(Listener):
    """A subscriber of the channel. All messages have one size, since all values have."""

    def __init__(self, line: Line, mark: bytes) -> None:
        self.fd = line.socket.fileno()
        self._line = line
        self._bytes = len(resp(b"message", mark, b"v" * VALUE_BYTES))

    def values(self) -> list[bytes]:
        """Receive, and split the data into messages."""
        data, size = self._line.receive(), self._bytes
        count = len(data) // size
        self._line.rest = data[count * size :]
        return [data[(at + 1) * size - 2 - VALUE_BYTES : (at + 1) * size - 2] for at in range(count)]
