"""The load generator, with a server that follows a script: what is found, counted, refused and lost."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.load.process import LoadFailed
from bench.peers.generator import PUBLISHERS, SUBSCRIBERS, Generator, compiled
from bench.peers.talks import Step, Talk

VALUE = b"~@~~@~#000000000000"
"""A marker after the beginning of another."""
SMALL, GREAT = 1, 65_536
"""Bytes that the generator receives at a time."""


class Server:
    """Answers S (subscribe) and P (be a publisher), and sends values, which end in ";", to subscribers: all, or `only`.

    It says `greeting` to S and `acknowledgement` to each value, and hangs up on a subscriber in place of the value
    whose number is `hangs_up`.
    """

    def __init__(self) -> None:
        self.greeting, self.acknowledgement = b"hello\n", b"done\n"
        self.only: Sequence[int] = ()
        self.hangs_up = -1
        self.acknowledged = 0
        self._subscribers: list[socket.socket] = []
        self._rest: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ending, self._end = socket.socketpair()
        for waited in (self._listener, self._ending):
            self._selector.register(waited, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._ending:
                    return
                if key.fileobj is self._listener:
                    opened, _ = self._listener.accept()
                    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._rest[opened] = b""
                    self._selector.register(opened, selectors.EVENT_READ)
                else:
                    self._hear(key.fileobj)  # type: ignore[arg-type]

    def _hear(self, opened: socket.socket) -> None:
        try:
            data = opened.recv(65_536)
        except ConnectionError:
            data = b""
        if not data:
            self._hang_up(opened)
        elif data == b"S":
            opened.sendall(self.greeting)
            if self.greeting:
                self._subscribers.append(opened)
            else:
                self._hang_up(opened)
        elif data == b"P":
            opened.sendall(b"hello\n")
        else:
            *values, self._rest[opened] = (self._rest[opened] + data).split(b";")
            for value in values:
                self._publish(opened, value)

    def _publish(self, publisher: socket.socket, value: bytes) -> None:
        number = int(value[-12:])
        if number == self.hangs_up and self._subscribers:
            self._hang_up(self._subscribers[0])
        if not self.only or number in self.only:
            for subscriber in self._subscribers:
                subscriber.sendall(b"<" + value + b">")
        publisher.sendall(self.acknowledgement)
        self.acknowledged += 1

    def _hang_up(self, opened: socket.socket) -> None:
        if opened in self._subscribers:
            self._subscribers.remove(opened)
        self._selector.unregister(opened)
        opened.close()

    def end(self) -> None:
        """End the thread, and close all."""
        self._end.send(b".")
        self._thread.join()
        for waited in list(self._selector.get_map().values()):
            waited.fileobj.close()  # type: ignore[union-attr]
        self._end.close()
        self._selector.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.end()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return {
        size: compiled(tmp_path_factory.mktemp("c"), "-O0", f"-DRECEIVE_BYTES={size}", "-Wall", "-Wextra", "-Werror")
        for size in (SMALL, GREAT)
    }


TALK = Talk(
    subscriber=lambda _topic: [Step(b"S", b"hello\n", begins=b"hel", refuse=b"full")],
    publisher=[Step(b"P", b"hello\n")],
    publish=lambda topic: topic.encode() + VALUE + b";",
    ack=b"done\n",
    refuse=b"refused",
)


def _ready(generator: Generator, subscribers: int = 3, publishers: int = 1) -> Generator:
    generator.talk(TALK, "t", "t@@@@@@")
    generator.open(SUBSCRIBERS, subscribers)
    generator.open(PUBLISHERS, publishers)
    return generator


@pytest.mark.parametrize("size", [SMALL, GREAT])
def test_values_are_found_across_reads_and_counted(server: Server, programs: dict[int, Path], size: int) -> None:
    with Generator(programs[size], server.port) as generator:
        _ready(generator)
        for _ in range(2):
            run = generator.paced(100, 0.05, 10)
            assert (run["published"], run["deliveries"], run["acks"]) == (5, 15, 5)
            assert (run["holders"], run["repeated"], run["lost"]) == (3, 0, 0)
            assert 0 <= run["p50_s"] <= run["p99_s"] < run["wall_s"]
        burst = generator.bursts(20, 2, 10)
        assert (burst["published"], burst["deliveries"], burst["late"]) == (40, 120, 0)
        assert 0 < burst["all_s"] < burst["wall_s"]
        assert burst["generator_cpu_s"] > 0


def test_values_left_out_are_not_counted_but_their_latency_is(server: Server, programs: dict[int, Path]) -> None:
    server.only = (5, 25)
    with Generator(programs[GREAT], server.port) as generator:
        _ready(generator)
        run = generator.paced(100, 0.05, 10)
        assert (run["deliveries"], run["holders"]) == (3, 3)
        assert 0.015 <= run["p50_s"] < run["p99_s"], "the first of five was due 40 ms before the one that came"
        burst = generator.bursts(20, 1, 10)
        assert (burst["deliveries"], burst["late"]) == (3, 0)
        late = generator.bursts(1, 1, 0.05)
        assert (late["deliveries"], late["late"]) == (0, 1)
        assert late["p50_s"] >= 0.049


def test_a_subscriber_that_is_lost_is_counted_and_waited_for_no_more(server: Server, programs: dict[int, Path]) -> None:
    server.hangs_up = 3
    with Generator(programs[GREAT], server.port) as generator:
        _ready(generator)
        run = generator.paced(100, 0.05, 10)
        assert (run["lost"], run["holders"], run["deliveries"]) == (1, 2, 12)
        assert generator.paced(100, 0.05, 10)["lost"] == 0


@pytest.mark.parametrize("size", [SMALL, GREAT])
def test_each_publisher_has_one_publish_under_way(server: Server, programs: dict[int, Path], size: int) -> None:
    with Generator(programs[size], server.port) as generator:
        _ready(generator, 0, 4)
        run = generator.closed(0.05)
        assert 4 <= run["acks"] <= server.acknowledged <= run["acks"] + 4
        assert 0 < run["p50_s"] <= run["p99_s"]


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"full: go away\n", r"the server refused step 1 of a handshake, after 14 bytes: full: go away\\x0a"),
        (b"what?\n", "refused step 1 of a handshake, after 6 bytes: what"),
        (b"", "closed by the server in step 1 of a handshake, after 0 bytes"),
    ],
)
def test_a_handshake_that_is_refused_is_told_in_the_words_of_the_server(
    server: Server, programs: dict[int, Path], greeting: bytes, said: str
) -> None:
    server.greeting = greeting
    with Generator(programs[GREAT], server.port) as generator:
        generator.talk(TALK, "t", "t")
        with pytest.raises(LoadFailed, match=said):
            generator.open(SUBSCRIBERS, 2)
        with pytest.raises(LoadFailed, match="ended"):
            generator.quiet(0)


def test_a_publish_that_is_refused_and_a_server_that_is_not_there_are_told(
    server: Server, programs: dict[int, Path]
) -> None:
    server.acknowledgement = b'refused: "no"\n'
    with Generator(programs[GREAT], server.port) as generator:
        _ready(generator)
        with pytest.raises(LoadFailed, match=r'the server refused a publish, after 14 bytes: refused: "no"'):
            generator.paced(100, 0.05, 10)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()[1]
    with Generator(programs[GREAT], nobody) as generator:
        generator.talk(TALK, "t", "t")
        with pytest.raises(LoadFailed, match="Connection refused"):
            generator.open(SUBSCRIBERS, 1)


def test_a_run_without_a_publisher_or_an_unknown_command_is_told(programs: dict[int, Path]) -> None:
    for words, said in ((("paced", 1, 1, 1), "open one first"), (("dance", 1), "no command dance with 1 words")):
        with Generator(programs[GREAT], 1) as generator, pytest.raises(LoadFailed, match=said):
            generator.ask(*words)
