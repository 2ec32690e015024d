"""What makes an LTM backend, as typed and frozen values."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from ltm.keys import DEFAULT_TABLE

PayloadFormat = Literal["json", "parquet", "duckdb"]
SSLMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]

_SECRET_FIELD = re.compile("password|connection_string|token|secret|anon_key|credentials|options")
_USERINFO = re.compile(r"(?s)^((?>.*?://)?+[^:]*:).*@")
_SECRET_PARAMETER = re.compile(
    r"(?i)(?<![\w.-])([\w.-]*(?:passw|pwd|secret|token|signature|credential|key)[\w.-]*\s*=\s*)"
    r"('(?:[^'\\]|\\.)*'|[^\s&;]+)"
)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the settings, whose ``repr`` masks secrets and leaves out what is None."""

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        fields |= {n: mask_url(value) for n, value in fields.items() if isinstance(value, str)}
        fields |= {n: "***" for n in fields if _SECRET_FIELD.search(n) and fields[n] is not None}
        return [(name, value) for name, value in fields.items() if value is not None]


class CatalogSettings(Section, frozen=True, kw_only=True):
    """Which catalog, by the name under which it is registered, and with what options."""

    type: str

    def options(self) -> dict[str, Any]:
        """Return the options that are set, as keyword arguments for the catalog's factory."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "type"}
        return {name: value for name, value in fields.items() if value is not None}


class SQLiteSettings(CatalogSettings, frozen=True, kw_only=True):
    """A catalog in one SQLite file. ``busy_timeout`` is in seconds."""

    type: str = "sqlite"
    path: Text = "ltm_catalog.db"
    durability: Literal["normal", "full"] | None = None
    busy_timeout: Seconds | None = None


class PooledSettings(CatalogSettings, frozen=True, kw_only=True):
    """What catalogs on PostgreSQL share: timeouts in seconds, ``pool_size`` for ``pool_max``."""

    connection_string: Text | None = None
    schema: Text | None = None
    pool_min: Size | None = None
    pool_max: Count | None = None
    pool_timeout: Seconds | None = None
    connect_timeout: Seconds | None = None
    statement_timeout: Seconds | None = None
    pool_mode: Literal["direct", "session", "transaction"] | None = None
    auto_migrate: bool | None = None


class PostgresSettings(PooledSettings, frozen=True, kw_only=True):
    """A catalog in PostgreSQL, by ``connection_string`` or by its parts."""

    type: str = "postgres"
    host: Text | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    database: Text | None = None
    user: Text | None = None
    password: str | None = None
    sslmode: SSLMode | None = None


class SupabaseSettings(PooledSettings, frozen=True, kw_only=True):
    """A catalog in the PostgreSQL of a Supabase project."""

    type: str = "supabase"
    access_token: Text | None = None
    jwt_secret: Text | None = None
    tenant: Name | None = None
    url: Text | None = None
    anon_key: Text | None = None


class FirestoreSettings(CatalogSettings, frozen=True, kw_only=True):
    """A catalog in Firestore. ``credentials`` is a JSON file's path, ``timeout`` in seconds."""

    type: str = "firestore"
    project: Text | None = None
    database: Text | None = None
    collection_prefix: str | None = None
    credentials: Text | None = None
    timeout: Seconds | None = None
    index_directory: Text | None = None


class PluginSettings(CatalogSettings, frozen=True, kw_only=True):
    """A catalog that a third party registers, whose factory checks its options."""

    plugin_options: dict[str, Any] = {}

    def options(self) -> dict[str, Any]:
        return dict(self.plugin_options)


class StorageSettings(Section, frozen=True, kw_only=True):
    """Where payloads lie, how they are encoded, and the options that fsspec gets.

    ``timeout`` is in seconds, for a call on one payload; None is the store's own.
    """

    uri: Text = "./ltm_data/"
    format: PayloadFormat = "json"
    timeout: Seconds | None = None
    options: dict[str, Any] = {}


class Settings(Section, frozen=True, kw_only=True):
    """All that makes an LTM backend. ``parse_settings`` checks; this constructor does not."""

    backend: Text = "duckdb"
    catalog: CatalogSettings = SQLiteSettings()
    storage: StorageSettings = field(default_factory=StorageSettings)
    inline_threshold: Size = 1024
    """Bytes; a value strictly smaller is inlined."""
    enable_fts: bool = True
    table: Name = DEFAULT_TABLE
    language: Text = "english"
    verify_reads: bool = True
    lazy: bool = True
    raise_errors: bool = False
    max_workers: Annotated[int, Meta(ge=1, le=256)] = 16
    stale_reads: bool = False
    """Whether reads are answered from memory while the catalog is unavailable."""
    stale_reads_entries: Count | None = None
    """Kept in memory for it; None is the backend's own number."""
    stale_reads_bytes: Count | None = None
    """Of the JSON text of values and metadata that are kept; None is the backend's own number."""


def mask_url(url: str) -> str:
    """Return *url* with ``***`` in place of its password.

    All from the first colon to the last ``@`` is masked, since a password may hold any character;
    and so are parameters named like a secret: ``?password=``, and in libpq's ``key=value`` pairs.
    """
    return _USERINFO.sub(r"\1***@", _SECRET_PARAMETER.sub(r"\1***", url))
