"""Whether the optional packages that settings need can be imported, and are new enough."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from ltm.config import FirestoreSettings, PostgresSettings, Settings, SupabaseSettings
from ltm.errors import ValidationError
from ltm.finding import Finding, ok, problem
from ltm.payload.base import split_uri
from ltm.payload.drivers import package_of

CHECK = "driver"

Version = tuple[int, ...]


class Package(NamedTuple):
    """An optional package, as ``pyproject.toml`` asks for it."""

    distribution: str
    module: str
    least: Version
    below: Version | None = None


PACKAGES = {
    each.distribution: each
    for each in (
        Package("psycopg", "psycopg", (3, 2, 2)),
        Package("pyjwt", "jwt", (2, 9)),
        Package("google-cloud-firestore", "google.cloud.firestore", (2, 20)),
        Package("duckdb", "duckdb", (1, 3), (2,)),
        Package("pyarrow", "pyarrow", (18,)),
        Package("s3fs", "s3fs", (2025, 3)),
        Package("gcsfs", "gcsfs", (2025, 3)),
        Package("adlfs", "adlfs", (2024, 12)),
    )
}


def diagnose_packages(settings: Settings) -> Iterator[Finding]:
    """Yield how each optional package is that *settings* need."""
    for name, extra in dict(needed_packages(settings)).items():
        yield describe_package(PACKAGES[name], extra)


def needed_packages(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the packages that *settings* need, each with the extra that brings it."""
    catalog, storage = settings.catalog, settings.storage
    if isinstance(catalog, PostgresSettings | SupabaseSettings):
        yield "psycopg", "postgres"
    if isinstance(catalog, SupabaseSettings) and catalog.access_token is not None:
        yield "pyjwt", "postgres"
    if isinstance(catalog, FirestoreSettings):
        yield "google-cloud-firestore", "firestore"
        if settings.enable_fts:
            yield "duckdb", "firestore"
    try:
        protocol, rest = split_uri(storage.uri)
    except ValidationError:
        return  # the storage says so itself
    driver = package_of(protocol)
    if driver is not None:
        yield driver
    if storage.format == "parquet":
        yield "pyarrow", "duckdb"
    elif storage.format == "duckdb" or (driver is None and rest.endswith(".duckdb")):
        yield "duckdb", "duckdb"


def describe_package(package: Package, extra: str) -> Finding:
    """Return how *package* is, which *extra* brings; it is imported."""
    remedy = f"pip install 'ltm[{extra}]'"
    try:
        import_module(package.module)
    except Exception as error:  # noqa: BLE001 -- a package that is broken may raise anything
        reason = str(error).strip().partition("\n")[0]
        what = f"can't be imported ({type(error).__name__}: {reason})"
        return problem(CHECK, f"{package.distribution} {what}", remedy, "dependency_missing")
    found = installed_version(package.distribution)
    if found is None:
        return ok(CHECK, f"{package.distribution} can be imported")
    parts = _parse(found)
    if parts < package.least or (package.below is not None and parts >= package.below):
        wanted = f"{_shown(package.least)} or newer"
        wanted += "" if package.below is None else f" and below {_shown(package.below)}"
        message = f"{package.distribution} {found} is not supported: it takes {wanted}"
        upgrade = remedy.replace("install", "install --upgrade")
        return problem(CHECK, message, upgrade, "dependency_missing")
    return ok(CHECK, f"{package.distribution} {found}")


def installed_version(distribution: str) -> str | None:
    """Return the version of *distribution*, None where nothing says it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _parse(text: str) -> Version:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _shown(parts: Version) -> str:
    return ".".join(map(str, parts))
