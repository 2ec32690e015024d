"""What every catalog must do with plain writes: just what it does with all others.

A catalog may always leave a plain write to :meth:`~ltm.catalog.base.Catalog.write`. What it does
carry out must be what that would have left.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.catalog.accounts import IndexedEntry
from ltm.catalog.base import Catalog
from ltm.catalog.commit import Outcome, Put, Removal
from ltm.catalog.history import Snapshot
from ltm.entry import AnyRow, EntryRow, JSONValue, Metadata, ValueRow
from ltm.hashing import canonical_json, hash_text
from ltm.search.analysis import get_analyzer
from ltm.search.codes import index_rows
from ltm.testing.catalog_fixtures import CatalogFixtures, CatalogMaker, relaxed
from ltm.testing.clock import FakeClock
from ltm.testing.lifetime_suite import track_payload


def make_put(
    catalog: Catalog,
    key: str,
    value: JSONValue,
    metadata: Metadata | None = None,
    *,
    seconds: float | None = None,
    is_found: bool = True,
) -> Put:
    """Return a write of an inlined *value* that expires in so many *seconds*.

    Args:
        catalog: Whose entry.
        key: Its key.
        value: What is stored.
        metadata: None for none.
        seconds: None for never.
        is_found: Whether search is to find it.
    """
    text = canonical_json(value)
    return Put(
        id=catalog.entry_id(key),
        key=key,
        content_hash=hash_text(text),
        byte_size=len(text),
        metadata=metadata or {},
        inlined_text=text,
        analyze=get_analyzer("english").read_document(key, value) if is_found else None,
        expires_at=None if seconds is None else catalog.clock() + timedelta(seconds=seconds),
    )


def write(catalog: Catalog, put: Put) -> Outcome:
    """Carry out *put* at once if it is plain, or else as any other, as a backend does."""
    outcome, _ = catalog.write_plain(put, catalog.clock())
    return outcome or catalog.write([put], catalog.clock())[0]


def store(catalog: Catalog, key: str, value: JSONValue, *terms: Any, **named: Any) -> Outcome:
    """Write an inlined *value* that way, with terms as :func:`make_put` takes them."""
    return write(catalog, make_put(catalog, key, value, *terms, **named))


def row_of(catalog: Catalog, key: str) -> EntryRow:
    row = catalog.read(key, catalog.clock())
    assert row is not None
    return row


def write_alone(catalog: Catalog, put: Put) -> Outcome:
    """Do as :func:`write` where nobody else writes: what is told of is what is there."""
    found = catalog.read(put.key, catalog.clock())
    outcome, told = catalog.write_plain(put, catalog.clock())
    if outcome is not None:
        return outcome
    assert value_of(told) == value_of(found)
    return catalog.write([put], catalog.clock())[0]


def value_of(row: AnyRow | None) -> ValueRow | None:
    """Return as much of *row* as every row has."""
    return row and ValueRow(*(getattr(row, name) for name in ValueRow._fields))


def expect_nothing_written(catalog: Catalog, put: Put, found: EntryRow) -> None:
    """Require that *put* is not plain, and that the live row is told of."""
    outcome, told = catalog.write_plain(put, catalog.clock())
    assert outcome is None
    assert told is not None
    assert value_of(told) == value_of(found)


def index_of(catalog: Catalog, key: str) -> IndexedEntry:
    row = row_of(catalog, key)
    return catalog.indexed([row])[row.id]


def expect_indexed(catalog: Catalog, put: Put) -> None:
    """Expect the indexes to hold what they must of *put*."""
    rows = frozenset(index_rows(put.metadata))
    assert index_of(catalog, put.key) == IndexedEntry(put.document(), rows)


_fresh = count()
"""Numbers the tables of each example of a property test, which share one database."""


class PlainSuite(CatalogFixtures):
    """Plain writes, each over another row."""

    def test_a_plain_write_of_a_new_key_creates_it(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        put = make_put(catalog, "k", "green tea", {"n": 1}, seconds=10)
        assert write(catalog, put) == Outcome("k", stored=True, created=True)
        row = row_of(catalog, "k")
        assert (row.inlined_text, row.content_hash, row.byte_size) == (
            '"green tea"',
            put.content_hash,
            len('"green tea"'),
        )
        assert (row.metadata, row.expires_at) == ({"n": 1}, put.expires_at)
        assert row.created_at == row.updated_at == clock.now
        expect_indexed(catalog, put)

    def test_a_plain_write_of_what_is_there_writes_nothing(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        put = make_put(catalog, "k", 1, {"n": 1})
        write(catalog, put)
        before = row_of(catalog, "k")
        clock.advance(1)
        expect_nothing_written(catalog, put, before)
        assert row_of(catalog, "k") == before

    def test_a_plain_write_of_the_same_value_with_other_terms_is_no_new_value(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        store(catalog, "k", 1, {"n": 1})
        before = row_of(catalog, "k")
        clock.advance(1)
        put = make_put(catalog, "k", 1, {"n": 2}, seconds=10)
        expect_nothing_written(catalog, put, before)
        assert write(catalog, put) == Outcome("k", stored=True, deduplicated=True)
        expect_indexed(catalog, put)

    def test_a_plain_write_over_another_value_replaces_all_but_the_creation(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        store(catalog, "k", "green tea", {"n": 1, "gone": True}, seconds=99)
        store(catalog, "other", "green tea", {"n": 1})
        created = clock.now
        clock.advance(1)
        put = make_put(catalog, "k", "black coffee", {"n": 1, "new": 2})
        assert write(catalog, put) == Outcome("k", stored=True)
        row = row_of(catalog, "k")
        assert (row.inlined_text, row.metadata) == ('"black coffee"', {"n": 1, "new": 2})
        assert (row.created_at, row.updated_at) == (created, clock.now)
        assert row.expires_at is None
        expect_indexed(catalog, put)
        expect_indexed(catalog, make_put(catalog, "other", "green tea", {"n": 1}))
        found = catalog.list_entries(metadata_filter={"n": 1})
        assert [each["key"] for each in found] == ["k", "other"]  # the newest first

    def test_a_plain_write_without_words_or_metadata_takes_those_that_were(
        self, catalog: Catalog
    ) -> None:
        for terms in ({"n": 1}, {}), ({}, {"n": 1}), ({"n": 1}, {"n": 1}), ({}, {}):
            for is_found in (True, False):
                store(catalog, "k", "green tea", terms[0])
                put = make_put(catalog, "k", "coffee", terms[1], is_found=is_found)
                assert write(catalog, put) == Outcome("k", stored=True)
                expect_indexed(catalog, put)
                assert catalog.search("green") == []
                catalog.delete_entry("k")

    def test_a_plain_write_gives_words_to_an_entry_without(self, catalog: Catalog) -> None:
        store(catalog, "other", "tea")
        store(catalog, "k", "tea", is_found=False)
        assert [each["key"] for each in catalog.search("tea")] == ["other"]
        put = make_put(catalog, "k", "coffee", {"n": 1})
        write(catalog, put)
        expect_indexed(catalog, put)

    def test_a_plain_write_without_words_among_entries_that_have_some(
        self, catalog: Catalog
    ) -> None:
        store(catalog, "other", "tea")
        for value in range(3):
            put = make_put(catalog, "k", value, is_found=False)
            assert write(catalog, put) == Outcome("k", stored=True, created=value == 0)
            expect_indexed(catalog, put)

    def test_a_plain_write_over_an_expired_entry_creates_another(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        for value in ("same", "other"):
            store(catalog, "k", "same", {"old": 1}, seconds=1)
            clock.advance(1)
            put = make_put(catalog, "k", value, {"n": 1})
            assert write(catalog, put) == Outcome("k", stored=True, created=True)
            row = row_of(catalog, "k")
            assert row.created_at == row.updated_at == clock.now
            expect_indexed(catalog, put)
            catalog.delete_entry("k")

    def test_a_plain_write_over_a_payload_leaves_it_to_others(self, catalog: Catalog) -> None:
        uri = track_payload(catalog, "k", "old")
        before = row_of(catalog, "k")
        put = make_put(catalog, "k", 1)
        expect_nothing_written(catalog, put, before)
        assert row_of(catalog, "k") == before
        assert write(catalog, put) == Outcome("k", stored=True, freed=uri)
        assert catalog.scheduled_deletions("", 10) == [uri]

    def test_a_plain_write_keeps_the_version_that_a_snapshot_sees(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        store(catalog, "k", "old", {"n": 1})
        snapshot = catalog.history.create("before", clock())
        put = make_put(catalog, "k", "new", {"n": 2})
        assert catalog.write_plain(put, clock())[0] is None
        assert write(catalog, put) == Outcome("k", stored=True)
        store(catalog, "k", "newer")
        store(catalog, "added", 1)
        seen = catalog.history.read_as_of(snapshot, ["k", "added"])
        assert {key: row.inlined_text for key, row in seen.items()} == {"k": '"old"'}
        changed = catalog.get_changed_entries(snapshot.id)
        assert {each["key"]: each["op"] for each in changed} == {"k": "modified", "added": "added"}
        catalog.history.expire(snapshot, clock())
        put = make_put(catalog, "k", "newest", {"n": 3})
        assert write(catalog, put) == Outcome("k", stored=True)
        expect_indexed(catalog, put)

    def test_a_plain_write_after_a_snapshot_of_another_tenant(self, make: CatalogMaker) -> None:
        mine, theirs = make(), make(tenant="theirs")
        store(mine, "k", 1)
        store(theirs, "k", 1)
        snapshot = theirs.history.create("theirs", theirs.clock())
        store(mine, "k", 2)
        store(theirs, "k", 2)
        store(mine, "k", 3)
        assert theirs.history.read_as_of(snapshot, ["k"])["k"].inlined_text == "1"
        assert (row_of(mine, "k").inlined_text, row_of(theirs, "k").inlined_text) == ("3", "2")

    def test_a_plain_write_in_a_transaction_is_part_of_it(self, catalog: Catalog) -> None:
        store(catalog, "k", "old", {"n": 1})
        before = row_of(catalog, "k")
        try:
            with catalog.transaction() as inside:
                store(inside, "k", "new")
                store(inside, "added", 1)
                assert row_of(inside, "k").inlined_text == '"new"'
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert row_of(catalog, "k") == before
        assert catalog.read("added", catalog.clock()) is None
        expect_indexed(catalog, make_put(catalog, "k", "old", {"n": 1}))

    @pytest.mark.parametrize("metadata", [{}, {"n": 1, "deep": {"m": [1, "x"]}}])
    def test_a_first_write_is_of_a_payload_too_and_seen_by_later_snapshots_alone(
        self, catalog: Catalog, clock: FakeClock, metadata: Metadata
    ) -> None:
        uri = f"{catalog.table().storage_prefix}/first.json"
        put = make_put(catalog, "k", "green tea", metadata, seconds=10)
        put = put._replace(storage_uri=uri, inlined_text=None, byte_size=5000)
        before = catalog.history.create("before", clock())
        outcome = catalog.write_first(put, clock()) or catalog.write([put], clock())[0]
        assert outcome == Outcome("k", stored=True, created=True, storage_uri=uri)
        after = catalog.history.create("after", clock())
        row = row_of(catalog, "k")
        assert (row.storage_uri, row.inlined_text, row.byte_size) == (uri, None, 5000)
        assert (row.metadata, row.expires_at) == (metadata, put.expires_at)
        assert row.created_at == row.updated_at == clock.now
        expect_indexed(catalog, put)
        assert catalog.history.read_as_of(before, ["k"]) == {}
        assert catalog.history.read_as_of(after, ["k"]) == {"k": row}
        assert catalog.named_payloads([uri]) == {uri}

    @pytest.mark.parametrize("is_inlined", [True, False])
    def test_a_first_write_writes_over_nothing(self, catalog: Catalog, is_inlined: bool) -> None:
        if is_inlined:
            store(catalog, "k", "green tea", {"n": 1})
        else:
            track_payload(catalog, "k", "old")
        before, indexed = row_of(catalog, "k"), index_of(catalog, "k")
        assert catalog.write_first(make_put(catalog, "k", "black coffee"), catalog.clock()) is None
        assert (row_of(catalog, "k"), index_of(catalog, "k")) == (before, indexed)
        assert catalog.scheduled_deletions("", 10) == []

    @relaxed
    @given(data=st.data())
    def test_plain_writes_leave_what_all_others_would(
        self, make: CatalogMaker, clock: FakeClock, data: st.DataObject
    ) -> None:
        number = next(_fresh)
        fast, slow = (_Side(make(table=f"plain{number}{name}")) for name in ("a", "b"))
        for verb, arguments in data.draw(st.lists(_steps, max_size=12)):
            if verb == "wait":
                clock.advance(arguments)
                continue
            answers = [
                getattr(side, verb)(arguments, is_plain=side is fast) for side in (fast, slow)
            ]
            assert answers[0] == answers[1]
        assert fast.state() == slow.state()


_puts = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from(["green tea", "tea", 1]),
    st.sampled_from([{}, {"n": 1}, {"n": 1.0}, {"n": 1, "deep": {"m": [1, "x"]}}]),
    st.sampled_from([None, None, 2.0]),
    st.booleans(),
    st.booleans(),
)
_steps = st.one_of(
    st.tuples(st.just("put"), _puts),
    st.tuples(st.just("put"), _puts),
    st.tuples(st.just("put_payload"), st.sampled_from("ab")),
    st.tuples(st.just("delete"), st.sampled_from("ab")),
    st.tuples(st.just("take_snapshot"), st.none()),
    st.tuples(st.just("expire_snapshot"), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1, 2])),
)


class _State(NamedTuple):
    rows: list[EntryRow]
    indexed: dict[str, IndexedEntry]
    as_of: list[list[EntryRow]]
    scheduled: list[str]


class _Side:
    """One logical table of two that are to end up equal."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._snapshots: list[Snapshot] = []

    def put(self, arguments: Any, *, is_plain: bool) -> Any:
        *terms, seconds, is_found, is_first = arguments
        put = make_put(self._catalog, *terms, seconds=seconds, is_found=is_found)
        if is_plain:
            first = self._catalog.write_first(put, self._catalog.clock()) if is_first else None
            return self._alike(first or write_alone(self._catalog, put))
        return self._alike(*self._catalog.write([put], self._catalog.clock()))

    def put_payload(self, key: str, *, is_plain: bool) -> None:
        track_payload(self._catalog, key, f"{key}-payload", 2)

    def delete(self, key: str, *, is_plain: bool) -> Any:
        removal = Removal(self._catalog.entry_id(key), key)
        return self._alike(*self._catalog.write([removal], self._catalog.clock()))

    def take_snapshot(self, _: None, *, is_plain: bool) -> None:
        self._snapshots.append(self._catalog.history.create("s", self._catalog.clock()))

    def expire_snapshot(self, index: int, *, is_plain: bool) -> None:
        if index < len(self._snapshots):
            self._catalog.history.expire(self._snapshots.pop(index), self._catalog.clock())

    def state(self) -> _State:
        """Return what is there, as of each snapshot too, without what names this table."""
        found = list(self._catalog.iterate("", self._catalog.clock))
        indexed = self._catalog.indexed(found)
        return _State(
            [self._alike(row) for row in found],
            {row.key: indexed[row.id] for row in found},
            [
                [self._alike(row) for row in self._catalog.history.iterate_as_of(snapshot)]
                for snapshot in self._snapshots
            ],
            [self._name(uri) for uri in self._catalog.scheduled_deletions("", 100)],
        )

    def _alike(self, given: Any) -> Any:
        """Return a row or an outcome without what names this table."""
        named = {"storage_uri": self._name(given.storage_uri)}
        if isinstance(given, EntryRow):
            return given._replace(id="", **named)
        return given._replace(freed=self._name(given.freed), **named)

    def _name(self, uri: str | None) -> Any:
        return uri and uri.removeprefix(self._catalog.table().storage_prefix)
