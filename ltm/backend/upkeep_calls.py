"""The calls that look after a memory: clean-up, garbage, verification, statistics, health.

What they work with is imported where it is used: most who open a memory only store and read.
"""

from __future__ import annotations

from datetime import timedelta

from ltm.backend.answering import answering
from ltm.backend.base import (
    CleanupAnswer,
    GarbageAnswer,
    HealthAnswer,
    StatsAnswer,
    VerifyAnswer,
)
from ltm.backend.parts import BackendCalls
from ltm.catalog.base import validate_limit
from ltm.errors import ValidationError

EXPIRED_PER_COMMIT = 500


class UpkeepCalls(BackendCalls):
    """What keeps a memory small and sound."""

    @answering
    def cleanup_expired(self, limit: int = 100, *, batch_size: int | None = None) -> CleanupAnswer:
        from ltm.backend.health import describe_failure
        from ltm.catalog.leases import end_expired_leases

        self.require_open()
        remaining = validate_limit(limit if batch_size is None else batch_size)
        deleted, failures = 0, []
        while remaining > 0:
            size = min(remaining, EXPIRED_PER_COMMIT)
            outcomes = self.parts.catalog.remove_expired(size, self.parts.clock())
            # Where it fails nothing is to be told: what has expired is answered nowhere.
            self.parts.attempted([outcome.key for outcome in outcomes])
            failures += self.parts.free(outcomes)
            deleted += len(outcomes)
            remaining -= size
            if len(outcomes) < size:
                break
        end_expired_leases(self.parts.catalog.leases, self.parts.clock())
        return {
            "success": True,
            "deleted": deleted,
            "remaining": self.catalog.count_expired(self.clock()),
            "errors": [describe_failure(uri, error) for uri, error in failures],
        }

    @answering
    def gc(
        self,
        dry_run: bool = False,
        *,
        grace: float | timedelta = 86_400,
        compact: bool = False,
    ) -> GarbageAnswer:
        from ltm.backend.compaction import Compaction, find_sparse, rewrite
        from ltm.backend.health import describe_failure
        from ltm.garbage import collect_garbage, find_garbage

        self.require_open()
        if self.is_bound:
            raise ValidationError("gc: a transaction may roll back what it would delete by")
        if isinstance(grace, timedelta):
            grace = grace.total_seconds()
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace < 1e10:
            raise ValidationError(f"grace: expected seconds, 0 or more, got {grace!r}")
        collect = find_garbage if dry_run else collect_garbage
        found = collect(self.catalog, self.payloads, self.clock(), timedelta(seconds=grace))
        compaction = Compaction()
        if compact:
            compaction = find_sparse(self.parts) if dry_run else rewrite(self.parts, self.clock())
        failures = found.failures + compaction.failures
        answer: GarbageAnswer = {
            "success": not failures,
            "dry_run": dry_run,
            "scheduled": found.scheduled,
            "unreferenced": found.unreferenced,
            "freed_bytes": found.unreferenced_bytes,
            "spared": found.spared,
            "foreign": found.foreign,
            "compacted": len(compaction.objects),
            "errors": [describe_failure(uri, error) for uri, error in failures],
        }
        if failures:
            uri, error = failures[0]
            if self.raise_errors:
                raise error
            answer["error"], answer["error_type"] = f"{uri}: {error}", error.error_type
        return answer

    @answering
    def verify(self, repair: bool = False) -> VerifyAnswer:
        from ltm.backend.verification import Verification

        self.require_open()
        verification = Verification(self.parts, repair=repair)
        verification.run()
        open_problems = [each for each in verification.problems if not each["repaired"]]
        answer: VerifyAnswer = {
            "success": not open_problems,
            "checked": verification.checked,
            "problems": verification.problems,
            "unreferenced": verification.unreferenced,
        }
        if open_problems:
            worst = open_problems[0]
            count = len(open_problems)
            answer["error"] = (
                worst["detail"] if count == 1 else f"{count} problems, the first: {worst['detail']}"
            )
            answer["error_type"] = "integrity_error"
        return answer

    @answering
    def stats(self) -> StatsAnswer:
        self.require_open()
        counts = self.parts.catalog.statistics(self.parts.clock())
        return {
            "success": True,
            "table": self.parts.catalog.table_name,
            "entries": counts.entries,
            "inlined": counts.inlined,
            "payloads": counts.entries - counts.inlined,
            "total_bytes": counts.total_bytes,
            "inlined_bytes": counts.inlined_bytes,
            "payload_bytes": counts.total_bytes - counts.inlined_bytes,
            "expired": counts.expired,
        }

    @answering
    def health_check(self) -> HealthAnswer:
        from ltm.backend.health import check_catalog, check_store, describe_part

        self.require_open()
        epoch = self.outage.epoch
        catalog_error = check_catalog(self.parts.catalog, self.parts.clock())
        if catalog_error is not None:
            self.outage.began(catalog_error, epoch)
        store_error = check_store(self.parts.payloads)
        error = catalog_error or store_error
        if error is not None and self.raise_errors:
            raise error
        answer: HealthAnswer = {
            "success": error is None,
            "healthy": error is None,
            "catalog": describe_part(catalog_error),
            "storage": describe_part(store_error, self.parts.payloads.circuit),
        }
        if error is not None:
            answer["error"], answer["error_type"] = str(error), error.error_type
        return answer
