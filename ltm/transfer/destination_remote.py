"""Datasets on object stores: uploaded file by file, whole once the last object is there."""

from __future__ import annotations

import json
import mmap
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from shutil import rmtree
from typing import Any, cast

from ltm.errors import LTMError, PayloadError, ValidationError
from ltm.payload.base import MAX_WORKERS, mask_credentials, split_uri
from ltm.payload.deadline import Deadline
from ltm.payload.drivers import connect, disconnect
from ltm.payload.failures import mask, presentable, secrets_in
from ltm.payload.remote import FsspecPayloadStore
from ltm.transfer.destination import MANIFEST, Destination

CLAIM = "_incomplete.json"
"""The first object of a dataset, gone when it is whole. Whoever has it may write the others."""

UPLOAD_SECONDS = 3_600.0
"""What the upload of one file may take, retries included; silence is noticed in seconds."""

LOOK_SECONDS = 60.0

MAPPED_BYTES = 128 * 2**20
"""Files as large as this are not read whole: drivers upload them in parts."""


class RemoteDestination(Destination):
    """A folder of a bucket with nothing in it, or the name of an object that is not there."""

    def __init__(
        self, uri: str, *, is_file: bool, storage_options: Mapping[str, Any] | None
    ) -> None:
        super().__init__(is_file=is_file)
        self._protocol, rest = split_uri(uri)
        root, _, self._folder = rest.rstrip("/").rpartition("/")
        if not self._folder or not (root or self._protocol == "memory"):
            raise ValidationError(
                f"destination {mask_credentials(uri)!r}: expected a name below a bucket or host"
            )
        self._options = {} if storage_options is None else dict(storage_options)
        self._store = FsspecPayloadStore(
            f"{self._protocol}://{root}", storage_options=self._options, timeout=UPLOAD_SECONDS
        )
        self.address = f"{self._protocol}://{rest.rstrip('/')}"
        self._token = json.dumps({"exporter": secrets.token_hex(16)}).encode()
        self._attempted: list[str] = []
        self._temporary = ""

    @property
    def shown(self) -> str:
        # There a container stands where other URLs have a user.
        return self.address if self._protocol.startswith("abfs") else super().shown

    def require_free(self) -> None:
        if self._is_file:
            is_free = not self._is_there()
        else:
            is_free = next(self._store.list(self._folder), None) is None
        if not is_free:
            raise self._taken()

    def _begin(self) -> None:
        self._temporary = tempfile.mkdtemp(prefix="ltm-export-")
        self.workspace = os.path.join(self._temporary, "dataset")
        self.scratch = os.path.join(self._temporary, "scratch")
        os.mkdir(self.workspace)
        os.mkdir(self.scratch)
        if not self._is_file:
            self._claim()

    def _end(self) -> None:
        self._store.close()
        if self._temporary:
            rmtree(self._temporary, ignore_errors=True)

    def _keep(self, path: str) -> None:
        if self._is_file:
            return  # seen as soon as it is uploaded
        location = self._object(path)
        self._attempted.append(location)
        self._upload(path, location)
        os.unlink(self._local(path))

    def _claim(self) -> None:
        """Create the claim, unless somebody else has one or has published something."""
        claim = self._object(CLAIM)
        try:
            self._store.write(claim, self._token)
        except PayloadError as error:
            self._require_own(claim, error)
        self._attempted.append(claim)
        # Another one's may have come and gone with all that it was for.
        found = {each.path for each in self._store.list(self._folder)}
        if found != {claim}:
            raise self._taken()

    def _require_own(self, claim: str, error: PayloadError) -> None:
        """Do nothing, if the claim is there although writing it failed, and is ours."""
        try:
            found = self._store.read(claim)
        except PayloadError:
            raise error from None
        if found != self._token:
            raise self._taken() from error

    def _publish(self, manifest: bytes) -> None:
        if self._is_file:
            self._upload(self.files[0].path, self._folder)
            return
        location = self._object(MANIFEST)
        self._attempted.append(location)
        self._store.write(location, manifest)
        with suppress(PayloadError):  # the manifest has the say
            self._store.delete(self._object(CLAIM))

    def _withdraw(self) -> None:
        # The manifest first, the claim last: never does half a dataset look whole, or free.
        for location in reversed(self._attempted):
            with suppress(LTMError):
                self._store.delete(location)

    def _upload(self, path: str, location: str) -> None:
        with _content(self._local(path)) as content:
            self._store.write(location, content)

    def _object(self, path: str) -> str:
        return f"{self._folder}/{path}"

    def _is_there(self) -> bool:
        """Return whether there is an object with the name of the destination, or below it."""
        secret = secrets_in(self._options)
        try:
            return self._look()
        except LTMError:
            raise
        except Exception as error:  # noqa: BLE001 drivers' exceptions have no common root
            failure = error
        # Out here, so that an exception that tells a secret isn't the context of this one.
        reason = mask(f"{type(failure).__name__}: {failure}", secret)
        message = self._store.failure_message("look for", self._folder, reason)
        raise PayloadError(message) from presentable(failure, secret)

    def _look(self) -> bool:
        # A payload store can only read an object whole to see whether it is there.
        deadline = Deadline(LOOK_SECONDS, time.monotonic)
        connection = deadline.bound(
            lambda: connect(
                self._store.root,
                self._protocol,
                self._options,
                timeout=LOOK_SECONDS,
                max_workers=MAX_WORKERS,
            )
        )
        try:
            deadline.ask(connection.system, "info", f"{connection.base}/{self._folder}")
        except FileNotFoundError:
            return False
        finally:
            if self._protocol != "memory":
                with suppress(TimeoutError, RuntimeError):
                    deadline.bound(lambda: disconnect(connection))
        return True


@contextmanager
def _content(path: str) -> Iterator[bytes]:
    """Give the content of the file at *path*: read, or mapped where it is large."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < MAPPED_BYTES:
            yield file.read()
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield cast(bytes, content)
