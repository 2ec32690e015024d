"""Files that are not ours: telling the content of one at any URL of fsspec."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from ltm.errors import LTMError, PayloadError
from ltm.payload.base import (
    DEFAULT_TIMEOUT,
    LOCAL_PROTOCOLS,
    MAX_WORKERS,
    mask_credentials,
    split_uri,
)
from ltm.payload.deadline import Deadline
from ltm.payload.drivers import Connection, connect, disconnect, require_known
from ltm.payload.failures import mask, secrets_in

BLOCK_BYTES = 2**20
MAX_CONNECTIONS = 16

_connections: dict[tuple[Any, ...], Connection] = {}
"""The latest, by process, since none survives a fork, and by what they were made with."""

_connecting = threading.Lock()


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
        storage_options: Handed to the driver.
        timeout: Seconds that a remote file may take.

    Raises:
        FileNotFoundError: There is no such file.
        PayloadError: It could not be read in time.
        ValidationError: No driver is known for the URL.
        MissingDependencyError: Its driver is not installed.
    """
    shown, options = mask_credentials(location), dict(storage_options or {})
    protocol, rest = split_uri(location)
    try:
        if protocol in LOCAL_PROTOCOLS:
            with open(rest, "rb") as file:
                return _hash(file)
        require_known(protocol)
        deadline = Deadline(timeout, time.monotonic)
        return deadline.bound(lambda: _hash_remote(location, protocol, options, timeout))
    except FileNotFoundError:
        missing = f"{shown}: there is no such file"
    except TimeoutError as error:
        raise PayloadError(f"{shown}: was not read within {timeout:g} seconds") from error
    except LTMError:
        raise
    except Exception as error:  # noqa: BLE001 -- drivers' exceptions have no common root
        reason = mask(f"{type(error).__name__}: {error}", secrets_in(options))
        raise PayloadError(f"{shown}: {mask_credentials(reason)}") from None
    raise FileNotFoundError(missing)


def _hash_remote(location: str, protocol: str, options: dict[str, Any], timeout: float) -> str:
    system = _connect(location, protocol, options, timeout).system
    with system.open(type(system)._strip_protocol(location), "rb") as file:
        return _hash(file)


def _connect(location: str, protocol: str, options: dict[str, Any], timeout: float) -> Connection:
    host = location.partition("://")[2].partition("/")[0]
    made_with = os.getpid(), protocol, host, timeout, repr(sorted(options.items()))
    with _connecting:
        connection = _connections.pop(made_with, None)
        if connection is None:
            connection = connect(
                location, protocol, options, timeout=timeout, max_workers=MAX_WORKERS
            )
        _connections[made_with] = connection
        if len(_connections) > MAX_CONNECTIONS:
            oldest = next(iter(_connections))
            let_go = _connections.pop(oldest)
            if oldest[0] == os.getpid():
                disconnect(let_go)
        return connection


def _hash(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"
