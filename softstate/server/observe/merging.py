"""The metrics of several workers as one text, each sample with a label `worker`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from softstate.server.observe.metrics import by_label, render


def merged(texts: Mapping[int, bytes | None]) -> bytes:
    """Join texts of Prometheus's format by worker, None for one that did not answer: ``softstate_worker_up`` says so.

    Each metric has its words once, ahead of the samples of all.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for number, text in texts.items():
        for name, head, lines in _families((text or b"").decode().splitlines()):
            heads.setdefault(name, head)
            samples.setdefault(name, []).extend(_labelled(line, number) for line in lines)
    body = "".join("\n".join([*heads[name], *lines]) + "\n" for name, lines in samples.items())
    up = by_label({str(number): int(text is not None) for number, text in texts.items()})
    return body.encode() + render({}, {"worker_up": up})


def _families(lines: Iterable[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    name, head, samples = "", list[str](), list[str]()
    for line in lines:
        if line.startswith("# HELP "):
            if name:
                yield name, head, samples
            name, head, samples = line.split(" ", 3)[2], [line], []
        elif line.startswith("#"):
            head.append(line)
        else:
            samples.append(line)
    if name:
        yield name, head, samples


def _labelled(line: str, number: int) -> str:
    name, brace, rest = line.partition("{")
    if brace:
        return f'{name}{{worker="{number}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{worker="{number}"}} {value}'
