"""Keys, hashes, expiry: the pure functions under everything else."""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm import compute_content_hash, generate_entry_id
from ltm.clock import require_utc, utc_now
from ltm.entry import resolve_expiry, validate_metadata
from ltm.errors import (
    CatalogUnavailableError,
    IntegrityError,
    LTMError,
    MissingDependencyError,
    SerializationError,
    SnapshotNotFoundError,
    ValidationError,
)
from ltm.hashing import canonical_json, hash_text, parse_verified
from ltm.keys import prefix_upper_bound, validate_key, validate_prefix
from ltm.testing.strategies import json_values, keys, same_json, storable_text

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@given(value=json_values)
def test_the_content_hash_is_that_of_the_standard_library(value: Any) -> None:
    text = json.dumps(value, sort_keys=True)
    assert canonical_json(value) == text
    assert compute_content_hash(value) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@given(value=json_values)
def test_verified_text_comes_back_type_for_type(value: Any) -> None:
    read = parse_verified(canonical_json(value), compute_content_hash(value), where="here")
    assert same_json(read, value)


def test_text_with_another_hash_is_never_a_value() -> None:
    with pytest.raises(IntegrityError, match="here: expected sha256:"):
        parse_verified('{"a": 2}', compute_content_hash({"a": 1}), where="here")
    with pytest.raises(IntegrityError):
        parse_verified("\ud800", compute_content_hash(1), where="here")


@pytest.mark.parametrize("text", ["NaN", '{"a": [1, -Infinity]}', "[1] 2", "{"])
def test_text_that_is_not_json_is_no_value(text: str) -> None:
    with pytest.raises(IntegrityError, match="here: is not JSON"):
        parse_verified(text, hash_text(text), where="here")


@given(value=st.recursive(json_values | st.sets(st.integers()), st.lists))
def test_a_value_is_json_or_refused_with_a_path(value: Any) -> None:
    if _holds_set(value):
        with pytest.raises(SerializationError, match=r"^\$.*: set is not JSON"):
            canonical_json(value)
    else:
        assert same_json(json.loads(canonical_json(value)), value)


def _holds_set(value: Any) -> bool:
    return isinstance(value, set) or (isinstance(value, list) and any(map(_holds_set, value)))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"items": [0, 1, 2, {"when": NOW}]}, "$.items[3].when"),
        ({"a b": [object()]}, "$['a b'][0]"),
        ({"": {"x": math.nan}}, "$[''].x"),
        ([[[b""]]], "$[0][0][0]"),
        ([{}, {"x": ({},)}], "$[1].x"),
        ([{"a": 1}, {"b": [{1: 2}]}], "$[1].b[0]"),
        ({"a": {True: 1, "b": 2}}, "$.a"),
        (["plain", "é", "\ud83d\ude00"], "$[2]"),
        ({"a": [{"\ud83d\ude00": 1}]}, "$.a[0]"),
    ],
)
def test_the_path_of_a_fault_is_exact(value: Any, path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        canonical_json(value)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        {"\udfff": ["\udc00\ud800", "é"]},
        [{"ключ": "😀"}, OrderedDict(a=1)],
        [HTTPStatus.OK, {"status": HTTPStatus.OK}],
    ],
)
def test_what_json_has_no_type_of_its_own_for_is_taken_if_it_comes_back_equal(value: Any) -> None:
    assert canonical_json(value) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("member", [lambda deep: [deep], lambda deep: {"a": deep, "b": 0}])
def test_nesting_is_refused_before_a_reader_could_fail_on_it(member: Any) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = member(deep)
    assert canonical_json(deep)
    with pytest.raises(SerializationError, match="is nested too deeply"):
        canonical_json(member(deep))


def test_many_lists_side_by_side_are_not_deep() -> None:
    assert canonical_json([[{}]] * 2000)


def test_ids_of_tables_and_tenants_never_meet() -> None:
    assert generate_entry_id("k") == hashlib.sha256(b"k").hexdigest()
    ids = {
        generate_entry_id(key, table=table, tenant=tenant)
        for key in ("k", "a", "ak")
        for table in ("default", "k", "a")
        for tenant in ("", "k", "a")
    }
    assert len(ids) == 27


@given(prefix=storable_text, key=keys)
def test_a_prefix_bound_holds_exactly_the_keys_that_begin_with_it(prefix: str, key: str) -> None:
    bound = prefix_upper_bound(prefix)
    within = key >= prefix and (bound is None or key < bound)
    assert within == key.startswith(prefix)
    assert prefix_upper_bound(prefix) is None or bound.encode() > prefix.encode()  # type: ignore[union-attr]


@given(prefix=storable_text, rest=storable_text)
def test_every_extension_of_a_prefix_is_below_its_bound(prefix: str, rest: str) -> None:
    bound = prefix_upper_bound(prefix)
    assert bound is None or (prefix + rest).encode() < bound.encode()


def test_prefixes_may_be_empty_and_keys_may_not() -> None:
    assert validate_prefix(None) == validate_prefix("") == ""
    with pytest.raises(ValidationError):
        validate_key("")
    with pytest.raises(ValidationError, match="prefix: expected str"):
        validate_prefix(b"x")


def test_times_are_taken_to_utc_and_naive_ones_refused() -> None:
    brazil = timezone(timedelta(hours=-3))
    assert require_utc(NOW.astimezone(brazil), "t").isoformat() == "2030-01-01T00:00:00+00:00"
    for bad in (NOW.replace(tzinfo=None), "2030-01-01", 5, None):
        with pytest.raises(ValidationError, match=r"^t: "):
            require_utc(bad, "t")
    with pytest.raises(ValidationError, match="out of range"):
        require_utc(datetime.max.replace(tzinfo=brazil), "t")
    assert utc_now().utcoffset() == timedelta(0)


def test_arguments_win_over_metadata_and_null_there_is_never() -> None:
    metadata = {"ttl": 60, "expires_at": "2031-01-01T00:00:00Z"}
    assert resolve_expiry(NOW, ttl=5, metadata=metadata) == NOW + timedelta(seconds=5)
    assert resolve_expiry(NOW, metadata=metadata) == datetime(2031, 1, 1, tzinfo=UTC)
    assert resolve_expiry(NOW, metadata={"ttl": 0.5}) == NOW + timedelta(seconds=0.5)
    assert resolve_expiry(NOW, metadata={"ttl": 5, "_cache_expires_at": None}) is None
    assert resolve_expiry(NOW) is None


def test_metadata_is_a_copy_of_its_own() -> None:
    inner = [1]
    kept = validate_metadata({"a": inner})
    inner.append(2)
    assert kept == {"a": [1]}
    assert validate_metadata(None) == {}


def test_errors_are_also_the_builtins_a_caller_would_expect() -> None:
    assert issubclass(ValidationError, ValueError)
    assert issubclass(SnapshotNotFoundError, KeyError)
    assert issubclass(CatalogUnavailableError, ConnectionError)
    assert issubclass(MissingDependencyError, ImportError)
    assert str(SnapshotNotFoundError("no snapshot 'x'")) == "no snapshot 'x'"
    assert "pip install 'ltm[s3]'" in str(MissingDependencyError("s3fs", "s3"))
    kinds = [each.error_type for each in LTMError.__subclasses__()]
    assert len(kinds) == len(set(kinds))
