"""Whether a payload store can be used, and if not, which of the common causes it is."""

from __future__ import annotations

import errno
import os
import shutil
from typing import NamedTuple

from ltm.clock import Clock
from ltm.errors import LTMError, MissingDependencyError, PayloadNotFoundError
from ltm.finding import Finding, compare_clocks, ok, problem, skipped, warning
from ltm.payload.base import PayloadStore, mask_credentials
from ltm.payload.failures import is_bucket_missing, meaning_of, status_and_code

CHECK = "storage"

LEAST_FREE_BYTES = 100 * 1024 * 1024
"""A local disk with less is as good as full."""

_TIMESTAMP_SECONDS = 1.0
"""Object stores tell times to the second."""


class Cause(NamedTuple):
    """What is wrong, and what to do."""

    message: str
    remedy: str


_BUCKET_MISSING = Cause(
    "there is no such bucket or container", "make it, or name another one with --storage"
)
_DENIED = Cause(
    "access is denied to these credentials",
    "give them the right to read, write and delete objects there, or use others",
)
_NO_CREDENTIALS = Cause(
    "no credentials are to be found",
    "set those that its driver looks for in the environment, or give them in the storage options",
)
_UNREACHABLE = Cause(
    "the endpoint does not answer",
    "check the endpoint in the storage options, and that this machine reaches it",
)
_READ_ONLY = Cause("the file system is read-only", "mount it so that it can be written")
_FULL = Cause("the disk is full", "free some space: 'ltm gc' deletes what nothing names")
_NOT_PERMITTED = Cause(
    "this user may not write there", "let this user read and write the directory"
)
_IN_THE_WAY = Cause(
    "something that is no directory is in the way", "name another directory with --storage"
)

_WITHOUT_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")

_BY_NUMBER = {
    errno.EROFS: _READ_ONLY,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _NOT_PERMITTED,
    errno.EPERM: _NOT_PERMITTED,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
}


def cause_of(error: LTMError, *, is_local: bool) -> Cause | None:
    """Return which common cause a store's *error* has; None where it is none of them."""
    failure = error.__cause__
    if failure is None:
        return None
    if is_local:
        return _BY_NUMBER.get(getattr(failure, "errno", None) or 0)
    if isinstance(error, PayloadNotFoundError):
        return None  # written, and gone: nothing common
    # Of a write, nothing but the bucket can be missing.
    if isinstance(failure, FileNotFoundError) or is_bucket_missing(failure):
        return _BUCKET_MISSING
    if type(failure).__name__ in _WITHOUT_CREDENTIALS:
        return _NO_CREDENTIALS
    status, _ = status_and_code(failure)
    if status in (401, 403) or isinstance(failure, PermissionError):
        return _DENIED
    return _UNREACHABLE if meaning_of(failure) == "transient" else None


def describe_failure(store: PayloadStore, error: LTMError) -> Finding:
    """Return what an *error* of writing, reading or deleting a probe in *store* means."""
    if isinstance(error, MissingDependencyError):
        return skipped(CHECK, "its driver is not installed")
    cause = cause_of(error, is_local=store.directory is not None)
    remedy = "this is what the store says" if cause is None else cause.remedy
    where = mask_credentials(store.root)
    message = str(error) if cause is None else f"{where} can't be used: {cause.message}"
    return problem(CHECK, message, remedy, error.error_type)


def describe_space(store: PayloadStore, least_free_bytes: int = LEAST_FREE_BYTES) -> Finding | None:
    """Return how much room there is for *store*; None where it is on no local disk."""
    if store.directory is None or not os.path.isdir(store.directory):
        return None
    free = shutil.disk_usage(store.directory).free
    if free >= least_free_bytes:
        return ok("disk", f"{free / 2**30:,.1f} GB are free for {store.directory}")
    return warning(
        "disk", f"only {free / 2**20:,.0f} MB are free for {store.directory}", _FULL.remedy
    )


def compare_store_clock(store: PayloadStore, directory: str, clock: Clock) -> Finding | None:
    """Return how the clock of a remote *store* stands to ours, told by an object made for it.

    Args:
        store: Where the object is made, and deleted.
        directory: Its path there, in which little else is.
        clock: Tells our time.

    Returns:
        None where the object is not in the listing.

    Raises:
        PayloadError: It could not be made, listed or deleted.
    """
    path = f"{directory}/clock-{os.urandom(8).hex()}.json"
    before = clock()
    store.write(path, b"{}")
    after = clock()
    try:
        seen = [found.modified_at for found in store.list(directory) if found.path == path]
    finally:
        store.delete(path)
    if not seen:
        return None
    return compare_clocks(
        "the clock of the storage", seen[0], before, after, resolution_seconds=_TIMESTAMP_SECONDS
    )
