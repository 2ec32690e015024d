"""The side file: what a migration could not carry, in full."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from types import TracebackType
from typing import Any, Self

from ltm.errors import PayloadError, ValidationError
from ltm.legacy.source import RawValue, SourceRow, UndecodableText


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """A row that cannot be carried."""

    rowid: int
    key: str | None
    """None where the key is not text."""
    reason: str


class SideFile:
    """Rejected rows in full as JSON Lines, all of them or no file."""

    def __init__(self, path: str, *, dry_run: bool) -> None:
        """Name the file; with *dry_run*, none is ever made."""
        self.path = path
        self._dry_run = dry_run
        self._file: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            os.unlink(self._file.name)

    def write(self, row: SourceRow, reason: str) -> None:
        """Add a line; it counts when the file is published."""
        if self._dry_run:
            return
        fields = {name: _as_json(value) for name, value in row._asdict().items()}
        try:
            if self._file is None:
                self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 -- lives as long as self
                    "w",
                    encoding="ascii",
                    dir=os.path.dirname(self.path),
                    prefix=f".{os.path.basename(self.path)}.",
                    suffix=".tmp",
                    delete=False,
                )
            self._file.write(json.dumps(fields | {"reason": reason}, allow_nan=False) + "\n")
        except OSError as error:
            raise self._failure(error) from error

    def publish(self) -> None:
        """Put the file in place, durably, if it has any line."""
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._file.name, self.path)
            self._file = None
            directory = os.open(os.path.dirname(self.path), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> PayloadError:
        return PayloadError(f"{self.path}: rejected rows cannot be written: {error}")


def side_file_path(
    source: str | os.PathLike[str], rejected_path: str | os.PathLike[str] | None
) -> str:
    """Return where the side file is to be.

    Raises:
        ValidationError: No file can be made at *rejected_path*, or the old database is there.
    """
    if rejected_path is None:
        stem = os.path.splitext(os.path.basename(os.fsdecode(source)))[0]
        rejected_path = f"{stem}.rejected.jsonl"
    path = os.path.abspath(os.fsdecode(rejected_path))
    if os.path.isdir(path):
        raise ValidationError(f"rejected_path: {path!r} is a directory")
    if not os.path.isdir(os.path.dirname(path)):
        raise ValidationError(f"rejected_path: no directory {os.path.dirname(path)!r}")
    if os.path.exists(path) and os.path.samefile(path, source):
        raise ValidationError("rejected_path: is the old database")
    return path


def _as_json(raw: RawValue) -> Any:
    """Return *raw* as strict JSON can hold it without loss."""
    if isinstance(raw, bytes):
        kind = "text" if isinstance(raw, UndecodableText) else "blob"
        return {"base64": base64.b64encode(raw).decode(), "type": kind}
    if isinstance(raw, float) and not isfinite(raw):
        return {"real": repr(raw)}
    return raw
