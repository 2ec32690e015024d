"""Files that are not ours: reading one at any URL of fsspec to tell its content."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from typing import IO, Any

from ltm.errors import MissingDependencyError, PayloadError
from ltm.payload.base import DEFAULT_TIMEOUT
from ltm.payload.deadline import Deadline
from ltm.settings import mask_url

_BLOCK_BYTES = 2**20


def names_file(value: object) -> bool:
    """Return whether *value* is a path object, a URL, or text that names a local file."""
    if isinstance(value, os.PathLike):
        return True
    if not isinstance(value, str) or "\0" in value:
        return False
    return "://" in value or os.path.isfile(value)


def hash_file(
    location: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> str:
    """Return ``sha256:`` and the hexadecimal SHA-256 of a file's bytes, read block by block.

    Args:
        location: A local path, or a URL for which fsspec has a driver.
        storage_options: Handed to fsspec.
        timeout: Seconds that a remote file may take.

    Raises:
        FileNotFoundError: There is no such file.
        PayloadError: It could not be read in time.
        MissingDependencyError: The driver is not installed.
    """
    shown = mask_url(location)
    try:
        if "://" not in location:
            with open(location, "rb") as file:
                return _hash(file)
        return Deadline(timeout, time.monotonic).bound(
            lambda: _hash_remote(location, storage_options or {})
        )
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{shown}: there is no such file") from error
    except TimeoutError as error:
        raise PayloadError(f"{shown}: was not read within {timeout} seconds") from error
    except ImportError as error:
        raise MissingDependencyError(f"the driver for {shown}", "s3,gcs,azure") from error
    except Exception as error:  # drivers raise what they like
        raise PayloadError(f"{shown}: {type(error).__name__}: {mask_url(str(error))}") from error


def _hash_remote(location: str, options: Mapping[str, Any]) -> str:
    import fsspec

    with fsspec.open(location, "rb", **options) as file:
        return _hash(file)


def _hash(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"
