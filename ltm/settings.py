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
_PASSWORD_ONWARD = re.compile(r"(?s)^((?>.*?://)?+[^:]*:)(?!\d+[,/?#]).*")
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
    """The name under which the catalog is registered."""

    def options(self) -> dict[str, Any]:
        """Return the options that are set, as keyword arguments for the catalog's factory."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "type"}
        return {name: value for name, value in fields.items() if value is not None}


class SQLiteSettings(CatalogSettings, frozen=True, kw_only=True):
    """A catalog in one SQLite file."""

    type: str = "sqlite"
    path: Text = "ltm_catalog.db"
    """The file, made where there is none; ``:memory:`` for a database in memory."""
    durability: Literal["normal", "full"] | None = None
    """``full``: an fsync for every commit. By default ``normal``."""
    busy_timeout: Seconds | None = None
    """Seconds to wait for another process's write; by default 30."""


class PooledSettings(CatalogSettings, frozen=True, kw_only=True):
    """What catalogs on PostgreSQL share."""

    connection_string: Text | None = None
    """``postgresql://user:password@host:port/database``, or libpq's ``key=value`` pairs."""
    schema: Text | None = None
    """PostgreSQL's schema for the tables, with case; by default where the role looks first."""
    pool_min: Size | None = None
    """Connections kept while there is little to do, at most ``pool_max``; by default 1."""
    pool_max: Count | None = None
    """Connections at most; by default 10."""
    pool_timeout: Seconds | None = None
    """Seconds to wait for a connection while all are in use; by default 30."""
    connect_timeout: Seconds | None = None
    """Seconds that connecting may take, whole ones, 2 or more; by default 10."""
    statement_timeout: Seconds | None = None
    """Seconds that the answer to one statement may take; by default 30."""
    pool_mode: Literal["direct", "session", "transaction"] | None = None
    """What stands before the server: nothing, or a pooler in session or transaction mode."""
    auto_migrate: bool | None = None
    """Whether first use makes or upgrades the schema; by default it is left to `ltm db upgrade`."""


class PostgresSettings(PooledSettings, frozen=True, kw_only=True):
    """A catalog in PostgreSQL, by ``connection_string`` or by its parts."""

    type: str = "postgres"
    host: Text | None = None
    """Of the server; this and the other parts are by default libpq's: ``PGHOST``, ..."""
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Of the server."""
    database: Text | None = None
    """The name of the database."""
    user: Text | None = None
    """The role that logs in."""
    password: str | None = None
    """Of the role; better a reference such as ``${POSTGRES_PASSWORD}``."""
    sslmode: SSLMode | None = None
    """How far the connection is encrypted and the server proved, as libpq has it."""


class SupabaseSettings(PooledSettings, frozen=True, kw_only=True):
    """A catalog in the PostgreSQL of a Supabase project."""

    type: str = "supabase"
    access_token: Text | None = None
    """A JWT, whose role and claims every transaction takes on."""
    jwt_secret: Text | None = None
    """The project's secret, to verify ``access_token`` by; without it the token is trusted."""
    tenant: Name | None = None
    """The tenant to work for without a token."""
    url: Text | None = None
    """The project's URL; not used, as it doesn't reach PostgreSQL."""
    anon_key: Text | None = None
    """The project's public key; not used, as it doesn't reach PostgreSQL."""


class FirestoreSettings(CatalogSettings, frozen=True, kw_only=True):
    """A catalog in Firestore."""

    type: str = "firestore"
    project: Text | None = None
    """The Google Cloud project; by default that of the environment."""
    database: Text | None = None
    """The database in the project, in native mode; by default ``(default)``."""
    collection_prefix: str | None = None
    """What the names of all collections begin with; by default nothing."""
    credentials: Text | None = None
    """The path of a service account's JSON file; by default those of the environment."""
    timeout: Seconds | None = None
    """Seconds that one request may take with its repetitions; by default 15."""
    index_directory: Text | None = None
    """Where the local index of search words is kept; by default beside a local payload store."""


class PluginSettings(CatalogSettings, frozen=True, kw_only=True):
    """A catalog that a third party registers, whose factory checks its options."""

    plugin_options: dict[str, Any] = {}

    def options(self) -> dict[str, Any]:
        return dict(self.plugin_options)


class StorageSettings(Section, frozen=True, kw_only=True):
    """Where payloads lie, how they are encoded, and the options that fsspec gets."""

    uri: Text = "./ltm_data/"
    """A directory, a path that ends in ``.duckdb``, or any URL that fsspec has a driver for."""
    format: PayloadFormat = "json"
    """What new payloads are written as; all formats are read whatever it says."""
    timeout: Seconds | None = None
    """Seconds for a call on one payload, retries included; by default 120."""
    options: dict[str, Any] = {}
    """Handed to fsspec as they are."""


class Settings(Section, frozen=True, kw_only=True):
    """All that makes an LTM backend. ``parse_settings`` checks; this constructor does not."""

    backend: Text = "duckdb"
    """``duckdb``, its alias ``ducklake``, or a name that a package registers."""
    catalog: CatalogSettings = SQLiteSettings()
    """The index of what is remembered; its type alone, or a mapping with the type's options."""
    storage: StorageSettings = field(default_factory=StorageSettings)
    """Where large values lie; a URI alone, or a mapping."""
    inline_threshold: Size = 1024
    """Bytes; a value strictly smaller is inlined."""
    enable_fts: bool = True
    """Whether values can be found by their words."""
    table: Name = DEFAULT_TABLE
    """The logical table, made on first use."""
    language: Text = "english"
    """Of the search words of a table that is made."""
    verify_reads: bool = True
    """Whether every read checks the content hash."""
    lazy: bool = True
    """Whether the catalog is opened at the first call rather than at once."""
    raise_errors: bool = False
    """Whether failures are raised instead of answered."""
    max_workers: Annotated[int, Meta(ge=1, le=256)] = 16
    """Payloads read or written at once."""
    stale_reads: bool = False
    """Whether reads are answered from memory while the catalog is unavailable."""
    stale_reads_entries: Count | None = None
    """Entries kept in memory for it at most; by default 10,000."""
    stale_reads_bytes: Count | None = None
    """Bytes of the JSON text of their values and metadata at most; by default 32 MiB."""


_TYPED = SQLiteSettings, PostgresSettings, SupabaseSettings, FirestoreSettings
CATALOGS: dict[str, type[CatalogSettings]] = {
    **{kind().type: kind for kind in _TYPED},
    "postgresql": PostgresSettings,
}
"""The sections of the catalogs of this library, by the names that ``type`` has for them."""

EXCLUSIVE = {
    "pool_size": "pool_max",
    **dict.fromkeys(("host", "port", "database", "user", "password"), "connection_string"),
}
"""Settings of a catalog that may not be given together with another one."""

S3_OPTIONS = {
    "s3_region": "region_name",
    "s3_endpoint": "endpoint_url",
    "s3_access_key_id": "key",
    "s3_secret_access_key": "secret",
}
"""Short names in ``storage`` for options of s3fs; the region goes into ``client_kwargs``."""

_SHORTHANDS: dict[type[Section], dict[str, tuple[Any, str]]] = {
    Settings: {"payload_format": (PayloadFormat, "Another place for ``storage.format``.")},
    PooledSettings: {"pool_size": (Count, "Another name of ``pool_max``.")},
    StorageSettings: {
        "s3_region": (Text, "The region of the bucket, for s3fs."),
        "s3_endpoint": (Text, "The URL of a server that speaks S3, for s3fs."),
        "s3_access_key_id": (Text, "The access key, for s3fs; by default the environment's."),
        "s3_secret_access_key": (Text, "The secret key, for s3fs; by default the environment's."),
    },
}


def shorthands(kind: type[Section]) -> dict[str, tuple[Any, str]]:
    """Return what may be written beside the fields of *kind*: the type and the meaning by name."""
    found = (each for base, each in _SHORTHANDS.items() if issubclass(kind, base))
    return {name: meaning for each in found for name, meaning in each.items()}


def mask_url(url: str) -> str:
    """Return *url* with ``***`` in place of its password.

    All from the first colon to the last ``@`` is masked, since a password may hold any character;
    and so are parameters named like a secret: ``?password=``, and in libpq's ``key=value`` pairs.
    """
    masked = _SECRET_PARAMETER.sub(r"\1***", url)
    if masked.count("@") < url.count("@"):
        # Where the password ends is not known: what looked like a parameter may be in it.
        masked = _PASSWORD_ONWARD.sub(r"\1***", masked)
    return _USERINFO.sub(r"\1***@", masked)
