"""The same calls on SQLite and on PostgreSQL: the same answers, in the same order, and errors."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltm.catalog.base import Catalog
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import CatalogUnavailableError, LTMError
from ltm.sql.search import FEW
from ltm.testing.clock import FakeClock
from ltm.testing.strategies import json_text, metadata, metadata_filters, storable_text
from tests.services.fixtures import database
from tests.services.postgres import PostgresServer

relaxed = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


class Pair:
    """A SQLite catalog and a PostgreSQL catalog that are to be one and the same."""

    def __init__(self, url: str, directory: Path) -> None:
        self.clock = FakeClock()
        self.directory = directory
        self.sqlite = SQLiteCatalog(directory / "catalog.db", clock=self.clock)
        self.postgres = PostgresCatalog(url, clock=self.clock)
        self.tables = 0
        self.both: tuple[Catalog, Catalog] = self.sqlite, self.postgres

    def begin(self) -> None:
        """Go on with a table that has nothing in it."""
        self.tables += 1
        one, other = (
            each.bind(f"table {self.tables}", inline_threshold=64, language="english")
            for each in (self.sqlite, self.postgres)
        )
        self.both = one, other

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
    # JSONB has an order of its own for the keys of an object.
    return json.dumps(answer, sort_keys=True, default=repr)


def keys_of(answer: Any) -> list[str]:
    return [each["key"] for each in answer]


@pytest.fixture(scope="module")
def databases(
    postgres_server: PostgresServer,
    postgres_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    with database(postgres_server, postgres_template) as url:
        pair = Pair(url, tmp_path_factory.mktemp("differential"))
        with pair.sqlite, pair.postgres:
            yield pair


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
]
some_keys = st.sampled_from(KEYS) | storable_text.filter(lambda key: 1 <= len(key.encode()) <= 1024)
some_bounds = st.sampled_from([*KEYS, ""]) | storable_text


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
    for key in keys:
        pair.track(key)
    pair.ask("list_entries", prefix, None, limit, after)
    pair.ask("list_entries", keys[0][:1], None, limit, keys[-1])
    pair.apply(lambda catalog: list(catalog.iterate(prefix, pair.clock)))
    pair.ask("delete_entry", keys[0])
    pair.ask("get_entry", keys[-1])
    pair.ask("retrieve_batch", keys)
    pair.ask("list_entries", limit=10_000)


def test_every_awkward_key_has_one_place(pair: Pair) -> None:
    pair.ask("store_batch", [{"key": key, "content_hash": "h"} for key in KEYS])
    assert keys_of(pair.ask("list_entries", limit=999)) == sorted(KEYS, key=str.encode)
    for prefix in KEYS:
        pair.ask("list_entries", prefix, None, 5)


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
OPERATORS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$contains", "$exists", "$unknown"]


def track_all(pair: Pair, terms: list[dict[str, Any]]) -> None:
    entries = enumerate(terms)
    items = [{"key": f"k{i:04}", "content_hash": "h", "metadata": each} for i, each in entries]
    pair.ask("store_batch", items)


@pytest.mark.parametrize("operator", [*OPERATORS, "$in", "$nin", "$not"])
def test_operators_agree_on_numbers_and_texts_at_their_limits(pair: Pair, operator: str) -> None:
    track_all(pair, [{"v": each, "list": [each], "deep": {"v": each}} for each in VALUES])
    for operand in [*VALUES, *BAD]:
        given = [operand, 1] if operator in ("$in", "$nin") else operand
        wanted = {operator: {"$gte": operand} if operator == "$not" else given}
        for path in ("v", "list", "deep.v"):
            pair.ask("list_entries", None, {path: wanted}, 999)


def test_filters_agree_where_so_many_match_that_another_way_is_taken(pair: Pair) -> None:
    counts = {"one": 1, "few": FEW, "many": FEW + 1}
    terms = [
        {name: [i, "x"] if i % 2 else i for name, count in counts.items() if i < count}
        for i in range(FEW + 5)
    ]
    track_all(pair, terms)
    exist = {"$exists": True}
    shapes: list[Any] = [exist, {"$gte": 2}, {"$contains": "x"}]
    wholes: list[Any] = [{name: shape} for name in counts for shape in shapes]
    wholes += [{"few": exist, "many": exist}, {"many": exist, "one": 0}, {"$not": {"few": exist}}]
    wholes += [{"$or": [{"one": 0}, {"many": 8}]}, {"$or": [{"few": 7}, {"many": exist}]}]
    for wanted in [*wholes, {"few": {"$in": list(range(FEW))}}]:
        assert pair.ask("list_entries", None, wanted, 9_999) or "one" in wanted
        pair.ask("list_entries", None, wanted, 3, "k0997")
        pair.ask("list_entries", "k1", wanted, 3)
        pair.ask("search", None, wanted, 7)


@pytest.mark.parametrize("path", ["\0", "a\0b", "\ud800", "x" * 3000, "a." * 600, "", ".", "$x"])
def test_any_path_is_answered_or_refused_alike(pair: Pair, path: str) -> None:
    pair.track("k", metadata={"x" * 3000: 1, "": 2, "a": {"": {"a": 1}}})
    for wanted in ({path: 1}, {path: {"$exists": False}}, {"$not": {path: {"$gt": 0}}}):
        pair.ask("list_entries", None, wanted)


WORDS = [
    "red",
    "Green",
    "bicycles",
    "bell",
    "naïve",
    "東京都",
    "x0",
    "1e5",
    "007",
    "o'brien",
    "a-b",
]
some_words = st.lists(st.sampled_from(WORDS[:4]), min_size=1, max_size=4).map(" ".join)
some_text = some_words | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | json_text
some_parts = st.tuples(
    st.sampled_from(["{}", "{}", '"{}"', "-{}", '-"{}"', '"{}']), some_words | some_text
).map(lambda part: part[0].format(part[1].replace('"', "")))
some_questions = st.lists(some_parts, min_size=1, max_size=4).map(" ".join)


@relaxed
@given(texts=st.lists(some_text, min_size=1, max_size=8), asked=st.lists(some_questions))
def test_questions_have_the_same_hits_order_and_scores(
    pair: Pair, texts: list[str], asked: list[str]
) -> None:
    pair.begin()
    for number, text in enumerate(texts):
        expires_at = pair.clock() + timedelta(seconds=5) if number % 4 == 3 else None
        fields = {"metadata": {"even": number % 2 == 0}, "expires_at": expires_at}
        pair.track(f"key {number}", inlined_value=text, **fields)
    for seconds in (0, 5):
        pair.clock.advance(seconds)
        for question in [*asked, *texts]:
            pair.ask("search", question, None, 5)
            pair.ask("search", question, {"even": True}, 5)


def numbered(first: int, last: int) -> str:
    return " ".join(f"w{number}" for number in range(first, last))


HAN = "".join(chr(0x4E00 + number) for number in range(20_000))

# A tsvector keeps 255 positions of a word, and of a text the first 16,383.
LONG = {
    "often": "zebra " * 10_000 + "quick lion",
    "late": numbered(0, 9_000) + " quick lion",
    "distinct": numbered(0, 10_000),
    "short words": "ox " * 20_000 + "zebra quick lion",
    "han": HAN,
    "rare han": "".join(chr(0x20000 + number) for number in range(40_000)),
    "cut": "x" * 65_530 + " seen unseen",
}


LONG_QUESTIONS = {
    "zebra": ["often", "short words"],
    "ox": ["short words"],
    '"quick lion"': ["late", "often", "short words"],
    '"zebra quick lion"': ["often", "short words"],
    '"lion zebra"': [],
    'lion -"zebra quick"': ["late"],
    'lion -"quick zebra"': ["late", "often", "short words"],
    '"w8998 w8999 quick"': ["late"],
    "w8000 -w9200": ["late"],
    "unseen": [],
    numbered(0, 1_500): ["distinct", "late"],
    f'"{numbered(8_000, 8_900)}"': ["distinct", "late"],
    " ".join(f"-w{number}" for number in range(9_250, 9_900)) + " w1": ["late"],
    HAN[19_000:19_200]: ["han"],
    f'"{HAN[19_000:19_200]}"': ["han"],
    f'-"{HAN[19_000:19_002]}" {HAN[100:200]}': [],
}


def test_long_texts_are_counted_and_searched_to_their_end(pair: Pair) -> None:
    for key, text in LONG.items():
        pair.track(key, inlined_value=text)
    for question, found in LONG_QUESTIONS.items():
        assert sorted(keys_of(pair.ask("search", question))) == found, question[:80]


LONE = "a\ud800b"


class Huge(int):
    """Has more digits than the interpreter writes out."""

    def __repr__(self) -> str:
        return "huge"


HUGE = Huge(10**5000)
EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
EAST, WEST = timezone(timedelta(hours=5)), timezone(timedelta(hours=-5))


def incompressible(length: int) -> str:
    return "".join(random.Random(length).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


FIELDS: list[dict[str, Any]] = [
    *({"content_hash": text} for text in ("a\0b", LONE, "", "x" * 71, "x" * 72, "é" * 71, 7, None)),
    *({"storage_uri": uri} for uri in ("a\0b", LONE, "", 7, b"x", "é" * 1024, "é" * 1025)),
    *({"storage_uri": incompressible(length)} for length in (2_048, 2_049, 2_700, 100_000)),
    *({"byte_size": size} for size in (0, 2**50, 2**50 + 1, 2**63, 10**4000, HUGE, -1, 1.5)),
    *({"byte_size": size} for size in (True, None, "1")),
    *({"if_match": text} for text in ("a\0b", LONE, "x" * 10_000, "", 7)),
    *({"inlined_value": value} for value in ("a\0b", LONE, "x y " * 250_000, 10**4000, -0.0, {1})),
    *({"metadata": {"a": value}} for value in ("a\0b", LONE, b"", {1: 1}, BAD[-1], HUGE)),
    *({"metadata": value} for value in ({"\0": 1}, {LONE: 1}, [], "x", 7, {"ttl": 10**400})),
    {"metadata": {f"k{number}": number for number in range(10_000)}},
    {"metadata": {"numbers": NUMBERS, "texts": [incompressible(9_000)]}},
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


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: ascii(fields)[:50])
def test_any_field_is_kept_or_refused_alike(pair: Pair, fields: dict[str, Any]) -> None:
    pair.track("other", metadata={"a": 1}, inlined_value="quiet")
    pair.track("k", **fields)
    pair.ask("get_entry", "k")
    pair.ask("list_entries")
    pair.ask("search", "quiet x")
    pair.ask("search")
    pair.ask("statistics", pair.clock())
    pair.apply(lambda catalog: len(catalog.create_snapshot("s")))
    pair.ask("cleanup_expired")
    pair.track("k", content_hash="changed")
    pair.ask("get_changed_entries", "s", include_deleted=True)
    pair.ask("delete_entry", "k")


def test_the_largest_sizes_add_up(pair: Pair) -> None:
    sizes = [{"key": f"k{i}", "content_hash": "h", "byte_size": 2**50} for i in range(1_000)]
    pair.ask("store_batch", sizes)
    assert pair.ask("statistics", pair.clock()).total_bytes == 1_000 * 2**50
    pair.apply(lambda catalog: len(catalog.create_snapshot("s")))


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
