"""What Firestore reads to answer a listing: no more than ``explain`` says that it selects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from firestore_traffic import Traffic, watched
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ltm.catalog.document_queries import keys_between
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.firestore_filters import MAX_CHOICES
from ltm.search.filters import matches, parse_filter
from ltm.testing.catalog_fixtures import keys_of
from ltm.testing.clock import FakeClock
from ltm.testing.strategies import storable_text
from tests.services.firestore import FirestoreEmulator

FEW, MANY = 200, 2_000
ALL = 10_000
ENTRIES = "ltm_entries"

Content = dict[str, dict[str, Any]]


def content_of(count: int) -> Content:
    numbers = range(count)
    return {f"{'abcd'[number % 4]}/{number:04}": metadata_of(number, count) for number in numbers}


def metadata_of(number: int, count: int) -> dict[str, Any]:
    kept: dict[str, Any] = {
        "n": number,
        "kind": f"kind {number % 10}",
        "tags": [number % 7, f"tag {number % 50}"],
        "user": {"id": number % 100},
    }
    return kept | ({"rare": True} if number % (count * 7 // 20) == 3 else {})


class Crowd:
    """A catalog of many entries, and what is read of it."""

    def __init__(self, catalog: FirestoreCatalog, content: Content, traffic: Traffic) -> None:
        self.catalog = catalog
        self.content = content
        self.traffic = traffic
        catalog.store_batch(
            {"key": key, "content_hash": "h", "metadata": kept} for key, kept in content.items()
        )

    def list(self, *arguments: Any, **options: Any) -> list[str]:
        """Return the keys that are listed; ``traffic`` has what was read for them and no more."""
        self.traffic.forget()
        keys = keys_of(self.catalog.list_entries(*arguments, **options))
        assert {each.path.split("/")[0] for each in self.traffic.queried} <= {ENTRIES}
        return keys

    def search(self, wanted: dict[str, Any], limit: int) -> list[str]:
        self.traffic.forget()
        return keys_of(self.catalog.search(None, wanted, limit))

    @property
    def read(self) -> list[str]:
        """The keys of the entries that the last call has read."""
        return [str(each.fields["key"]) for each in self.traffic.queried]

    def matching(self, wanted: dict[str, Any], prefix: str = "") -> list[str]:
        """Return the keys that a listing has to return."""
        parsed = parse_filter(wanted)
        return [
            key
            for key in sorted(self.content)
            if key.startswith(prefix) and matches(parsed, self.content[key])
        ]


@pytest.fixture(scope="module")
def crowds(firestore_emulator: FirestoreEmulator) -> Iterator[tuple[Crowd, Crowd]]:
    firestore_emulator.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.address)
        clock = FakeClock()
        # Each in a project of its own: the emulator looks at all documents of a collection.
        with (
            FirestoreCatalog("test-filters-few", clock=clock) as few,
            FirestoreCatalog("test-filters-many", clock=clock) as many,
            watched() as traffic,
        ):
            yield Crowd(few, content_of(FEW), traffic), Crowd(many, content_of(MANY), traffic)


@pytest.fixture
def few(crowds: tuple[Crowd, Crowd]) -> Crowd:
    return crowds[0]


@pytest.fixture
def crowd(crowds: tuple[Crowd, Crowd]) -> Crowd:
    return crowds[1]


def some(count: int) -> list[int]:
    return [-number for number in range(count - 2)] + [5, 77]


ANY_OF_29: dict[str, Any] = {"$or": [{"n": {"$in": some(28)}}, {"rare": True}]}

# The filter, and what of it the database selects by.
FILTERS: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"rare": True}, [{"rare": True}]),
    ({"n": 134.0}, [{"n": 134.0}]),
    ({"n": "134"}, [{"n": "134"}]),
    ({"user.id": 7}, [{"user.id": 7}]),
    ({"user": {"id": 7}}, [{"user": {"id": 7}}]),
    ({"rare": True, "kind": "kind 3"}, [{"rare": True}]),
    ({"kind": "kind 3", "rare": True}, [{"kind": "kind 3"}]),
    ({"n": {"$in": [1, 2]}, "rare": True}, [{"rare": True}]),
    ({"n": {"$in": [1, 2]}}, [{"n": {"$in": [1, 2]}}]),
    ({"n": {"$in": some(29)}}, [{"n": {"$in": some(29)}}]),
    ({"n": {"$in": some(30)}}, []),
    ({"n": {"$in": some(31)}}, []),
    ({"n": {"$in": some(100)}}, []),
    ({"n": {"$in": some(100)}, "user.id": 5}, [{"user.id": 5}]),
    ({"n": {"$in": []}}, []),
    ({"tags": {"$contains": 6}}, [{"tags": {"$contains": 6}}]),
    # A text may stand in a text, too.
    ({"tags": {"$contains": "tag 6"}}, []),
    ({"$or": [{"n": 1}, {"rare": True}]}, [{"$or": [{"n": 1}, {"rare": True}]}]),
    (ANY_OF_29, [ANY_OF_29]),
    ({"$or": [{"n": {"$in": some(29)}}, {"rare": True}]}, []),
    ({"$or": [{"n": 1}, {"n": {"$gt": 190}}]}, []),
    ({"n": {"$gt": 190}}, []),
    ({"n": {"$gt": 5}, "rare": True}, [{"rare": True}]),
    ({"$not": {"rare": True}}, []),
    ({"n": {"$ne": 5}}, []),
    ({"rare": {"$exists": True}}, []),
    ({"rare": {"$exists": False}, "kind": "kind 1"}, [{"kind": "kind 1"}]),
    ({}, []),
]


@pytest.mark.parametrize(
    "number", range(len(FILTERS)), ids=lambda number: str(FILTERS[number][0])[:40]
)
def test_what_explain_says_is_read_is_read(few: Crowd, number: int) -> None:
    wanted, selecting = FILTERS[number]
    explained = few.catalog.explain("b/", wanted)
    texts = [json.dumps(each, sort_keys=True) for each in selecting]
    assert explained["server"] == ["table", "key begins with 'b/'", *texts]
    own = [json.dumps({key: wanted[key]}, sort_keys=True) for key in wanted]
    assert explained["client"] == ["expires_at", *(text for text in own if text not in texts)]
    for prefix in ("", "b/"):
        assert few.list(prefix, wanted, ALL) == few.matching(wanted, prefix)
        selected = [set(few.matching(each, prefix)) for each in selecting]
        assert sorted(few.read) == sorted(set(few.matching({}, prefix)).intersection(*selected))
    newest = sorted(few.matching(wanted), key=few.catalog.entry_id, reverse=True)
    assert few.search(wanted, 5) == newest[:5]


def test_an_equality_with_three_matches_reads_three_documents(crowd: Crowd) -> None:
    assert len(crowd.list(None, {"rare": True})) == 3
    assert len(crowd.read) == 3
    assert len(crowd.search({"rare": True}, 10)) == 3
    assert len(crowd.read) == 3


def test_an_equality_selects_before_a_choice_whatever_their_order(few: Crowd) -> None:
    choice = {"n": {"$in": [3, 73, 1]}}
    for wanted in ({"rare": True} | choice, choice | {"rare": True}):
        assert few.list(None, wanted) == few.matching(wanted)
        assert len(few.read) == 3


def test_a_part_of_what_is_asked_of_one_name_may_select(few: Crowd) -> None:
    wanted = {"user.id": {"$lt": 50, "$eq": 7}}
    explained = few.catalog.explain(None, wanted)
    assert (
        explained["server"][1:] == explained["client"][1:] == [json.dumps(wanted, sort_keys=True)]
    )
    assert few.list(None, wanted) == few.matching(wanted)
    assert len(few.read) == 2


def test_both_sides_of_a_conjunction_are_told_of(few: Crowd) -> None:
    wanted: dict[str, Any] = {"$and": [{"kind": "kind 3"}, {"n": {"$lt": 100}}]}
    explained = few.catalog.explain("", wanted)
    text = json.dumps(wanted, sort_keys=True)
    assert explained == {"server": ["table", text], "client": ["expires_at", text]}
    assert few.list(None, wanted) == few.matching(wanted)
    assert len(few.read) == 20


@pytest.mark.parametrize("count", [1, 2, 29, 30, 31, 60, 100])
def test_a_choice_of_any_length_is_answered(few: Crowd, count: int) -> None:
    chosen = [number * 2 for number in range(count)]
    wanted = {"n": {"$in": chosen}}
    assert few.list(None, wanted, ALL) == few.matching(wanted)
    assert len(few.read) == (count if count < MAX_CHOICES else FEW)
    assert len(few.matching(wanted)) == count
    others = {"n": {"$nin": chosen}}
    assert few.list("c/", others, ALL) == few.matching(others, "c/")


def test_a_page_reads_what_it_returns(crowd: Crowd) -> None:
    ordered = sorted(crowd.content)
    after = ""
    for start in range(0, 450, 150):
        assert crowd.list(after=after, limit=150) == ordered[start : start + 150] == crowd.read
        after = ordered[start + 149]
    assert crowd.list("c/", limit=7) == crowd.matching({}, "c/")[:7] == crowd.read
    assert crowd.list("c/", after="c/1998", limit=7) == [] == crowd.read
    assert crowd.list("c/", after="b/1", limit=2) == crowd.matching({}, "c/")[:2] == crowd.read
    assert crowd.list("c/", after="d", limit=2) == [] == crowd.read
    assert crowd.list(limit=ALL) == ordered == crowd.read


def test_a_filtered_page_reads_nothing_before_it_or_outside_of_its_prefix(crowd: Crowd) -> None:
    after = "b/1001"
    for wanted in ({"kind": "kind 3"}, {"n": {"$gte": 0}}, {"user.id": {"$in": [1, 5, 9, 13]}}):
        expected = [key for key in crowd.matching(wanted, "b/") if key > after]
        assert crowd.list("b/", wanted, 3, after) == expected[:3]
        assert all(key.startswith("b/") and key > after for key in crowd.read)
        # A page is somewhat longer than what is wanted.
        assert len(crowd.read) <= 2 * 3 + 10


def test_walking_through_pages_of_a_filter_reads_each_match_a_few_times_at_most(
    crowd: Crowd,
) -> None:
    wanted = {"kind": "kind 3"}
    found: list[str] = []
    reads = 0
    while True:
        page = crowd.list(None, wanted, 40, found[-1] if found else None)
        found += page
        reads += len(crowd.read)
        if len(page) < 40:
            break
    assert found == crowd.matching(wanted)
    assert reads <= 3 * len(found)


def test_what_can_t_be_selected_is_read_in_pages_that_grow(crowd: Crowd) -> None:
    wanted = {"n": {"$gt": MANY - 3}}
    assert sorted(crowd.search(wanted, 5)) == crowd.matching(wanted)
    assert sorted(crowd.read) == sorted(crowd.content)
    assert len(crowd.traffic.requests) <= 12


def test_iterating_reads_every_entry_once(crowd: Crowd) -> None:
    crowd.traffic.forget()
    found = [row.key for row in crowd.catalog.iterate("d/", crowd.catalog.clock)]
    assert found == crowd.matching({}, "d/") == crowd.read
    assert crowd.traffic.requests == ["get", "run"] * 2


# Keys of any length


long_text = st.builds(
    lambda start, filler, count, end: start + filler * count + end,
    storable_text,
    st.sampled_from(["x", "é", "東", "\U0001f600", "\U0010ffff"]),
    st.integers(250, 1_200),
    storable_text,
)
bounds = st.just("") | storable_text | long_text


@given(data=st.data(), prefix=bounds, after=bounds)
@example(data=None, prefix="\U0010ffff" * 300, after="")
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_range_of_keys_has_short_bounds_and_the_keys_between(
    data: Any, prefix: str, after: str
) -> None:
    query = keys_between(ENTRIES, {}, prefix, after)
    for bound in (query.above, query.below, query.at_least):
        assert not isinstance(bound, str) or len(bound.encode()) < 1_500
    tried = [prefix, after, prefix + "a", after + "\x01", after[:-1] + "\U0010ffff", prefix[:-1]]
    if data is not None:
        tried.append(data.draw(bounds, label="key"))
    for text in tried:
        for length in (1_024, 1_020, 1_000):
            key = text.encode()[:length].decode(errors="ignore")
            wanted = key.startswith(prefix) and key > after
            assert not key or query.selects(f"{ENTRIES}/id", {"key": key}) == wanted


@pytest.mark.parametrize("text", ["x" * 2_000, "a/" + "x" * 5_000, "\U0010ffff" * 400])
def test_bounds_longer_than_any_key_are_answered(crowd: Crowd, text: str) -> None:
    above = [key for key in sorted(crowd.content) if key > text]
    assert crowd.list(text) == []
    assert crowd.list(after=text, limit=3) == above[:3]
    assert crowd.list("a/", None, 3, text) == [key for key in above if key.startswith("a/")][:3]
    assert crowd.list(text, {"rare": True}, 3, text + "x") == []
