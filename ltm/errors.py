"""The exceptions of ``ltm``, each with the ``error_type`` under which a backend answers it.

Code raises these; a backend's public methods turn them into failure answers in one place. An
exception that stands for something Python has a name for is also that builtin, so a caller may
catch ``ValueError`` or ``KeyError`` and mean it.
"""

from __future__ import annotations

from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import ClassVar


class LTMError(Exception):
    """The root of every error that ``ltm`` raises on purpose."""

    error_type: ClassVar[str] = "error"
    """The stable word for machines; it stands in failure answers."""


class ValidationError(LTMError, ValueError):
    """An argument, a filter or a setting is not what the call accepts; nothing was done."""

    error_type = "validation_error"


class SerializationError(LTMError, ValueError):
    """A value is not JSON; nothing was written.

    Attributes:
        path: Where in the value, for example ``$.items[3].when``.
        reason: What is wrong there, for example ``datetime is not JSON``.
    """

    error_type = "serialization_error"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ConflictError(LTMError):
    """A conditional write lost: ``if_match`` or ``if_absent`` did not hold at commit.

    Attributes:
        key: The key of the write.
        current_hash: Content hash of the live entry, or None where there is none.
    """

    error_type = "conflict"

    def __init__(self, key: str, current_hash: str | None, condition: str) -> None:
        found = "no live entry" if current_hash is None else f"content hash {current_hash!r}"
        super().__init__(f"{condition} does not hold for key {key!r}: found {found}")
        self.key = key
        self.current_hash = current_hash


class CatalogUnavailableError(LTMError, ConnectionError):
    """The catalog could not be reached or did not answer; retrying is safe."""

    error_type = "catalog_unavailable"


class PayloadError(LTMError, OSError):
    """The payload store failed, after retries where a retry could help."""

    error_type = "storage_error"


class PayloadNotFoundError(PayloadError):
    """A payload that a live row names is not in the store."""

    error_type = "payload_missing"


class IntegrityError(LTMError):
    """What was read does not have the content hash that was written."""

    error_type = "integrity_error"


class SnapshotNotFoundError(LTMError, KeyError):
    """No snapshot has this id or name."""

    error_type = "snapshot_not_found"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "snapshot not found"


class SchemaOutOfDateError(LTMError):
    """The catalog's schema is not at the revision this library needs.

    Attributes:
        found: The revision in the database, or None where there is no schema.
        needed: The revision this library works with.
    """

    error_type = "schema_out_of_date"

    def __init__(self, found: str | None, needed: str, remedy: str) -> None:
        super().__init__(f"catalog schema is at revision {found!r}, needed is {needed!r}: {remedy}")
        self.found = found
        self.needed = needed


class MissingDependencyError(LTMError, ImportError):
    """An optional package is not installed.

    Attributes:
        extra: The extra of ``ltm`` that brings it.
    """

    error_type = "dependency_missing"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'ltm[{extra}]'")
        self.extra = extra


class ClosedError(LTMError):
    """The backend, catalog or store was used after ``close()``."""

    error_type = "closed"
