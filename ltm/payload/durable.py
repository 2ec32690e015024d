"""Files that are there whole, under a name of their own, after a crash of the machine too."""

from __future__ import annotations

import errno
import os

_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
_CREATE_UNNAMED = getattr(os, "O_TMPFILE", 0) | os.O_WRONLY
_HAS_UNNAMED = hasattr(os, "O_TMPFILE")

# What link() answers on file systems that have no hard links.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def create(target: str, temporary: str, content: bytes) -> None:
    """Create the file *target* with *content*; it is durable before it gets this name.

    The name itself is durable after :func:`sync_directory`. On failure nothing is left.

    Args:
        temporary: A free name in the same directory, for systems on which every file has a name.

    Raises:
        FileExistsError: Something has that name.
        OSError: It could not be done.
    """
    if _create_unnamed(target, content):
        return
    descriptor = os.open(temporary, _CREATE, 0o666)
    try:
        try:
            _write(descriptor, content)
        finally:
            os.close(descriptor)
        publish(temporary, target)
    finally:
        try:
            os.unlink(temporary)
        except OSError:  # an interrupt, too, would leave it behind
            pass


def _create_unnamed(target: str, content: bytes) -> bool:
    """Do that with a file that has no name before, as Linux and most of its file systems can.

    It spares the directory two changes, and the journal what syncing the file would write of them.

    Returns:
        Whether it was possible; if not, nothing has happened.
    """
    if not _HAS_UNNAMED:
        return False
    try:
        descriptor = os.open(os.path.dirname(target), _CREATE_UNNAMED, 0o666)
    except OSError:
        return False
    try:
        _write(descriptor, content)
        try:
            # That the source is given a directory makes it linkat(), which can follow links.
            source = f"/proc/self/fd/{descriptor}"
            os.link(source, target, src_dir_fd=descriptor, follow_symlinks=True)
        except FileExistsError:
            raise
        except OSError:  # where /proc is missing, too
            return False
    finally:
        try:
            os.close(descriptor)
        except OSError:  # after the sync, it has nothing to say
            pass
    return True


def _write(descriptor: int, content: bytes) -> None:
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
    os.fsync(descriptor)


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
