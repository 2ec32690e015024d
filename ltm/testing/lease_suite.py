"""What every catalog must do about leases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ltm.catalog.base import Catalog
from ltm.catalog.commit import Put
from ltm.catalog.leases import Lease, LeaseLostError
from ltm.errors import ConflictError
from ltm.hashing import compute_content_hash
from ltm.testing.catalog_fixtures import CatalogFixtures, track
from ltm.testing.clock import FakeClock
from ltm.testing.threads import in_threads


def lease_of(catalog: Catalog, key: str, owner: str, seconds: float = 30) -> Lease:
    """Return a lease for so many *seconds* from now, which is not taken yet."""
    expires_at = catalog.clock() + timedelta(seconds=seconds)
    return Lease(catalog.entry_id(key), key, owner, expires_at)


def take(catalog: Catalog, key: str, owner: str, seconds: float = 30) -> Lease:
    """Take a lease and return the one that is in force."""
    return catalog.leases.take(lease_of(catalog, key, owner, seconds), catalog.clock())


def put_under(catalog: Catalog, lease: Lease, text: str) -> Put:
    """Return a write of *text* that is bound to *lease*."""
    return Put(
        id=lease.id,
        key=lease.key,
        content_hash=compute_content_hash(text),
        byte_size=len(text) + 2,
        metadata={},
        inlined_text=f'"{text}"',
        lease=lease,
    )


class LeaseSuite(CatalogFixtures):
    """One owner at a time, taking over, and writes that only an owner can commit."""

    def test_a_lease_is_one_owners_until_it_ends(self, catalog: Catalog) -> None:
        mine = take(catalog, "k", "me")
        assert mine == lease_of(catalog, "k", "me")
        assert take(catalog, "k", "you") == mine
        assert take(catalog, "other", "you").owner == "you"
        catalog.leases.end([mine])
        assert take(catalog, "k", "you").owner == "you"

    def test_a_lease_is_taken_over_at_its_expiry_and_not_before(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        take(catalog, "k", "me", seconds=10)
        clock.advance(9.999999)
        assert take(catalog, "k", "you").owner == "me"
        clock.advance(0.000001)
        assert take(catalog, "k", "you").owner == "you"

    def test_a_renewed_lease_is_not_taken_over(self, catalog: Catalog, clock: FakeClock) -> None:
        take(catalog, "k", "me", seconds=10)
        clock.advance(9)
        assert catalog.leases.renew(lease_of(catalog, "k", "me", seconds=10), clock())
        clock.advance(9)
        assert take(catalog, "k", "you").owner == "me"

    def test_a_lost_lease_can_be_neither_renewed_nor_ended_by_its_old_owner(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        mine = take(catalog, "k", "me", seconds=10)
        clock.advance(11)
        yours = take(catalog, "k", "you")
        assert catalog.leases.renew(mine, clock()) is False
        catalog.leases.end([mine])
        assert take(catalog, "k", "third") == yours

    def test_an_expired_lease_that_nobody_took_over_can_be_renewed(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        take(catalog, "k", "me", seconds=10)
        clock.advance(11)
        assert catalog.leases.renew(lease_of(catalog, "k", "me"), clock())
        assert take(catalog, "k", "you").owner == "me"

    def test_a_write_ends_the_lease_that_it_is_bound_to(self, catalog: Catalog) -> None:
        mine = take(catalog, "k", "me")
        (outcome,) = catalog.write([put_under(catalog, mine, "new")], catalog.clock())
        assert outcome.created
        assert catalog.leases.under("") == []
        entry = catalog.get_entry("k")
        assert entry is not None
        assert entry["inlined_value"] == "new"

    def test_a_write_that_changes_nothing_ends_its_lease_too(self, catalog: Catalog) -> None:
        catalog.write([put_under(catalog, take(catalog, "k", "me"), "same")], catalog.clock())
        again = take(catalog, "k", "me again")
        (outcome,) = catalog.write([put_under(catalog, again, "same")], catalog.clock())
        assert outcome.deduplicated
        assert catalog.leases.under("") == []

    def test_a_slow_owner_cannot_overwrite_what_its_successor_stored(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        mine = take(catalog, "k", "me", seconds=10)
        clock.advance(11)
        yours = take(catalog, "k", "you")
        with pytest.raises(LeaseLostError, match="taken over"):
            catalog.write([put_under(catalog, mine, "before")], clock())
        assert catalog.get_entry("k") is None
        catalog.write([put_under(catalog, yours, "right")], clock())
        with pytest.raises(LeaseLostError):
            catalog.write([put_under(catalog, mine, "after")], clock())
        entry = catalog.get_entry("k")
        assert entry is not None
        assert entry["inlined_value"] == "right"

    def test_a_write_without_its_lease_leaves_the_others_of_the_batch_unwritten(
        self, catalog: Catalog
    ) -> None:
        mine, lost = take(catalog, "a", "me"), lease_of(catalog, "b", "me")
        changes = [put_under(catalog, mine, "1"), put_under(catalog, lost, "2")]
        with pytest.raises(LeaseLostError):
            catalog.write(changes, catalog.clock())
        assert catalog.list_entries() == []
        assert catalog.leases.under("") == [mine]

    def test_a_write_that_is_refused_leaves_its_lease_in_force(self, catalog: Catalog) -> None:
        track(catalog, "k", "there")
        mine = take(catalog, "k", "me")
        put = put_under(catalog, mine, "new")._replace(if_absent=True)
        with pytest.raises(ConflictError, match="if_absent"):
            catalog.write([put], catalog.clock())
        assert catalog.leases.under("k") == [mine]

    def test_leases_are_listed_by_prefix_in_their_own_table(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        for key in ("user:1", "user:2", "User:3", "users"):
            take(catalog, key, f"owner of {key}", seconds=1)
        take(catalog.bind("other", inline_threshold=10, language="english"), "user:4", "me")
        clock.advance(2)
        assert sorted(each.key for each in catalog.leases.under("user:")) == ["user:1", "user:2"]
        assert len(catalog.leases.under("")) == 4
        catalog.leases.end(catalog.leases.under("user"))
        assert [each.key for each in catalog.leases.under("")] == ["User:3"]

    def test_a_lease_is_no_entry(self, catalog: Catalog) -> None:
        take(catalog, "k", "me")
        assert catalog.get_entry("k") is None
        assert catalog.list_entries() == catalog.search() == []
        assert catalog.statistics(catalog.clock()).entries == 0

    def test_of_many_that_ask_at_once_one_gets_the_lease(self, catalog: Catalog) -> None:
        found: list[Lease] = []
        in_threads(lambda number: found.append(take(catalog, "k", f"owner {number}")), 8)
        assert len(found) == 8
        assert len(set(found)) == 1
