"""A conversation cut at any byte of the server's answers leaves the old row or the new one.

``LTM_CUT_STRIDE`` says how many bytes lie between two cuts near the end, and a fourth of how many
elsewhere: 1 in a long run, 5 if it is not set. The answer to COMMIT takes 18 bytes, and those
before it are not always of one length: so it is cut more than once.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from outcomes import is_outage, judge_cut, succeed
from postgres_place import SESSIONS, PostgresPlace, rows_on

from ltm.backend.duckdb import DuckDBLTMBackend
from tests.services.fixtures import MakeProxy
from tests.services.postgres import PostgresServer, through

STRIDE = int(os.environ.get("LTM_CUT_STRIDE", "5"))

Write = Callable[[DuckDBLTMBackend, str], Any]


def transact(memory: DuckDBLTMBackend, value: str) -> Any:
    try:
        with memory.transaction() as block:
            block.store("k", value, {"n": 1})
            return block.store("other", value)
    except ConnectionError as error:
        return {"success": False, "error": str(error), "error_type": "catalog_unavailable"}


WRITES: dict[str, Write] = {
    "store": lambda memory, value: memory.store("k", value, {"n": 1}),
    "batch": lambda memory, value: memory.store_batch([("k", value), ("other", value)]),
    "transaction": transact,
}


@pytest.mark.parametrize(
    ("verb", "size", "tail"),
    [("store", 10, 100), ("store", 2000, 700), ("batch", 10, 100), ("transaction", 10, 100)],
)
def test_a_write_cut_at_any_byte_has_happened_whole_or_not_at_all(
    place: PostgresPlace,
    postgres_server: PostgresServer,
    make_proxy: MakeProxy,
    verb: str,
    size: int,
    tail: int,
) -> None:
    """COMMIT is answered within the last *tail* bytes, which are looked at more closely."""
    proxy = make_proxy(postgres_server.host, postgres_server.port)
    outcomes: list[str] = []
    with (
        place.open() as observer,
        place.open(through(place.url, proxy)) as memory,
        psycopg.connect(place.url, autocommit=True) as admin,
    ):
        succeed(memory.store_batch([("k", "old"), ("other", "old")]))

        def cut(after: int) -> bool:
            """Return whether a write was cut after so many bytes of its answers."""
            value = f"{verb} {len(outcomes)}".rjust(size)
            before = observer.retrieve("k")["value"]
            sessions = rows_on(admin, SESSIONS)
            proxy.cut_after(after)
            answer = WRITES[verb](memory, value)
            found = succeed(observer.retrieve("k"))["value"]
            outcomes.append(judge_cut(answer, before, value, found))
            if verb != "store":
                assert succeed(observer.retrieve("other"))["value"] == found
            if answer["success"] and rows_on(admin, SESSIONS) == sessions:
                return False
            proxy.pass_through()
            again = succeed(WRITES[verb](memory, value))
            if verb == "store":
                assert again["stored"] is (found == before), "a written value was not noticed"
            assert succeed(observer.retrieve("k"))["value"] == value
            return True

        # The last cut comes after the last answer, and so not at all.
        length = next(after for after in itertools.count(0, 4 * STRIDE) if not cut(after))
        for after in range(max(0, length - tail - 4 * STRIDE), length, STRIDE):
            cut(after)
    assert {"success", "unknown new"} <= set(outcomes)
    place.expect_sound()


def test_a_first_use_cut_at_any_byte_is_an_outage_or_none(
    place: PostgresPlace, postgres_server: PostgresServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(postgres_server.host, postgres_server.port)
    failed = 0
    for after in range(0, 4000, 4 * STRIDE):
        proxy.cut_after(after)
        with place.open(through(place.url, proxy)) as memory:
            answer = memory.store("k", after)
            assert answer["success"] or is_outage(answer), answer
            failed += not answer["success"]
            proxy.pass_through()
            succeed(memory.store("k", after))
    assert failed > 1
