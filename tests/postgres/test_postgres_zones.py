"""What expires does so by the instant, whatever the time zone of the server or the session."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from outcomes import succeed
from postgres_place import PostgresPlace

from ltm.testing.clock import FakeClock

ZONES = ["America/Sao_Paulo", "Asia/Tokyo", "Pacific/Kiritimati", "Etc/GMT+12"]


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, place: PostgresPlace) -> str:
    place.rows(f"ALTER DATABASE {place.database} SET timezone = '{request.param}'")
    assert place.rows("SHOW timezone") == [(request.param,)]
    return str(request.param)


def test_an_entry_lives_for_its_time_and_is_cleaned_up_after_it(
    place: PostgresPlace, zone: str
) -> None:
    clock = FakeClock()
    with place.open(clock=clock) as memory:
        succeed(memory.store("k", "x" * 2000, ttl=3600))
        clock.advance(3599)
        assert succeed(memory.retrieve("k"))["found"]
        assert succeed(memory.cleanup_expired())["deleted"] == 0
        clock.advance(1)
        assert not succeed(memory.retrieve("k"))["found"]
        assert memory.search("x")["count"] == 0
        assert succeed(memory.cleanup_expired())["deleted"] == 1
    assert place.rows("SELECT count(*) FROM ltm_entries") == [(0,)]
    place.expect_sound()


def test_a_zone_that_changes_moves_no_expiry(place: PostgresPlace) -> None:
    clock = FakeClock()
    with place.open(clock=clock) as memory:
        succeed(memory.store("k", 1, ttl=3600))
    for zone in ZONES:
        place.rows(f"ALTER DATABASE {place.database} SET timezone = '{zone}'")
        with place.open(clock=clock) as memory:
            entry = memory.catalog.get_entry("k")
            assert entry is not None
            assert entry["expires_at"] == clock() + timedelta(seconds=3600)
            assert succeed(memory.cleanup_expired())["deleted"] == 0
    clock.advance(3600)
    with place.open(clock=clock) as memory:
        assert succeed(memory.cleanup_expired())["deleted"] == 1


def test_the_first_and_the_last_instant_come_back_as_they_were(
    place: PostgresPlace, zone: str
) -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    moment = first
    with place.open(clock=lambda: moment) as memory:
        track: Any = memory.catalog.track_entry
        for key, instant in {"first": first + timedelta(microseconds=1), "last": last}.items():
            track(key, "sha256:" + "0" * 64, None, 1, {}, inlined_value=1, expires_at=instant)
            entry = memory.catalog.get_entry(key)
            assert entry is not None
            assert entry["expires_at"] == instant
            assert entry["created_at"] == first
            assert entry["expires_at"].utcoffset() == timedelta(0)
        found = memory.catalog.list_entries()
        assert [each["key"] for each in found] == ["first", "last"]
        succeed(memory.create_snapshot("s"))
        assert memory.list_snapshots()["count"] == 1
        moment = last
        assert succeed(memory.cleanup_expired())["deleted"] == 2
