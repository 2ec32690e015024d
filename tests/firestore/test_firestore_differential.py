"""The same calls on SQLite and on Firestore: the same answers, in the same order, and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltm.catalog.base import Catalog
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import CatalogUnavailableError, LTMError
from ltm.testing.clock import FakeClock
from ltm.testing.strategies import metadata, metadata_filters, storable_text
from tests.services.firestore import FirestoreEmulator

relaxed = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


class Pair:
    """A SQLite catalog and a Firestore catalog that are to be one and the same."""

    def __init__(self, sqlite: SQLiteCatalog, firestore: FirestoreCatalog) -> None:
        self.clock = FakeClock()
        self.catalogs: tuple[Catalog, Catalog] = sqlite, firestore
        self.both = self.catalogs
        self.tables = 0

    def begin(self) -> None:
        """Go on with a table that has nothing in it."""
        self.tables += 1
        table = f"table {self.tables}"
        one, other = (
            each.bind(table, inline_threshold=64, language="english") for each in self.catalogs
        )
        self.both = one, other
        for each in self.both:
            each.clock = self.clock

    def ask(self, verb: str, *arguments: Any, **options: Any) -> Any:
        """Return what *verb* answers, or the error that it raises: the same on both."""
        return self.apply(lambda catalog: getattr(catalog, verb)(*arguments, **options))

    def apply(self, call: Callable[[Catalog], Any]) -> Any:
        one, other = (outcome(call, catalog) for catalog in self.both)
        assert normal(one) == normal(other)
        return one

    def track(self, key: Any, **fields: Any) -> None:
        """Track *key*, with something harmless for what is not given."""
        self.ask("store_batch", [{"key": key, "content_hash": f"hash {fields}"[:71]} | fields])


def outcome(call: Callable[[Any], Any], target: Any) -> Any:
    try:
        return call(target)
    except CatalogUnavailableError:
        raise  # no argument is an outage
    except LTMError as error:
        return type(error).__name__, str(error)


def normal(answer: Any) -> str:
    """Return *answer* so that ``1``, ``1.0`` and ``true`` are as different as both zeros are."""
    return json.dumps(answer, sort_keys=True, default=repr)


@pytest.fixture(scope="module")
def databases(
    firestore_emulator: FirestoreEmulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    firestore_emulator.start()
    directory = tmp_path_factory.mktemp("differential")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.address)
        with (
            SQLiteCatalog(directory / "catalog.db") as sqlite,
            # Where no file can be made: at its end every table's index would be written to one.
            FirestoreCatalog("test-differential", index_directory="/dev/null/x") as firestore,
        ):
            yield Pair(sqlite, firestore)


@pytest.fixture
def pair(databases: Pair) -> Pair:
    databases.begin()
    return databases


# Keys that languages order otherwise than bytes do.
KEYS = [
    *["a", "A", "b", "B", "ab", "aB", "a b", "a-b", "a_b", "a%b", "a\\b", "a'b", 'a"b', "a\nb"],
    *["é", "e\u0301", "e", "É", "ß", "ss", "ẞ", "i", "I", "ı", "İ", "z", "ä", "ae", "Ω", "ω"],
    *["\u0301", "\u200b", "\ufeff", "\uffff", "\U00010000", "\U0010ffff", "\ue000", "\ud7ff"],
    *["東京", "東", "ｱ", "ア", "1", "01", "10", "2", "-1", " ", "  ", "\t", "\x01", "\x7f", "😀"],
    *["a" * 1024, "é" * 512, "😀" * 256, "a" * 1023 + "b", "%", "_", "k%", "k_", "k\U0010ffff"],
    *["/", "a/b", ".", "..", "__x__", "`", "$x"],
]
some_keys = st.sampled_from(KEYS) | storable_text.filter(lambda key: 1 <= len(key.encode()) <= 1024)
some_bounds = st.sampled_from([*KEYS, ""]) | storable_text


def test_every_awkward_key_has_one_place(pair: Pair) -> None:
    pair.ask("store_batch", [{"key": key, "content_hash": "h"} for key in KEYS])
    listed = pair.ask("list_entries", limit=999)
    assert [each["key"] for each in listed] == sorted(KEYS, key=str.encode)
    for prefix in KEYS:
        pair.ask("list_entries", prefix, None, 5)
        pair.ask("list_entries", prefix[:1], None, 5, prefix)


@relaxed
@given(
    keys=st.lists(some_keys, min_size=1, max_size=10),
    prefix=some_bounds,
    after=some_bounds,
    limit=st.integers(1, 4),
)
def test_keys_are_listed_in_the_same_order_page_by_page(
    pair: Pair, keys: list[str], prefix: str, after: str, limit: int
) -> None:
    pair.begin()
    pair.ask("store_batch", [{"key": key, "content_hash": "h"} for key in keys])
    pair.ask("list_entries", prefix, None, limit, after)
    pair.ask("list_entries", keys[0][:1], None, limit, keys[-1])
    pair.apply(lambda catalog: list(catalog.iterate(prefix, pair.clock)))
    pair.ask("delete_entry", keys[0])
    pair.ask("get_entry", keys[-1])
    pair.ask("retrieve_batch", keys)
    pair.ask("list_entries", limit=10_000)


@relaxed
@given(data=st.data(), kept=st.lists(metadata, min_size=1, max_size=6))
def test_filters_find_the_same_entries(pair: Pair, data: st.DataObject, kept: list[Any]) -> None:
    pair.begin()
    for number, each in enumerate(kept):
        pair.clock.advance(number % 2)
        pair.track(f"k{number}", metadata=each)
    for _ in range(6):
        wanted = data.draw(metadata_filters(kept), label="filter")
        pair.ask("list_entries", None, wanted, 10)
        pair.ask("search", None, wanted, data.draw(st.integers(1, 3)))
        pair.ask("search", "k0 k1 k2", wanted)


NUMBERS = [0, -0.0, 1, 1.0, -1, 0.5, 1e16, 10**16, 10**16 + 1, 5e-324, -5e-324, 1e308, -1e308]
NUMBERS += [2**53, 2**63, 2**64 + 1, 10**300, 1e300, 10**3999, -(10**3999), 0.1, 0.1 + 0.2]
VALUES = [*NUMBERS, "", "a", "A", "é", "e\u0301", "\U0010ffff", "1", "x" * 600, "x" * 601]
VALUES += ["é" * 300, None, True, False, [], {}, [1], ["a", [1]], {"a": 1}, {"": 0}, "null"]
BAD = ["a\0b", "\0", "\ud800", "a\udfffb", b"bytes", {1: 2}, {3}, float("nan"), float("inf")]


@pytest.mark.parametrize("operator", ["$eq", "$ne", "$gte", "$contains", "$in", "$nin", "$not"])
def test_operators_agree_on_numbers_and_texts_at_their_limits(pair: Pair, operator: str) -> None:
    pair.ask(
        "store_batch",
        [
            {"key": f"k{i:04}", "content_hash": "h", "metadata": {"v": each, "list": [each]}}
            for i, each in enumerate(VALUES)
        ],
    )
    for operand in [*VALUES, *BAD]:
        given = [operand, 1] if operator in ("$in", "$nin") else operand
        wanted = {operator: {"$gte": operand} if operator == "$not" else given}
        for path in ("v", "list"):
            pair.ask("list_entries", None, {path: wanted}, 999)


HUGE = 10**5000
LONE = "a\ud800b"
EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
EAST, WEST = timezone(timedelta(hours=5)), timezone(timedelta(hours=-5))

FIELDS: list[dict[str, Any]] = [
    *({"content_hash": text} for text in ("a\0b", LONE, "", "x" * 71, "x" * 72, "é" * 71, 7, None)),
    *({"storage_uri": uri} for uri in ("a\0b", LONE, "", 7, b"x", "é" * 1024, "é" * 1025, "/..")),
    *({"byte_size": size} for size in (0, 2**50, 2**50 + 1, 2**63, -1, 1.5, True, None, "1")),
    *({"if_match": text} for text in ("a\0b", LONE, "x" * 10_000, "", 7)),
    *({"inlined_value": value} for value in ("a\0b", LONE, "x y " * 200_000, -0.0, {1})),
    *({"metadata": {"a": value}} for value in ("a\0b", LONE, b"", {1: 1}, BAD[-1])),
    *({"metadata": value} for value in ({"\0": 1}, {LONE: 1}, [], "x", 7, {"ttl": 10**400})),
    {"metadata": {f"k{number}": number for number in range(10_000)}},
    {"metadata": {"numbers": NUMBERS, "__x__": {"": [[[]]]}, "a.b": None}},
    *({"expires_at": at} for at in (EARLIEST, LATEST, LATEST.replace(tzinfo=None), "2030", 7)),
    *(
        {"expires_at": at.replace(tzinfo=zone)}
        for at in (EARLIEST, LATEST)
        for zone in (EAST, WEST)
    ),
    *({"created_at": at, "updated_at": at} for at in (EARLIEST, LATEST, 7)),
    {"storage_uri": "path", "inlined_value": 1},
    {"unknown": 1},
]


@pytest.mark.parametrize("number", range(len(FIELDS)))
def test_any_field_is_kept_or_refused_alike(pair: Pair, number: int) -> None:
    pair.track("other", metadata={"a": 1}, inlined_value="quiet")
    pair.track("k", **FIELDS[number])
    pair.ask("get_entry", "k")
    pair.ask("list_entries")
    if FIELDS[number].keys() & {"inlined_value", "expires_at"}:
        pair.ask("search", "quiet x")
    pair.ask("search")
    pair.ask("statistics", pair.clock())
    pair.apply(lambda catalog: len(catalog.create_snapshot("s")))
    pair.ask("cleanup_expired")
    pair.track("k", content_hash="changed")
    pair.ask("get_changed_entries", "s", include_deleted=True)
    pair.ask("delete_entry", "k")
    for each in ("", "a", "path"):
        pair.apply(lambda catalog, each=each: catalog.scheduled_deletions(each, 10))


def test_deletions_of_long_paths_are_listed_page_by_page(pair: Pair) -> None:
    lengths = [1, 1_400, 1_499, 1_500, 1_501, 1_900]
    tails = ["x" * length + end for length in lengths for end in "abc"]

    def schedule_and_walk(catalog: Catalog) -> list[str]:
        prefix = catalog.table().storage_prefix
        for uri in (lambda tail: f"{prefix}/{tail}", lambda tail: None):
            catalog.store_batch(
                {"key": f"{i}", "content_hash": f"h{uri(tail)}"[:71], "storage_uri": uri(tail)}
                for i, tail in enumerate(tails)
            )
        found: list[str] = []
        while page := catalog.scheduled_deletions(found[-1] if found else "", 1):
            found += page
            assert len(found) <= len(tails)
        return [uri.removeprefix(f"{prefix}/") for uri in found]

    for catalog in pair.both:
        assert sorted(schedule_and_walk(catalog)) == sorted(tails)


def test_the_largest_sizes_add_up(pair: Pair) -> None:
    sizes = [{"key": f"k{i}", "content_hash": "h", "byte_size": 2**50} for i in range(200)]
    pair.ask("store_batch", sizes)
    assert pair.ask("statistics", pair.clock()).total_bytes == 200 * 2**50


@pytest.mark.parametrize("depth", [100, 498, 499, 500])
@pytest.mark.parametrize("is_list", [False, True])
def test_nesting_is_kept_or_refused_alike(pair: Pair, depth: int, is_list: bool) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value] if is_list else {"a": value}
    pair.track("k", metadata={"deep": value})
    pair.track("v", inlined_value=value)
    pair.ask("list_entries")
    pair.ask("list_entries", None, {"deep" + ".a" * 400: {"$exists": True}})


@pytest.mark.parametrize("limit", [0, -1, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**99, True, "1"])
def test_any_limit_is_taken_or_refused_alike(pair: Pair, limit: Any) -> None:
    for number in range(3):
        pair.track(f"k{number}", inlined_value="word", metadata={"a": number})
    pair.track("brief", expires_at=pair.clock())
    pair.ask("list_entries", limit=limit)
    pair.ask("list_entries", None, {"a": {"$gte": 1}}, limit)
    pair.ask("search", "word", limit=limit)
    pair.ask("search", limit=limit)
    pair.ask("search", None, {"a": 1}, limit)
    pair.ask("cleanup_expired", limit)


@pytest.mark.parametrize("text", ["a\0b", LONE, "x" * 201, "x" * 100_000, "", "é" * 200, 7])
def test_any_name_is_taken_or_refused_alike(pair: Pair, text: Any) -> None:
    pair.track("k")
    pair.apply(lambda catalog: len(catalog.create_snapshot(text)))
    pair.ask("get_entry", text)
    pair.ask("delete_entry", "k", if_match=text)
    pair.ask("list_entries", text)
    pair.ask("list_entries", after=text)
    pair.ask("retrieve_batch", ["k", text])
    pair.ask("search", text)
    pair.apply(lambda catalog: catalog.get_changed_entries(text))
    pair.apply(
        lambda catalog: catalog.bind(text, inline_threshold=1, language="english").table().name
    )
