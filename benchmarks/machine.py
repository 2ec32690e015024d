"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    *("ltm", "sqlalchemy", "psycopg", "s3fs", "boto3", "moto", "diskcache"),
    *("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "py-key-value-aio"),
)


def describe_machine() -> dict[str, str]:
    """Return what a reader has to know of machine and software, by name."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processors": f"{os.cpu_count()} x {_processor()}",
        "load before the run": f"{os.getloadavg()[0]:.1f} programs at work",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "packages": ", ".join(_installed()),
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _installed() -> list[str]:
    found = []
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found
