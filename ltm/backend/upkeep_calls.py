"""The calls that look after a memory: clean-up, statistics, health."""

from __future__ import annotations

from ltm.backend.health import check_catalog, check_store, describe_failure, describe_part
from ltm.backend.parts import BackendCalls
from ltm.backend.results import CleanupAnswer, HealthAnswer, StatsAnswer, answering
from ltm.catalog.base import validate_limit

EXPIRED_PER_COMMIT = 500


class UpkeepCalls(BackendCalls):
    """What keeps a memory small and sound."""

    @answering
    def cleanup_expired(self, limit: int = 100, *, batch_size: int | None = None) -> CleanupAnswer:
        self.require_open()
        remaining = validate_limit(limit if batch_size is None else batch_size)
        deleted, failures = 0, []
        while remaining > 0:
            size = min(remaining, EXPIRED_PER_COMMIT)
            outcomes = self.parts.catalog.remove_expired(size, self.parts.clock())
            failures += self.parts.free(outcomes)
            deleted += len(outcomes)
            remaining -= size
            if len(outcomes) < size:
                break
        return CleanupAnswer(
            success=True,
            deleted=deleted,
            remaining=self.parts.catalog.statistics(self.parts.clock()).expired,
            errors=[describe_failure(uri, error) for uri, error in failures],
        )

    @answering
    def stats(self) -> StatsAnswer:
        self.require_open()
        counts = self.parts.catalog.statistics(self.parts.clock())
        return StatsAnswer(
            success=True,
            table=self.parts.catalog.table_name,
            entries=counts.entries,
            inlined=counts.inlined,
            payloads=counts.entries - counts.inlined,
            total_bytes=counts.total_bytes,
            inlined_bytes=counts.inlined_bytes,
            payload_bytes=counts.total_bytes - counts.inlined_bytes,
            expired=counts.expired,
        )

    @answering
    def health_check(self) -> HealthAnswer:
        self.require_open()
        catalog_error = check_catalog(self.parts.catalog, self.parts.clock())
        store_error = check_store(self.parts.payloads)
        error = catalog_error or store_error
        if error is not None and self.raise_errors:
            raise error
        answer = HealthAnswer(
            success=error is None,
            healthy=error is None,
            catalog=describe_part(catalog_error),
            storage=describe_part(store_error),
        )
        if error is not None:
            answer["error"], answer["error_type"] = str(error), error.error_type
        return answer
