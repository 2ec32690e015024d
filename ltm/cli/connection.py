"""Which memory a command works on: flags, a settings file, the environment, defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ltm.errors import ValidationError

if TYPE_CHECKING:
    from ltm.backend.base import LTMBackend
    from ltm.config import CatalogSettings, Settings, StorageSettings

CATALOG_VARIABLE = "LTM_CATALOG_URL"
STORAGE_VARIABLE = "LTM_STORAGE_URI"

_SQLITE = "sqlite:///"
_SUPPORTED = "supported are sqlite:///PATH, sqlite:////ABSOLUTE/PATH and a plain file path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The flags that name a memory; None where one was not given."""

    config: str | None = None
    catalog: str | None = None
    storage: str | None = None
    table: str | None = None


def resolve_settings(target: Target, environ: Mapping[str, str]) -> Settings:
    """Return the settings that *target* stands for.

    With a settings file the variables in *environ* do not count, since the library ignores them
    there too: the same file is the same memory. An empty variable is none.

    Raises:
        ValidationError: A catalog URL or a settings file that is not understood.
        MissingDependencyError: A settings file, without PyYAML.
    """
    from msgspec import structs

    from ltm.config import Settings, load_settings

    catalog, storage = target.catalog, target.storage
    if target.config is not None:
        settings = load_settings(target.config, environ=environ)
    else:
        settings = Settings()
        catalog = (environ.get(CATALOG_VARIABLE) or None) if catalog is None else catalog
        storage = (environ.get(STORAGE_VARIABLE) or None) if storage is None else storage
    if catalog is not None:
        settings = structs.replace(settings, catalog=_catalog(catalog, settings.catalog))
    if storage is not None:
        settings = structs.replace(settings, storage=_storage(storage, settings.storage))
    if target.table is not None:
        settings = structs.replace(settings, table=target.table)
    # Answers hold more than exceptions do: what was found before something failed.
    return structs.replace(settings, raise_errors=False)


def open_memory(target: Target, environ: Mapping[str, str]) -> LTMBackend:
    """Return the LTM backend that *target* stands for; nothing is opened until first use.

    Raises:
        LTMError: What is asked for can't be made.
    """
    from ltm.factory import create_ltm_from_settings

    return create_ltm_from_settings(resolve_settings(target, environ))


def catalog_path(settings: Settings) -> str:
    """Return the file of the SQLite catalog in *settings*.

    Raises:
        ValidationError: The catalog is another one.
    """
    from ltm.config import SQLiteSettings

    if not isinstance(settings.catalog, SQLiteSettings):
        raise ValidationError(f"catalog {settings.catalog.type!r} has no schema to manage here")
    return settings.catalog.path


def parse_catalog_url(url: str) -> str:
    """Return the path of the SQLite file that *url* names.

    Raises:
        ValidationError: It names something else; a password in it is masked.
    """
    if url.startswith(_SQLITE):
        path = url.removeprefix(_SQLITE)
        if not path or "?" in path:
            raise ValidationError(f"catalog {url!r}: expected a path and nothing else after it")
        return path
    # Two letters or more: one before a colon is a drive of Windows.
    if re.match(r"[A-Za-z][\w.+-]*://|[A-Za-z][\w.+-]+:", url) and url != ":memory:":
        from ltm.config import mask_url

        raise ValidationError(f"catalog {mask_url(url)!r}: {_SUPPORTED}")
    if not url:
        raise ValidationError(f"catalog: is empty: {_SUPPORTED}")
    return url


def _catalog(url: str, configured: CatalogSettings) -> CatalogSettings:
    from msgspec import structs

    from ltm.config import SQLiteSettings

    path = parse_catalog_url(url)
    if isinstance(configured, SQLiteSettings):
        return structs.replace(configured, path=path)
    return SQLiteSettings(path=path)


def _storage(uri: str, configured: StorageSettings) -> StorageSettings:
    from msgspec import structs

    # The options of one kind of store mean nothing, or something else, to another.
    is_same_kind = _protocol(uri) == _protocol(configured.uri)
    options = configured.options if is_same_kind else {}
    return structs.replace(configured, uri=uri, options=options)


def _protocol(uri: str) -> str:
    return uri.partition("://")[0] if "://" in uri else ""
