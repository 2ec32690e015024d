"""A payload store in a local directory, with operating system calls and nothing else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from ltm.errors import PayloadError, PayloadNotFoundError, ValidationError
from ltm.payload.base import (
    LOCAL_PROTOCOLS,
    MAX_WORKERS,
    Outcomes,
    PayloadStore,
    split_uri,
    temporary_path,
    validate_path,
)
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ltm.payload.objects import PayloadObject


class LocalPayloadStore(PayloadStore):
    """Payloads as files under a directory, which the first write makes.

    A write costs two fsyncs, of the file and of its directory; the first one into a directory also
    those of the directories above it, up to the first that is known to be durable, or the root. The
    writes of a batch share those of directories, which follow after the last file. Where there are
    some of the 256 directories that ids lead to, all are made, so that the others cost nothing.

    Args:
        root: A path, or a ``file://`` URL, read as fsspec reads it: no host and no ``%`` escapes.
            A ``~`` at its beginning is the home directory.
    """

    def __init__(self, root: str | os.PathLike[str], *, max_workers: int = MAX_WORKERS) -> None:
        protocol, rest = split_uri(root)
        if protocol not in LOCAL_PROTOCOLS or not rest:
            raise ValidationError(f"payload store URI: {protocol!r} URL is not a local path")
        directory = os.path.abspath(os.path.expanduser(rest))
        super().__init__(f"file://{directory}" if protocol else directory, max_workers=max_workers)
        self.directory: str = directory
        self._base = directory if directory.endswith("/") else f"{directory}/"
        self._settled: set[str] = set()  # directories whose own names are durable

    def write(self, path: str, content: bytes) -> None:
        (error,) = self.write_many([(path, content)])
        if error is not None:
            raise error

    def write_many(self, items: Sequence[tuple[str, bytes]]) -> Outcomes:
        created = self._in_parallel(self._create, items)
        # The names come last, so that a directory is synced once for all that it was given.
        changed = {each for made in created if isinstance(made, set) for each in made}
        named = self._name_beside(changed)
        errors = self._in_parallel(_sync, [*changed]) if len(items) > 1 else _sync_few([*changed])
        attempts = zip(changed, errors, strict=True)
        failures = {directory: error for directory, error in attempts if error is not None}
        if not failures:
            self._settled |= changed | named
        return [
            self._take_back(path, failures) if isinstance(made, set) else made
            for (path, _), made in zip(items, created, strict=True)
        ]

    def _create(self, item: tuple[str, bytes]) -> set[str] | PayloadError:
        """Create an object whose content is durable.

        Returns:
            The directories to sync before its name is durable too, or why there is no object.
        """
        from ltm.payload.durable import create

        path, content = item
        try:
            target = self._locate(path)
        except PayloadError as error:
            return error
        directory, temporary = os.path.dirname(target), temporary_path(target)
        try:
            try:
                changed = self._make(directory)
                create(target, temporary, content)
            except FileNotFoundError:
                self._settled.clear()  # somebody removed it
                changed = self._make(directory)
                create(target, temporary, content)
        except OSError as error:
            return self._failure("write", path, error)
        return changed

    def _take_back(self, path: str, failures: Mapping[str, OSError]) -> PayloadError | None:
        """Delete the object at *path* if a directory above it could not be synced."""
        target = self._base + path
        for directory, error in failures.items():
            if target.startswith(directory if directory.endswith("/") else f"{directory}/"):
                try:
                    os.unlink(target)
                except OSError:
                    pass
                return self._failure("write", path, error)
        return None

    def read(self, path: str) -> bytes:
        return self._read(path, lambda file: file.readall())

    def read_range(self, path: str, start: int, length: int) -> bytes:
        def read_part(file: io.FileIO) -> bytes:
            file.seek(start)
            parts: list[bytes] = []
            remaining = length
            while remaining and (part := file.read(remaining)):
                parts.append(part)
                remaining -= len(part)
            return b"".join(parts)

        return self._read(path, read_part)

    def _read(self, path: str, read: Callable[[io.FileIO], bytes]) -> bytes:
        target = self._locate(path)
        try:
            with open(target, "rb", buffering=0) as file:
                return read(file)
        except FileNotFoundError as error:
            message = self.failure_message("read", path, "there is no such object")
            raise PayloadNotFoundError(message) from error
        except OSError as error:
            raise self._failure("read", path, error) from error

    def delete(self, path: str) -> None:
        target = self._locate(path)
        try:
            os.unlink(target)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failure("delete", path, error) from error

    def list(self, prefix: str) -> Iterator[PayloadObject]:
        self._locate(prefix)
        return self._walk(prefix)

    def _locate(self, path: str) -> str:
        self.require_open()
        # Not os.path.join: it drops the root before a path that it takes for absolute.
        return self._base + validate_path(path)

    def _make(self, directory: str) -> set[str]:
        """Make *directory* where it is missing; return what to sync once a name in it is new.

        A directory that is there may have been made a moment ago by a process that has not
        synced it yet, or crashed before it could. So all up to the root count as new, once.
        """
        changed = [directory]
        while (here := changed[-1]) not in self._settled and (
            len(here) > len(self.directory) or not os.path.isdir(here)
        ):
            changed.append(os.path.dirname(here))
        # Not makedirs(): it would make one again that was settled and removed, without a word.
        for missing in changed[-2::-1]:
            try:
                os.mkdir(missing)
            except FileExistsError:
                pass
        return {*changed}

    def _name_beside(self, changed: set[str]) -> set[str]:
        """Return the directories whose names are durable, too, once those in *changed* are synced.

        They are in one that is synced for another's sake, below the root.
        """
        above = {os.path.dirname(each) for each in changed} & changed
        holders = [each for each in above if len(each) > len(self.directory)]
        if not holders:
            return set()
        from ltm.payload.directories import fan_out

        return {name for each in holders for name in fan_out(each)}

    def _walk(self, prefix: str) -> Iterator[PayloadObject]:
        if self._leads_through_link(prefix):
            return
        pending = [prefix]
        while pending:
            here = pending.pop()
            try:
                with os.scandir(self._base + here) as members:
                    for member in members:
                        path = f"{here}/{member.name}"
                        if member.is_dir(follow_symlinks=False):
                            pending.append(path)
                        elif member.is_file(follow_symlinks=False):
                            found = _describe(path, member)
                            if found is not None:
                                yield found
            except FileNotFoundError:
                continue  # never there, or removed meanwhile
            except OSError as error:
                if isinstance(error, NotADirectoryError) and os.path.isfile(self._base + here):
                    continue  # an object has the name of the prefix
                raise self._failure("list", here, error) from error

    def _leads_through_link(self, prefix: str) -> bool:
        segments = prefix.split("/")
        return any(
            os.path.islink(self._base + "/".join(segments[:count]))
            for count in range(1, len(segments) + 1)
        )

    def _failure(self, action: str, path: str, error: OSError) -> PayloadError:
        reason = error.strerror or type(error).__name__
        failure = PayloadError(self.failure_message(action, path, reason))
        failure.__cause__ = error
        return failure


def _sync(directory: str) -> OSError | None:
    """Make the names in *directory* durable; return why that was not possible."""
    from ltm.payload.durable import sync_directory

    try:
        sync_directory(directory)
    except OSError as error:
        return error
    return None


def _sync_few(directories: Sequence[str]) -> list[OSError | None]:
    """Do that with each of *directories* at once, which takes a disk as long as one of them.

    Plain threads, for a single object is not worth the import of an executor.
    """
    import threading

    errors: dict[str, OSError | None] = {}

    def sync(directory: str) -> None:
        errors[directory] = _sync(directory)

    threads: list[threading.Thread] = []
    for each in directories[1:]:
        thread = threading.Thread(target=sync, args=(each,))
        try:
            thread.start()
        except RuntimeError:  # too many, or too late in the life of the interpreter
            sync(each)
        else:
            threads.append(thread)
    for each in directories[:1]:
        sync(each)
    for thread in threads:
        thread.join()
    return [errors[each] for each in directories]


def _describe(path: str, member: os.DirEntry[str]) -> PayloadObject | None:
    from ltm.payload.objects import PayloadObject

    try:
        status = member.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None  # deleted since the directory was read
    return PayloadObject(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
