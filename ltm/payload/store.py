"""The choice between payload stores.

What only stores on fsspec or in DuckDB need is imported for them alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ltm.payload.base import (
    DEFAULT_TIMEOUT,
    LOCAL_PROTOCOLS,
    MAX_WORKERS,
    PayloadStore,
    split_uri,
    validate_timeout,
)
from ltm.payload.local import LocalPayloadStore
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def open_payload_store(
    uri: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    max_workers: int = MAX_WORKERS,
    timeout: float = DEFAULT_TIMEOUT,
) -> PayloadStore:
    """Return the payload store at *uri*, without I/O: a wrong address shows at the first operation.

    Args:
        uri: A path or ``file://`` URL for a local directory, or for one DuckDB file if it ends in
            ``.duckdb``; else a URL that fsspec knows.
        storage_options: What the fsspec driver takes; of no use to a local directory or file.
        max_workers: At most so many objects of all batches are under way at once; 1 or more.
        timeout: Seconds that a call on one object may take, retries included, or that one on a
            DuckDB file waits for other processes; of no use to a local directory.

    Raises:
        ValidationError: No driver is known for the protocol of *uri*, or an argument is not valid.
    """
    validate_timeout(timeout)
    protocol, rest = split_uri(uri)
    if protocol in LOCAL_PROTOCOLS:
        if rest.endswith(".duckdb"):
            from ltm.payload.native import DuckDBFilePayloadStore

            return DuckDBFilePayloadStore(uri, max_workers=max_workers, timeout=timeout)
        return LocalPayloadStore(uri, max_workers=max_workers)
    from ltm.payload.remote import FsspecPayloadStore

    return FsspecPayloadStore(
        os.fspath(uri), storage_options=storage_options, max_workers=max_workers, timeout=timeout
    )
