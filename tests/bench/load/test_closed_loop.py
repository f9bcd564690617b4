"""The closed loop: requests from templates, the end of an answer, and unexpected answers."""

from __future__ import annotations

import pytest

from bench.load.closed_loop import CONNECTION, SEQUENCE, http_is_whole, template
from bench.load.process import LoadFailed, LoadProcess
from bench.measure.servers import python_server
from bench.speed.polls import head


def test_a_template_is_filled_without_changing_any_length() -> None:
    text = b"<" + CONNECTION + b"|" + SEQUENCE + b"|" + SEQUENCE + b">"
    made = template(text, 7)
    assert made(1) == b"<000007|0000000001|0000000001>"
    assert made(12) == b"<000007|0000000012|0000000012>"
    assert len(made(1)) == len(text)
    assert template(b"fixed", 7)(1) == b"fixed"


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length"])
def test_an_answer_is_whole_with_its_last_byte(name: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + name + b": 5\r\nVary: Accept\r\n\r\n12345"
    assert http_is_whole(answer)
    assert not any(http_is_whole(answer[:size]) for size in range(len(answer)))
    assert http_is_whole(b"HTTP/1.1 304 Not Modified\r\nVary: Accept\r\n\r\n")


def test_answers_are_counted_and_unexpected_ones_refused() -> None:
    with python_server("bench.load.servers.h11_server") as server, LoadProcess("bench.load.closed_loop") as generator:
        generator.ask("open", port=server.port, connections=3, protocol="http")
        answer = generator.ask("once", request=head("GET", "/200/7"))["answer"]
        assert answer.startswith("HTTP/1.1 200")
        assert answer.endswith("\r\n\r\n" + "\0" * 7)
        run = generator.ask("ask", request=head("GET", "/304/0"), seconds=0.05, good="HTTP/1.1 304 ")
        assert run["answers"] >= 3
        assert 0 < run["p50_s"] <= run["p99_s"] <= run["wall_s"]
        paced = generator.ask("pace", request=head("GET", "/304/0"), per_s=50, seconds=0.1, good="HTTP/1.1 304 ")
        assert paced["answers"] == 5
        assert paced["wall_s"] >= 4 / 50
        with pytest.raises(LoadFailed, match=r"unexpected answer: .*404"):
            generator.ask("ask", request=head("GET", "/404/0"), seconds=0.05, good="HTTP/1.1 200 ")
