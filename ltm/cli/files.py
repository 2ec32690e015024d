"""Files and standard streams that commands read and write whole."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from ltm.errors import LTMError, PayloadError, ValidationError

STANDARD = "-"


@contextmanager
def written_whole(path: str) -> Iterator[BinaryIO]:
    """Give a file that takes the place of *path*, durably, when the block ends well.

    Until then, and where the block raises, what is at *path* stays. A kill may leave a hidden file
    beside it. ``-`` is standard output, written as it comes.

    Raises:
        ValidationError: *path* is a directory or a device.
        PayloadError: The file could not be written.
    """
    if path == STANDARD:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    # Links stay links.
    location = os.path.realpath(path)
    if os.path.exists(location) and not os.path.isfile(location):
        raise ValidationError(f"file {path!r}: is not a regular file")
    directory, name = os.path.split(location)
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, location)
        _sync_directory(directory)
    except LTMError:
        raise
    except OSError as error:
        raise PayloadError(f"file {path!r}: cannot be written: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


@contextmanager
def read_from(path: str) -> Iterator[BinaryIO]:
    """Give the file at *path* for reading; ``-`` is standard input.

    Raises:
        ValidationError: It can't be opened, or nothing is piped in.
    """
    if path == STANDARD:
        # Python leaves None where a process was started with its standard input closed.
        if sys.stdin is None or sys.stdin.isatty():
            raise ValidationError("standard input: nothing is piped in")
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 -- only opening it is to be translated
    except OSError as error:
        raise ValidationError(f"file {path!r}: {error.strerror or error}") from error
    with file:
        yield file


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
