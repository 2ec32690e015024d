"""Making backends and catalogs by name.

Names are looked up among those registered here, then among the entry points of installed packages:
the groups are ``ltm.catalogs`` and ``ltm.backends``, and each names a callable like those that
:func:`register_catalog_backend` and :func:`register_ltm_backend` take.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from ltm.backend.base import LTMBackend
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.base import Catalog
from ltm.errors import ValidationError
from ltm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltm.config import Settings
else:
    Settings = object

CatalogFactory = Callable[..., Catalog]
BackendFactory = Callable[..., LTMBackend]

DEFAULT_CATALOG = "sqlite"

_OWN_CATALOGS = {
    "sqlite": ("ltm.catalog.sqlite", "SQLiteCatalog"),
    "postgres": ("ltm.catalog.postgres", "PostgresCatalog"),
    "postgresql": ("ltm.catalog.postgres", "PostgresCatalog"),
    "supabase": ("ltm.catalog.supabase", "SupabaseCatalog"),
    "firestore": ("ltm.catalog.firestore", "FirestoreCatalog"),
}
"""Imported when they are asked for."""

_catalogs: dict[str, CatalogFactory] = {}
_backends: dict[str, BackendFactory] = {}


def register_catalog_backend(name: str, factory: CatalogFactory) -> None:
    """Let ``create_catalog_backend(name, **options)`` call ``factory(**options)``."""
    _catalogs[name] = factory


def register_ltm_backend(name: str, factory: BackendFactory) -> None:
    """Let ``create_ltm_backend(name, ...)`` call ``factory(catalog, owns_catalog=..., ...)``."""
    _backends[name] = factory


def create_catalog_backend(type: str = DEFAULT_CATALOG, **options: Any) -> Catalog:  # noqa: A002 -- the word in settings
    """Return a catalog; nothing is opened until first use.

    Args:
        type: ``sqlite``, ``postgres``, ``supabase``, ``firestore``, or a name that was registered.
        **options: Those of :class:`~ltm.catalog.sqlite.SQLiteCatalog`,
            :class:`~ltm.catalog.postgres.PostgresCatalog`,
            :class:`~ltm.catalog.supabase.SupabaseCatalog` or
            :class:`~ltm.catalog.firestore.FirestoreCatalog`.

    Raises:
        ValidationError: An unknown type or option, or a bad value.
        MissingDependencyError: The driver is not installed.
    """
    if type in _OWN_CATALOGS and type not in _catalogs:
        module, name = _OWN_CATALOGS[type]
        _catalogs[type] = getattr(__import__(module, fromlist=[name]), name)
    factory = _find(type, _catalogs, "ltm.catalogs", "catalog")
    catalog: Catalog = _call(factory, f"catalog {type!r}", options)
    return catalog


def create_ltm_backend(
    backend: str = "duckdb",
    *,
    catalog: Catalog | None = None,
    catalog_config: Mapping[str, Any] | None = None,
    **options: Any,
) -> LTMBackend:
    """Return an LTM backend; with ``lazy=True``, the default, nothing is opened until first use.

    Args:
        backend: ``duckdb`` or its alias ``ducklake``, or a name that was registered.
        catalog: A catalog to use; closing the backend leaves it open.
        catalog_config: Or what to make one of: its ``type`` and the options of that type. With
            neither, it is SQLite in ``ltm_catalog.db``.
        **options: Those of :class:`~ltm.backend.duckdb.DuckDBLTMBackend`, for example
            ``storage_uri``, ``inline_threshold`` and ``table``.

    Raises:
        ValidationError: An unknown name or option, or a bad value.
    """
    factory: BackendFactory = _find(backend, _backends, "ltm.backends", "backend")
    if catalog is not None and catalog_config is not None:
        raise ValidationError("catalog and catalog_config: give one, not both")
    made = catalog
    if made is None:
        config = dict(catalog_config or {})
        made = create_catalog_backend(config.pop("type", DEFAULT_CATALOG), **config)
    elif not isinstance(made, Catalog):
        raise ValidationError(
            f"catalog: expected a subclass of ltm.catalog.base.Catalog, got {made!r}"
        )
    arguments = {"catalog": made, "owns_catalog": catalog is None, **options}
    memory: LTMBackend = _call(factory, f"backend {backend!r}", arguments)
    return memory


def create_ltm_from_settings(
    settings: Settings | Mapping[str, Any] | str | os.PathLike[str],
    *,
    environ: Mapping[str, str] | None = None,
) -> LTMBackend:
    """Return the LTM backend that *settings* describe.

    Args:
        settings: Parsed settings, a mapping as in YAML, or the path of a YAML file.
        environ: Variables for ``${VAR}``; by default those of the process.

    Raises:
        ValidationError: Bad settings; the message names the path of the key.
        MissingDependencyError: A YAML file, without PyYAML.
    """
    from ltm.config import Settings, load_settings

    if not isinstance(settings, Settings):
        settings = load_settings(settings, environ=environ)
    # What is not asked for is not passed on: a registered backend need not know of it.
    optional: dict[str, Any] = {
        "storage_timeout": settings.storage.timeout,
        "stale_reads": settings.stale_reads or None,
        "stale_reads_entries": settings.stale_reads_entries,
        "stale_reads_bytes": settings.stale_reads_bytes,
    }
    if_given = {name: value for name, value in optional.items() if value is not None}
    return create_ltm_backend(
        settings.backend,
        catalog_config={"type": settings.catalog.type, **settings.catalog.options()},
        storage_uri=settings.storage.uri,
        storage_options=settings.storage.options,
        payload_format=settings.storage.format,
        inline_threshold=settings.inline_threshold,
        enable_fts=settings.enable_fts,
        table=settings.table,
        language=settings.language,
        verify_reads=settings.verify_reads,
        raise_errors=settings.raise_errors,
        max_workers=settings.max_workers,
        lazy=settings.lazy,
        **if_given,
    )


def _find(
    name: str, registered: Mapping[str, Callable[..., Any]], group: str, what: str
) -> Callable[..., Any]:
    if name in registered:
        return registered[name]
    from importlib.metadata import entry_points

    found = entry_points(group=group)
    if name in found.names:
        loaded: Callable[..., Any] = found[name].load()
        return loaded
    known = sorted({*registered, *(_OWN_CATALOGS if what == "catalog" else ()), *found.names})
    raise ValidationError(f"unknown {what} {name!r}: known are {', '.join(known)}")


def _call(factory: Callable[..., Any], what: str, options: Mapping[str, Any]) -> Any:
    """Call *factory*, and say plainly which option it doesn't take."""
    try:
        return factory(**options)
    except TypeError:
        from inspect import signature  # here: it takes as long as making a backend

        try:
            signature(factory).bind(**options)
        except TypeError as error:
            raise ValidationError(f"{what}: {error}") from error
        raise


register_ltm_backend("duckdb", DuckDBLTMBackend)
register_ltm_backend("ducklake", DuckDBLTMBackend)
