"""Which memory a command works on: flags, a settings file, the environment, defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ltm.errors import ValidationError

if TYPE_CHECKING:
    from ltm.backend.base import LTMBackend
    from ltm.config import CatalogSettings, FirestoreSettings, Settings, StorageSettings

CATALOG_VARIABLE = "LTM_CATALOG_URL"
STORAGE_VARIABLE = "LTM_STORAGE_URI"

_SQLITE = "sqlite:///"
_SUPPORTED = (
    "supported are sqlite:///PATH, sqlite:////ABSOLUTE/PATH, a plain file path, "
    "postgresql://USER:PASSWORD@HOST/DATABASE and firestore://PROJECT/DATABASE"
)
_POSTGRES = re.compile(r"(?i)postgres(ql)?(\+[\w.]+)?:")
_FIRESTORE = re.compile(
    r"(?i:firestore)://(?P<project>[\w.:-]*)(?:/(?P<database>[\w()%-]*))?"
    r"(?:\?collection_prefix=(?P<prefix>[^&#]*))?",
    re.ASCII,
)
# Two letters or more: one before a colon is a drive of Windows.
_OTHER_URL = re.compile(r"[A-Za-z][\w.+-]*://|[A-Za-z][\w.+-]+:")
# Of libpq's pairs, taken for the name of a file, the password would stand in that name.
_PAIRS = re.compile(r"\s*(host|hostaddr|port|dbname|user|password|service)\s*=")
_OF_SUPABASE = re.compile(r"(?i)(.*\.)?supabase\.(co|com)\.?")

_ADDRESS = frozenset(
    "type path connection_string host port database user password sslmode project".split()  # noqa: SIM905
)
"""The settings of a catalog whose place a URL takes."""


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


def parse_catalog_url(url: str) -> CatalogSettings:
    """Return the settings of the catalog that *url* names: a file, a server's or Firestore's.

    Raises:
        ValidationError: It names something else, or is not whole; no password is quoted.
    """
    from ltm.config import PostgresSettings, SQLiteSettings, SupabaseSettings, mask_url

    if _POSTGRES.match(url):
        is_supabase = _OF_SUPABASE.fullmatch(_host(url)) is not None
        kind = SupabaseSettings if is_supabase else PostgresSettings
        return kind(connection_string=url)
    if url.startswith(_SQLITE):
        path = url.removeprefix(_SQLITE)
        if not path or "?" in path:
            raise ValidationError(
                f"catalog {mask_url(url)!r}: expected a path and nothing else after it"
            )
        return SQLiteSettings(path=path)
    if url.lower().startswith("firestore:"):
        return _firestore(url)
    if _PAIRS.match(url):
        raise ValidationError(
            f"catalog: pairs such as host=... go into a settings file: {_SUPPORTED}"
        )
    if _OTHER_URL.match(url) and url != ":memory:":
        raise ValidationError(f"catalog {mask_url(url)!r}: {_SUPPORTED}")
    if not url:
        raise ValidationError(f"catalog: is empty: {_SUPPORTED}")
    return SQLiteSettings(path=url)


def _firestore(url: str) -> FirestoreSettings:
    from urllib.parse import unquote

    from ltm.config import FirestoreSettings

    parts = _FIRESTORE.fullmatch(url)
    if parts is None:
        # Not quoted: where it is not understood, anything in it may be a secret.
        raise ValidationError(
            "catalog: expected firestore://PROJECT/DATABASE?collection_prefix=PREFIX, where "
            "DATABASE and what follows may be left out; other options go into a settings file"
        )
    project, database, prefix = parts.groups()
    return FirestoreSettings(
        project=project or None,
        database=unquote(database) if database else None,
        collection_prefix=None if prefix is None else unquote(prefix),
    )


def _host(url: str) -> str:
    from ltm.sql.addresses import parse_address

    try:
        return parse_address(url).host or ""
    except ValidationError as error:
        raise ValidationError(
            f"catalog: {str(error).removeprefix('connection_string: ')}"
        ) from error


def _catalog(url: str, configured: CatalogSettings) -> CatalogSettings:
    """Return the catalog at *url*, with what is *configured* beside the address and fits it."""
    from ltm.config import PostgresSettings, SupabaseSettings

    named = parse_catalog_url(url)
    kind = type(named)
    if kind is PostgresSettings and isinstance(configured, SupabaseSettings):
        # A project of one's own has any host; a token must not be lost on the way.
        kind = SupabaseSettings
    kept = {
        name: getattr(configured, name)
        for name in kind.__struct_fields__
        if name in configured.__struct_fields__ and name not in _ADDRESS
    }
    return kind(**kept | named.options())


def _storage(uri: str, configured: StorageSettings) -> StorageSettings:
    from msgspec import structs

    # The options of one kind of store mean nothing, or something else, to another.
    is_same_kind = protocol_of(uri) == protocol_of(configured.uri)
    options = configured.options if is_same_kind else {}
    return structs.replace(configured, uri=uri, options=options)


def protocol_of(uri: str) -> str:
    """Return the protocol of a storage URI, ``""`` for a plain path."""
    return uri.partition("://")[0] if "://" in uri else ""
