"""Where a dataset is published: seen whole under its name, or not at all.

Files are made in a workspace and handed over one by one. Locally the workspace lies beside the
destination and takes its name at the end. Elsewhere each file is uploaded as it comes, and a
manifest that comes last says that the dataset is whole.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from shutil import rmtree
from types import TracebackType
from typing import Any, NamedTuple, Self

from ltm.errors import PayloadError, ValidationError
from ltm.payload.base import LOCAL_PROTOCOLS, mask_credentials, split_uri
from ltm.payload.durable import publish, sync_directory, sync_file
from ltm.payload.local import LocalPayloadStore

MANIFEST = "_manifest.json"

_CHUNK_BYTES = 1024 * 1024


class PublishedFile(NamedTuple):
    """One file of a dataset."""

    path: str
    """Relative to the dataset, with slashes."""
    byte_size: int
    sha256: str
    """Hexadecimal."""
    rows: int | None
    """None for what is no file of rows."""


class Destination(ABC):
    """A place with nothing in it, for one file or for a directory of files.

    As a context manager it requires the place to be free and makes the workspace. At the end that
    is removed, and whatever was uploaded unless :meth:`publish` has returned.
    """

    address: str
    """Where the dataset will be found: an absolute path, or a URL."""
    workspace: str
    """The local directory in which the dataset's files are made, at their paths."""
    scratch: str
    """A local directory for what is not part of the dataset."""

    def __init__(self, *, is_file: bool) -> None:
        """Take a place for a directory, or for a single file that :meth:`add` is given once."""
        self._is_file = is_file
        self._is_published = False
        self.files: list[PublishedFile] = []

    @property
    def byte_size(self) -> int:
        """Bytes of all files so far."""
        return sum(file.byte_size for file in self.files)

    @property
    def shown(self) -> str:
        """The address without credentials."""
        return mask_credentials(self.address)

    def __enter__(self) -> Self:
        try:
            self.require_free()
            self._begin()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if not self._is_published:
                self._withdraw()
        finally:
            self._end()

    @abstractmethod
    def require_free(self) -> None:
        """Do nothing, if nothing is at the destination.

        Raises:
            ValidationError: There is something.
            PayloadError: Whether there is something could not be found out.
        """

    def add(self, path: str, rows: int | None) -> None:
        """Take over the file at *path* in the workspace, which is complete, durably.

        Raises:
            PayloadError: It could not be read or uploaded.
        """
        byte_size, digest = _measure(self._local(path))
        self._keep(path)
        self.files.append(PublishedFile(path, byte_size, digest, rows))

    def publish(self, manifest: bytes) -> None:
        """Let the dataset be seen, with *manifest* if it is a directory.

        Raises:
            ValidationError: Somebody else has published something there meanwhile.
            PayloadError: It could not be done, and nothing is there.
        """
        self._publish(manifest)
        self._is_published = True

    @abstractmethod
    def _begin(self) -> None:
        """Make the workspace."""

    @abstractmethod
    def _end(self) -> None:
        """Remove the workspace."""

    @abstractmethod
    def _withdraw(self) -> None:
        """Remove what was uploaded, as far as that works."""

    @abstractmethod
    def _keep(self, path: str) -> None:
        """Make the file at *path* durable, or upload it."""

    @abstractmethod
    def _publish(self, manifest: bytes) -> None: ...

    def _local(self, path: str) -> str:
        return os.path.join(self.workspace, *path.split("/"))

    def _taken(self) -> ValidationError:
        return ValidationError(
            f"destination {self.shown!r}: there is something already, and nothing is overwritten"
        )


class LocalDestination(Destination):
    """A path that nothing has, or for a directory an empty one, in a directory that is there."""

    def __init__(self, uri: str | os.PathLike[str], *, is_file: bool) -> None:
        super().__init__(is_file=is_file)
        # It knows how the paths of payloads are to be read, and the same goes for this one.
        self.address: str = LocalPayloadStore(uri).directory.rstrip("/")
        self._parent, self._name = os.path.split(self.address)
        if not self._name:
            raise ValidationError(f"destination {os.fspath(uri)!r}: expected a path below the root")
        self._temporary = os.path.join(
            self._parent, f".{self._name[:40]}.{secrets.token_hex(8)}.tmp"
        )
        self.workspace = os.path.join(self._temporary, "dataset")
        self.scratch = os.path.join(self._temporary, "scratch")

    def require_free(self) -> None:
        if not os.path.isdir(self._parent):
            raise ValidationError(
                f"destination {self.address!r}: there is no directory {self._parent!r}"
            )
        is_directory = os.path.isdir(self.address) and not os.path.islink(self.address)
        if is_directory and not self._is_file and not os.listdir(self.address):
            return
        try:
            os.lstat(self.address)
        except FileNotFoundError:
            return
        raise self._taken()

    def _begin(self) -> None:
        for directory in (self._temporary, self.workspace, self.scratch):
            os.mkdir(directory)

    def _end(self) -> None:
        rmtree(self._temporary, ignore_errors=True)

    def _withdraw(self) -> None:
        pass

    def _keep(self, path: str) -> None:
        sync_file(self._local(path))

    def _publish(self, manifest: bytes) -> None:
        try:
            if self._is_file:
                self._publish_file(self._local(self.files[0].path))
            else:
                self._publish_directory(manifest)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._taken() from error
        except OSError as error:
            if not self._is_file and os.path.lexists(self.address):
                raise self._taken() from error  # not every system says it in the same way
            raise

    def _publish_file(self, path: str) -> None:
        publish(path, self.address)
        self._settle(path)

    def _publish_directory(self, manifest: bytes) -> None:
        path = self._local(MANIFEST)
        with open(path, "xb") as file:
            file.write(manifest)
        sync_file(path)
        for directory, _, _ in os.walk(self.workspace):
            sync_directory(directory)
        # It takes the place of nothing but an empty directory.
        os.rename(self.workspace, self.address)
        self._settle(self.workspace)

    def _settle(self, back: str) -> None:
        """Make the new name durable; where that fails, take it *back*."""
        try:
            sync_directory(self._parent)
        except OSError:
            os.replace(self.address, back)
            raise


def open_destination(
    uri: str | os.PathLike[str],
    *,
    is_file: bool,
    storage_options: Mapping[str, Any] | None = None,
) -> Destination:
    """Return the destination at *uri*, without I/O.

    Args:
        uri: A path or ``file://`` URL, else a URL that fsspec knows.
        is_file: Whether it will be one file, rather than a directory of files.
        storage_options: What the fsspec driver takes; of no use to a local path.

    Raises:
        ValidationError: No driver is known for *uri*, or it names no place within a bucket.
    """
    if split_uri(uri)[0] in LOCAL_PROTOCOLS:
        return LocalDestination(uri, is_file=is_file)
    from ltm.transfer.destination_remote import RemoteDestination

    return RemoteDestination(os.fspath(uri), is_file=is_file, storage_options=storage_options)


def _measure(path: str) -> tuple[int, str]:
    """Return the size of the file at *path* and its SHA-256."""
    digest, byte_size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                byte_size += len(chunk)
    except OSError as error:
        raise PayloadError(f"file {path!r}: cannot be read: {error}") from error
    return byte_size, digest.hexdigest()
