"""Files that are there whole, under a name of their own, after a crash of the machine too."""

from __future__ import annotations

import errno
import os

# What link() answers on file systems that have no hard links.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def publish(temporary: str, target: str) -> None:
    """Give the file at *temporary* the name *target* too; where there are no links, instead.

    Raises:
        FileExistsError: Something has that name.
        OSError: It could not be done.
    """
    # link() refuses a name that is taken, rename() replaces what has it. With the unlink() that
    # follows it costs as many calls as a look and a rename(), without the gap between these.
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # The gap is harmless in practice: nobody else makes a file of that name.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        os.rename(temporary, target)


def sync_directory(directory: str) -> None:
    """Make the names in *directory* durable."""
    if os.name != "nt":  # Windows opens no directories; NTFS journals their changes
        _sync(directory, os.O_RDONLY)


def sync_file(path: str) -> None:
    """Make the content of the file at *path* durable."""
    _sync(path, os.O_RDWR)


def _sync(path: str, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
