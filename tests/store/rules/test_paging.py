"""`answer` against a brute-force model, and against a client that pages while the store changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from hypothesis import given, settings, strategies as st

from softstate.errors import Rewound
from softstate.model import PAGE_BYTES_MAX, Page, Query, Record
from softstate.names import ALL, covers
from softstate.store.base import KEYS_MAX, Write
from softstate.store.memory.store import MemoryImage
from softstate.store.rules.paging import answer, feed_page

TOPICS = ["a", "p/a", "p/b", "p/c/d", "p/c/e", "q/a", "q/b"]
PREFIXES = [ALL, "p/", "p/c/", "q/"]

PAGES_MAX = 200
"""No answer here can take more pages, restarts included: then something restarts without end."""

Step: TypeAlias = tuple[str, str, int]
"""Changes of the store: ("put" or "delete", topic, _), ("compact", _, how many revisions below the head)."""

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "put", "delete"]), st.sampled_from(TOPICS), st.just(0)),
        st.tuples(st.just("compact"), st.just(""), st.integers(0, 6)),
    ),
    max_size=14,
)


def new_image() -> MemoryImage:
    image = MemoryImage("epoch")
    image.open("first")
    return image


def play(image: MemoryImage, steps: list[Step]) -> None:
    for what, topic, below in steps:
        if what == "compact":
            image.compact(image.head - below, 0)
        else:
            cbor = None if what == "delete" else str(image.head).encode()
            image.apply(Write(topic, cbor), KEYS_MAX)


def page_of(query: Query, image: MemoryImage) -> Page:
    page = answer(query, image)
    assert isinstance(page, Page), page
    return page


def wanted(query: Query, image: MemoryImage) -> list[Record]:
    """The first page without limits, by looking at every topic there is."""
    found: dict[str, Record] = {}
    for topic, held in query.topics.items():
        if topic not in image.latest:
            if 0 < held < image.floor:
                found[topic] = Record(topic, image.floor, None)
        elif image.latest[topic] > held and (held or not image.records[image.latest[topic]].deleted):
            found[topic] = image.records[image.latest[topic]]
    for prefix, since in query.prefixes.items():
        since = 0 if since < image.floor else since
        for topic, version in image.latest.items():
            if covers(prefix, topic) and version > since and (since or not image.records[image.latest[topic]].deleted):
                found[topic] = image.records[image.latest[topic]]
    return sorted(found.values(), key=lambda record: (record.version, record.topic))


@dataclass
class Knower:
    """A client as PROTOCOL.md has it: it knows the store as of some revision, and asks for the rest."""

    versions: dict[str, int]
    values: dict[str, bytes | None]
    revision: int
    answers: int = 0
    listed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, image: MemoryImage) -> Knower:
        records = list(image.records.values())
        return cls({r.topic: r.version for r in records}, {r.topic: r.cbor for r in records}, image.head)

    def query(self, topics: set[str], prefixes: dict[str, bool], limit: int) -> Query:
        since = {prefix: self.revision if known else 0 for prefix, known in prefixes.items()}
        return Query({topic: self.versions.get(topic, 0) for topic in topics}, since, limit=limit)

    def ask(
        self, topics: set[str], prefixes: dict[str, bool], limit: int, image: MemoryImage, between: list[list[Step]]
    ) -> Page:
        """Take all pages of an answer, with changes between them; ask again when it cannot go on."""
        query = first = self.query(topics, prefixes, limit)
        compacted: Sequence[str] | None = None
        while True:
            page = page_of(query, image)
            self.answers += 1
            assert self.answers <= PAGES_MAX, "an answer must come to its end"
            assert len(page.records) <= first.limit or {r.version for r in page.records[first.limit :]} <= {page.floor}
            compacted = list(page.compacted) if compacted is None else compacted
            if page.restart or page.compacted != compacted:
                assert query.after, "a first page never restarts"
                query = first = self.query(topics, prefixes, limit)
                compacted = None
                self.listed.clear()
            else:
                self.take(page)
                if not page.more:
                    self.sweep(first, page)
                    return page
                listed = page.position.revision if query.listed is None else query.listed
                query = replace(query, after=page.records[-1].version, listed=listed)
            if between:
                play(image, between.pop())

    def take(self, page: Page) -> None:
        for record in page.records:
            self.listed.add(record.topic)
            if record.version > self.versions.get(record.topic, 0):
                self.versions[record.topic] = record.version
                self.values[record.topic] = record.cbor

    def sweep(self, query: Query, page: Page) -> None:
        from_0 = [prefix for prefix, since in query.prefixes.items() if since == 0 or prefix in page.compacted]
        for topic, version in self.versions.items():
            unlisted = topic not in self.listed and version <= page.position.revision
            if unlisted and any(covers(prefix, topic) for prefix in from_0):
                self.values[topic] = None


@given(
    known=STEPS,
    missed=STEPS,
    between=st.lists(STEPS, max_size=6),
    topics=st.sets(st.sampled_from(TOPICS)),
    prefixes=st.dictionaries(st.sampled_from(PREFIXES), st.booleans()),
    limit=st.integers(1, 4),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_paging_ends_with_the_state_of_the_store(
    known: list[Step],
    missed: list[Step],
    between: list[list[Step]],
    topics: set[str],
    prefixes: dict[str, bool],
    limit: int,
) -> None:
    image = new_image()
    play(image, known)
    knower = Knower.of(image)
    play(image, missed)
    page = knower.ask(topics, prefixes, limit, image, between)
    assert page.position == image.position
    stored = {topic: image.records[image.latest[topic]].cbor for topic in image.latest}
    for topic in TOPICS:
        if topic in topics or any(covers(prefix, topic) for prefix in prefixes):
            assert knower.values.get(topic) == stored.get(topic), topic


@given(
    known=STEPS,
    missed=STEPS,
    topics=st.sets(st.sampled_from(TOPICS)),
    prefixes=st.dictionaries(st.sampled_from(PREFIXES), st.booleans()),
    limit=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_pages_are_the_whole_answer_cut_up(
    known: list[Step], missed: list[Step], topics: set[str], prefixes: dict[str, bool], limit: int
) -> None:
    image = new_image()
    play(image, known)
    knower = Knower.of(image)
    play(image, missed)
    query = knower.query(topics, prefixes, 1000)
    whole = page_of(query, image)
    assert list(whole.records) == wanted(query, image)
    assert not whole.more
    assert list(whole.compacted) == [prefix for prefix, since in query.prefixes.items() if 0 < since < image.floor]
    records: list[Record] = []
    cut = replace(query, limit=limit)
    while True:
        page = page_of(cut, image)
        assert not page.restart, "nothing has changed"
        records += page.records
        if not page.more:
            break
        cut = replace(cut, after=page.records[-1].version, listed=page.position.revision)
    assert [r for r in records if not r.deleted] == [r for r in whole.records if not r.deleted]
    assert {r.topic for r in whole.records} <= {r.topic for r in records}


def test_stand_in_tombstones_share_a_page() -> None:
    image = new_image()
    for topic in ("a", "b", "c", "d"):
        play(image, [("put", topic, 0)])
    play(image, [("delete", "a", 0), ("delete", "b", 0), ("delete", "c", 0), ("compact", "", 0), ("put", "d", 0)])
    query = Query({"a": 2, "b": 3, "c": 4, "d": 5}, limit=1)
    page = page_of(query, image)
    assert [record.topic for record in page.records] == ["a", "b", "c"]
    assert page.more
    page = page_of(replace(query, after=page.records[-1].version), image)
    assert [record.topic for record in page.records] == ["d"]
    assert not page.more


def test_a_topic_forgotten_while_paging_is_deleted_even_for_a_client_that_held_none() -> None:
    image = new_image()
    play(image, [("put", "a", 0), ("put", "b", 0)])
    query = Query({"a": 0, "b": 0}, limit=1)
    first = page_of(query, image)
    assert [record.topic for record in first.records] == ["a"]
    play(image, [("delete", "a", 0), ("compact", "", 0)])
    page = page_of(replace(query, after=2, listed=first.position.revision), image)
    assert list(page.records) == [image.records[image.latest["b"]]]
    page = page_of(replace(query, after=3, listed=first.position.revision), image)
    assert list(page.records) == [Record("a", image.floor, None)]


def test_a_floor_that_passes_since_between_pages_shows_in_compacted() -> None:
    """Why a caller compares `compacted`: to sweep "p/" here would lose p/a, which is alive."""
    image = new_image()
    play(image, [("put", "p/a", 0), ("put", "p/b", 0)])
    since = image.head
    play(image, [("put", "q/a", 0), ("delete", "p/b", 0), ("put", "p/c/d", 0), ("put", "q/b", 0)])
    query = Query(prefixes={"p/": since, "q/": 0}, limit=2)
    first = page_of(query, image)
    assert not first.compacted
    play(image, [("compact", "", 0)])
    later = page_of(replace(query, after=first.records[-1].version, listed=first.position.revision), image)
    assert list(later.compacted) == ["p/"]
    assert not later.restart


def test_a_later_page_repeats_nothing_known_since() -> None:
    image = new_image()
    play(image, [("put", "q/a", 0), ("put", "p/a", 0)])
    since = image.head
    play(image, [("put", "q/b", 0)])
    query = Query(prefixes={"p/": since, "q/": 0}, limit=1)
    assert list(page_of(query, image).records) == [image.records[image.latest["q/a"]]]
    later = page_of(replace(query, after=2, listed=image.head), image)
    assert list(later.records) == [image.records[image.latest["q/b"]]]


def test_a_floor_below_the_cursor_compacts_nothing_that_was_not_listed_from_0() -> None:
    image = new_image()
    play(image, [("put", "p/a", 0), ("put", "p/b", 0)])
    since = image.head
    play(image, [("delete", "p/b", 0), ("put", "p/c/d", 0), ("put", "p/c/e", 0)])
    query = Query(prefixes={"p/": since}, limit=2)
    first = page_of(query, image)
    play(image, [("compact", "", 0)])
    assert since < image.floor < first.records[-1].version
    later = page_of(replace(query, after=first.records[-1].version), image)
    assert list(later.records) == [image.records[image.latest["p/c/e"]]]
    assert not later.compacted
    assert not later.restart


def test_a_page_is_cut_without_loading_what_is_not_on_it() -> None:
    class Counting(MemoryImage):
        loaded = 0

        def load(self, versions: Sequence[int]) -> Iterator[Record]:
            for record in super().load(versions):
                Counting.loaded += 1
                yield record

    image = Counting("epoch")
    image.open("first")
    play(image, [("put", f"t/{number}", 0) for number in range(50)])
    page_of(Query({f"t/{number}": 0 for number in range(50)}, limit=3), image)
    assert Counting.loaded == 4, "the page, and one further to know whether there is more"


def test_a_page_of_the_feed_ends_at_its_limit_of_bytes() -> None:
    image = new_image()
    start = image.position
    for topic in ("a", "b", "c"):
        image.apply(Write(topic, bytes(PAGE_BYTES_MAX // 2)), KEYS_MAX)
    feed = feed_page(start, 1000, image)
    assert [record.topic for record in feed.records] == ["a", "b"]
    assert (feed.more, feed.upto) == (True, start.at(3))
    feed = feed_page(feed.upto, 1000, image)
    assert [record.topic for record in feed.records] == ["c"]
    assert (feed.more, feed.upto) == (False, image.position)


def test_a_damaged_record_is_named_and_spoils_no_other() -> None:
    image = new_image()
    for topic in ("p/a", "p/b", "q/a"):
        image.apply(Write(topic, b"\x01"), KEYS_MAX)
    image.damage("p/a")
    damaged = Record("p/a", 2, None, unreadable=True)
    assert page_of(Query(prefixes={ALL: 0}), image).records == [damaged, image.records[3], image.records[4]]
    assert page_of(Query({"p/a": 0}), image).records == [damaged]
    assert feed_page(image.rows[0], 9, image).records[0] == damaged
    # A version that was held is no evidence of another history, if the record that contradicts it is damaged.
    held = page_of(Query({"p/a": 4, "p/b": 0}), image)
    assert [(record.topic, record.unreadable) for record in held.records] == [("p/a", True), ("p/b", False)]
    assert isinstance(answer(Query({"p/b": 4}), image), Rewound)
    image.apply(Write("p/a", b"\x02"), KEYS_MAX)
    assert page_of(Query({"p/a": 2}), image).records == [Record("p/a", 5, b"\x02")]
