"""Keys of cached calls: the same in every process, and different for different calls."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from ltm import ValidationError, cache_wrap, cached, create_ltm_backend
from ltm.backend.base import LTMBackend
from ltm.testing.strategies import json_values

ELSEWHERE = """
import sys
from ltm import cached, create_ltm_backend
from datetime import datetime, UTC
from decimal import Decimal

@cached(create_ltm_backend(), key_strategy=sys.argv[1])
def act(**given):
    pass

lazy = cached(create_ltm_backend(), key_strategy=sys.argv[1])(lambda x: x + len("abc") in {3, 4, 5})
given = {"s": {"b", "a", "c"}, "f": 0.1, "t": datetime(2030, 1, 1, tzinfo=UTC), "d": Decimal("1.0")}
print(act.cache_key(**given), lazy.cache_key("y" * 2000))
"""


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Size:
    x: int
    y: int


@pytest.fixture
def memory() -> Any:
    with create_ltm_backend(
        catalog_config={"type": "sqlite", "path": ":memory:"}, storage_uri="memory://keys"
    ) as memory:
        yield memory


def key_of(*args: Any, options: Any = None, **kwargs: Any) -> str:
    """Return the key of a call with these arguments."""

    @cached(None, name="act", **(options or {}))
    def act(self: None, *args: Any, **kwargs: Any) -> None: ...

    return act.cache_key(None, *args, **kwargs)


@pytest.mark.parametrize("strategy", ["args", "sha256"])
def test_keys_are_the_same_in_every_process(strategy: str) -> None:
    keys = set()
    for seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, strategy],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        keys.add(done.stdout)
    (line,) = keys
    assert "0x" not in line


def test_keys_of_short_arguments_are_readable() -> None:
    assert key_of(city="Bern", days=3) == 'act:{"args": [], "kwargs": {"city": "Bern", "days": 3}}'
    assert key_of(options={"agent_name": "scout"}).startswith("scout:act:{")


def test_keys_of_long_arguments_are_hashes() -> None:
    long = key_of(text="x" * 2000)
    assert re.fullmatch(r"act:sha256:[0-9a-f]{64}", long)
    assert long == key_of(text="x" * 2000, options={"key_strategy": "sha256"})
    assert long != key_of(text="x" * 2001)
    assert re.fullmatch(r"act:sha256:[0-9a-f]{64}", key_of(1, options={"key_strategy": "sha256"}))


def test_different_arguments_have_different_keys() -> None:
    instant = datetime(2030, 1, 1, tzinfo=UTC)
    values: list[Any] = [
        1, 1.0, True, "1", None, 0.0, -0.0, "", [], {}, [[]], [1, 2], [2, 1], {"a": 1}, {"a": "1"},
        b"1", b"", {1}, {"1"}, {1, 2}, instant, str(instant), instant.date(), date(2030, 1, 2),
        timedelta(1), timedelta(seconds=1), Decimal(1), Decimal("1.0"), UUID(int=1), Colour.RED,
        Colour.BLUE, Point(1, 2), Size(1, 2), Point(2, 1), {"x": 1, "y": 2}, {"$set": []}, set(),
        {"$$set": []}, {"$bytes": ""}, "\ud800", "\0", "ü", "u\u0308",
    ]  # fmt: skip
    keys = [key_of(value) for value in values]
    assert len(set(keys)) == len(values)


def test_equal_arguments_have_one_key() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of({"x", "y", "z"}) == key_of(frozenset("zyx"))
    assert key_of(PurePosixPath("a/b")) == key_of("a/b")
    assert key_of((1, 2)) == key_of([1, 2])
    assert key_of(Point(1, 2)) == key_of(Point(1, 2))


@given(json_values, json_values)
def test_any_two_json_values_have_one_key_only_if_they_are_the_same(one: Any, other: Any) -> None:
    is_same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key_of(one) == key_of(other)) is is_same


def test_how_arguments_are_passed_does_not_count() -> None:
    @cached(None)
    def act(self: None, city: str, unit: str = "C", *, days: int = 1) -> None: ...

    keys = {
        act.cache_key(None, "Bern"),
        act.cache_key(None, city="Bern", unit="C"),
        act.cache_key(None, "Bern", "C", days=1),
    }
    assert len(keys) == 1
    assert act.cache_key(None, "Bern", days=2) not in keys


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (object(), "x: object"),
        ({"a": [1, lambda: 1]}, "x.a[1]: function"),
        (float("nan"), "x: nan"),
        ({1: 2}, "x: key 1 is int"),
        (Path, "x: ABCMeta|x: type"),
        ([*range(3), iter([])], "x[3]: list_iterator"),
    ],
)
def test_an_argument_that_is_another_in_every_process_is_a_clear_error(
    memory: LTMBackend, value: Any, where: str
) -> None:
    runs: list[int] = []

    def act(x: Any) -> None:
        runs.append(1)

    with pytest.raises(ValidationError) as caught:
        cache_wrap(memory, act, {"x": value})
    assert any(str(caught.value).startswith(each) for each in where.split("|"))
    assert runs == []
    cache_wrap(memory, act, {"x": value}, ignore=["x"])
    assert runs == [1]


def test_what_contains_itself_is_a_clear_error() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValidationError, match="nested too deeply"):
        key_of(endless)


def test_the_name_of_an_action_is_in_its_key(memory: LTMBackend) -> None:
    def name_in(action: Any, args: Any = None) -> str:
        return str(cache_wrap(memory, action, args)["_cache_key"])

    def local(x: int = 1) -> int:
        return x

    class Tool:
        def method(self) -> int:
            return 1

        def __call__(self) -> int:
            return 2

    assert name_in(local).startswith(
        f"{__name__}.test_the_name_of_an_action_is_in_its_key.<locals>"
    )
    assert ".Tool.method:" in name_in(Tool().method)
    assert ".Tool:" in name_in(Tool())
    assert name_in(functools.partial(local, 5)) == name_in(local, {"x": 5})
    assert name_in(functools.partial(local, x=5)) == name_in(local, {"x": 5})
    assert cache_wrap(memory, local, name="mine")["_cache_key"] == 'mine:{"x": 1}'


def test_two_lambdas_have_two_keys(memory: LTMBackend) -> None:
    answers = [
        cache_wrap(memory, action, {"x": 3})
        for action in (lambda x: x + 1, lambda x: x + 2, lambda x: x * 1, lambda x: (x, x)[0])
    ]
    assert [each["result"] for each in answers] == [4, 5, 3, 3]
    assert not any(each["_cache_hit"] for each in answers)
    assert all("0x" not in str(each["_cache_key"]) for each in answers)


def test_a_key_of_ones_own_is_taken_as_it_is(memory: LTMBackend) -> None:
    def act(city: str) -> str:
        return city

    def by_city(city: str) -> str:
        return f"weather/{city}"

    args = {"city": "Bern"}
    assert cache_wrap(memory, act, args, key="mine")["_cache_key"] == "mine"
    assert cache_wrap(memory, act, args, key=by_city)["_cache_key"] == "weather/Bern"
    answer = cache_wrap(memory, act, args, key=by_city, key_strategy="custom", agent_name="scout")
    assert answer["_cache_key"] == "scout:weather/Bern"


@pytest.mark.parametrize(
    "options",
    [
        {"key_strategy": "custom"},
        {"key_strategy": "md5"},
        {"on_expired": "ignore"},
        {"key": 7},
        {"key": lambda: 7},
        {"key": ""},
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": True},
        {"ttl": float("nan")},
        {"ttl": "1"},
        {"ttl_days": 1e9},
        {"ttl": 5, "ttl_hours": 1},
        {"ttl_seconds": 0},
        {"cleanup_probability": 1.1},
        {"cleanup_limit": 0},
        {"lease_seconds": 0},
        {"timeout": -1},
        {"ignore": "x"},
        {"file_args": "x"},
        {"metadata": {"a": object()}},
        {"time_out": 5},
    ],
)
def test_a_bad_option_is_an_error_before_anything_is_run(
    memory: LTMBackend, options: dict[str, Any]
) -> None:
    runs: list[int] = []
    with pytest.raises(ValidationError, match=next(iter(options))):
        cache_wrap(memory, lambda: runs.append(1), **options)
    assert runs == []
