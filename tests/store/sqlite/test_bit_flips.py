"""Files with flipped bits: refused when they are opened, or down with what to do, or right in all they serve.

Each file is read, written and looked at in every way there is. A fault of the whole file is one of the store's own
errors; a value that is served was published under that name, at that version.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from softstate.errors import RequestError, StoreFault, StoreRefused, Unavailable
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.store.base import Applied, Dump, Number, Write
from softstate.store.sqlite.store import SqliteStore

FILES, MORE_FILES = 200, 1_000
"""Files in each run, and more of them where thorough tests are run."""

PER_TEST = 10

SIZES = {"small": (8, 20), "many": (400, 40), "long": (24, 6_000), "log": (120, 200)}
"""How many topics a file holds, and how long their values are at most. In "log" all that was written is in the log."""

Published = set[tuple[str, int, bytes | None]]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Published]]:
    """Write each kind of file once, always the same, and return it with everything that was published."""
    import trio  # noqa: PLC0415 - of this fixture alone, which runs outside of a loop

    folder = tmp_path_factory.mktemp("originals")
    return {kind: trio.run(written, folder / f"{kind}.db", kind) for kind in SIZES}


async def written(path: Path, kind: str) -> tuple[Path, Published]:
    random = Random(kind)
    topics, length = SIZES[kind]
    names = [f"{random.choice('abc')}/{number}" for number in range(topics)]
    store = await SqliteStore.open(str(path), random=Random(kind))
    published: Published = set()
    for round_ in range(3):
        group = [
            Write(
                name,
                None if random.random() < 0.1 else random.randbytes(random.randrange(length)),
                key=f"k{round_}" if random.random() < 0.2 else None,
                number=Number(f"p{number % 5}", 3 * number + round_ + 1, 0) if random.random() < 0.5 else None,
            )
            for number, name in enumerate(names)
            if round_ == 0 or random.random() < 0.5
        ]
        done = await store.publish(group)
        published |= {(record.topic, record.version, record.cbor) for record in done.records}
        await store.reopen()
    if kind == "log":
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{path}.copy{ending}")
    await store.aclose()
    if kind == "log":
        for ending in ("", "-wal"):
            shutil.move(f"{path}.copy{ending}", f"{path}{ending}")
    return path, published


def copied(source: Path, target: Path) -> list[Path]:
    """Copy a file, and its log if it has one; return the copies."""
    endings = [ending for ending in ("", "-wal") if Path(f"{source}{ending}").exists()]
    return [Path(shutil.copy(f"{source}{ending}", f"{target}{ending}")) for ending in endings]


def flipped(source: Path, target: Path, random: Random) -> str:
    """Copy a file and its log, with 1 or 20 bits of one of the two flipped; return what was done."""
    hit = random.choice(copied(source, target))
    data = bytearray(hit.read_bytes())
    bits = sorted(random.randrange(len(data) * 8) for _ in range(random.choice([1, 20])))
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    hit.write_bytes(data)
    return f"{source.name}: bits {bits} of {hit.name}"


@pytest.mark.parametrize("first", range(0, FILES, PER_TEST))
async def test_a_damaged_file_serves_what_was_published_or_says_what_to_do(
    first: int, originals: dict[str, tuple[Path, Published]], tmp_path: Path
) -> None:
    for seed in range(first, first + PER_TEST):
        await damage_and_use(seed, originals, tmp_path)


@pytest.mark.parametrize("first", range(FILES, FILES + MORE_FILES, PER_TEST))
async def test_more_damaged_files_do(first: int, originals: dict[str, tuple[Path, Published]], tmp_path: Path) -> None:
    for seed in range(first, first + PER_TEST):
        await damage_and_use(seed, originals, tmp_path)


async def damage_and_use(seed: int, originals: dict[str, tuple[Path, Published]], folder: Path) -> None:
    random = Random(seed)
    source, published = originals[random.choice(list(SIZES))]
    path = folder / f"{seed}.db"
    what = f"seed {seed}: {flipped(source, path, random)}"
    print(what)
    try:
        store = await SqliteStore.open(str(path), random=random)
    except (StoreRefused, Unavailable) as error:
        check_says_what_to_do(error, what)
        return
    try:
        await use(store, published, random, what)
    finally:
        await store.aclose()


def check_says_what_to_do(error: StoreFault | Unavailable, what: str) -> None:
    advices = ("restore a backup", "name another file", "reopen", "softstate store")
    assert any(advice in str(error) for advice in advices), (what, error)


async def use(store: SqliteStore, published: Published, random: Random, what: str) -> None:
    """Use a store in every way. Any error but the store's own comes through, and so fails the test."""
    topics = sorted({topic for topic, _, _ in published})
    served: list[Record] = []

    async def read(query: Query) -> None:
        (page,) = await store.read([query])
        if isinstance(page, Page):
            served.extend(page.records)

    async def publish(write: Write) -> None:
        (verdict,) = (await store.publish([write])).verdicts
        assert isinstance(verdict, Applied | RequestError)
        if isinstance(verdict, Applied) and verdict.changed and not verdict.repeated:
            published.add((write.topic, verdict.version, write.cbor))

    async def dump() -> None:
        page: Dump | None = None
        while page is None or page.more:
            page = await store.dump(page.upto if page else 0, 100)
            served.extend(page.records)

    async def feed() -> None:
        position = await store.head()
        (lineage,) = await store.lineage_at([position.revision - 5])
        if lineage is not None:
            served.extend((await store.feed(type(position)(position.epoch, lineage, position.revision - 5))).records)

    published = set(published)
    calls: Sequence[Callable[[], Awaitable[object]]] = [
        *(lambda prefix=prefix: read(Query(prefixes={prefix: 0}, limit=1000)) for prefix in (ALL, "a/", "b/", "c/")),
        lambda: read(Query(topics=dict.fromkeys(topics, 0), limit=1000)),
        lambda: read(Query(topics=dict.fromkeys(random.sample(topics, 5), 3), prefixes={"a/": 7})),
        dump,
        feed,
        store.head,
        store.info,
        store.audit,
        *(
            lambda topic=topic, expect=expect: publish(Write(topic, b"\x05", expect=expect))
            for topic, expect in zip(random.sample(topics, 3), (None, 0, 7), strict=True)
        ),
        lambda: publish(Write(random.choice(topics), None, number=Number("p1", 10_000, 9_999))),
        lambda: publish(Write("new", b"\x06", key="k1")),
        lambda: store.compact(tombstones=10, keys=10),
        lambda: store.lineage_at(range(20)),
        lambda: read(Query(prefixes={ALL: 0}, limit=1000)),
        store.reopen,
        lambda: read(Query(prefixes={ALL: 0}, limit=1000)),
    ]
    for call in calls:
        try:
            await call()
        except (StoreFault, Unavailable) as error:
            check_says_what_to_do(error, what)
        except RequestError:
            pass
    for record in served:
        if not record.unreadable:
            assert (record.topic, record.version, record.cbor) in published, (what, record)


async def test_the_files_themselves_are_sound(originals: dict[str, tuple[Path, Published]], tmp_path: Path) -> None:
    """Without a flipped bit everything is served, so that the test above proves something."""
    for path, published in originals.values():
        copied(path, tmp_path / path.name)
        store = await SqliteStore.open(str(tmp_path / path.name))
        assert await store.audit() == []
        newest = {topic: (version, cbor) for topic, version, cbor in sorted(published, key=lambda each: each[1])}
        (page,) = await store.read([Query(prefixes={ALL: 0}, limit=1000, limit_bytes=2**30)])
        assert isinstance(page, Page)
        found = {record.topic: (record.version, record.cbor) for record in page.records}
        assert found == {topic: (version, cbor) for topic, (version, cbor) in newest.items() if cbor is not None}
        await store.aclose()
