"""Long-term memory for AI agents: durable, verified, searchable.

Names are loaded when they are first used (PEP 562): importing ``ltm`` loads no driver, no
SQLAlchemy, no fsspec.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without importing it: that takes longer than all else here

if TYPE_CHECKING:
    from typing import Any

    from ltm.backend.base import LTMBackend as LTMBackend
    from ltm.backend.duckdb import DuckDBLTMBackend as DuckDBLTMBackend
    from ltm.cache import CacheOptions as CacheOptions
    from ltm.cache import cache_get as cache_get
    from ltm.cache import cache_invalidate as cache_invalidate
    from ltm.cache import cache_wrap as cache_wrap
    from ltm.cache import cached as cached
    from ltm.catalog.base import Catalog as Catalog
    from ltm.catalog.firestore import FirestoreCatalog as FirestoreCatalog
    from ltm.catalog.postgres import PostgresCatalog as PostgresCatalog
    from ltm.catalog.protocol import CatalogBackend as CatalogBackend
    from ltm.catalog.sqlite import SQLiteCatalog as SQLiteCatalog
    from ltm.catalog.supabase import SupabaseCatalog as SupabaseCatalog
    from ltm.errors import CatalogUnavailableError as CatalogUnavailableError
    from ltm.errors import ClosedError as ClosedError
    from ltm.errors import ConflictError as ConflictError
    from ltm.errors import IntegrityError as IntegrityError
    from ltm.errors import LTMError as LTMError
    from ltm.errors import MissingDependencyError as MissingDependencyError
    from ltm.errors import PayloadError as PayloadError
    from ltm.errors import PayloadNotFoundError as PayloadNotFoundError
    from ltm.errors import SchemaOutOfDateError as SchemaOutOfDateError
    from ltm.errors import SerializationError as SerializationError
    from ltm.errors import SnapshotNotFoundError as SnapshotNotFoundError
    from ltm.errors import ValidationError as ValidationError
    from ltm.factory import create_catalog_backend as create_catalog_backend
    from ltm.factory import create_ltm_backend as create_ltm_backend
    from ltm.factory import create_ltm_from_settings as create_ltm_from_settings
    from ltm.factory import register_catalog_backend as register_catalog_backend
    from ltm.factory import register_ltm_backend as register_ltm_backend
    from ltm.hashing import compute_content_hash as compute_content_hash
    from ltm.keys import generate_entry_id as generate_entry_id
    from ltm.legacy import migrate_sqlite_backend as migrate_sqlite_backend
    from ltm.transfer import copy_memory as copy_memory
    from ltm.transfer import export_bundle as export_bundle
    from ltm.transfer import export_dataset as export_dataset
    from ltm.transfer import import_bundle as import_bundle

_HOMES = {
    "LTMBackend": "ltm.backend.base",
    "DuckDBLTMBackend": "ltm.backend.duckdb",
    "CacheOptions": "ltm.cache",
    "cache_get": "ltm.cache",
    "cache_invalidate": "ltm.cache",
    "cache_wrap": "ltm.cache",
    "cached": "ltm.cache",
    "Catalog": "ltm.catalog.base",
    "CatalogBackend": "ltm.catalog.protocol",
    "FirestoreCatalog": "ltm.catalog.firestore",
    "PostgresCatalog": "ltm.catalog.postgres",
    "SQLiteCatalog": "ltm.catalog.sqlite",
    "SupabaseCatalog": "ltm.catalog.supabase",
    "CatalogUnavailableError": "ltm.errors",
    "ClosedError": "ltm.errors",
    "ConflictError": "ltm.errors",
    "IntegrityError": "ltm.errors",
    "LTMError": "ltm.errors",
    "MissingDependencyError": "ltm.errors",
    "PayloadError": "ltm.errors",
    "PayloadNotFoundError": "ltm.errors",
    "SchemaOutOfDateError": "ltm.errors",
    "SerializationError": "ltm.errors",
    "SnapshotNotFoundError": "ltm.errors",
    "ValidationError": "ltm.errors",
    "create_catalog_backend": "ltm.factory",
    "create_ltm_backend": "ltm.factory",
    "create_ltm_from_settings": "ltm.factory",
    "register_catalog_backend": "ltm.factory",
    "register_ltm_backend": "ltm.factory",
    "compute_content_hash": "ltm.hashing",
    "generate_entry_id": "ltm.keys",
    "migrate_sqlite_backend": "ltm.legacy",
    "copy_memory": "ltm.transfer",
    "export_bundle": "ltm.transfer",
    "export_dataset": "ltm.transfer",
    "import_bundle": "ltm.transfer",
}

__version__ = "0.1.0"
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not importlib, which itself would be the first thing to import.
    value = getattr(__import__(_HOMES[name], fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
