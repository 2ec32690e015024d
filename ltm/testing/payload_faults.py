"""A payload store that fails on command, for tests of what stands on payload stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ltm.errors import PayloadError
from ltm.payload.base import PayloadStore
from ltm.payload.objects import PayloadObject

Operation = Literal["write", "read", "delete", "list"]


class FailingPayloadStore(PayloadStore):
    """Pass everything on to *store*, and fail where :meth:`fail` says so.

    Closing it leaves *store* open.

    Attributes:
        calls: Operation and path of each call so far, those that failed among them. A batch is
            one call for each of its items, in no particular order.
    """

    def __init__(self, store: PayloadStore) -> None:
        super().__init__(store.root, max_workers=store.max_workers)
        self.calls: list[tuple[Operation, str]] = []
        self._store = store
        self._faults: dict[Operation, _Fault] = {}
        self._lock = threading.Lock()

    def fail(
        self, operation: Operation, *, times: int | None = None, after_effect: bool = False
    ) -> None:
        """Let calls of *operation* raise :class:`PayloadError` from now on.

        Args:
            operation: A fault that was set for it before is replaced.
            times: So many calls fail, the ones after them work; None means until :meth:`heal`.
            after_effect: The call takes effect and fails then, like an answer lost on its way. A
                listing fails after its last object.
        """
        with self._lock:
            self._faults[operation] = _Fault(times, after_effect)

    def heal(self) -> None:
        """Let every operation work again."""
        with self._lock:
            self._faults.clear()

    def uri(self, path: str) -> str:
        return self._store.uri(path)

    def write(self, path: str, content: bytes) -> None:
        fails_late = self._begin("write", path)
        self._store.write(path, content)
        if fails_late:
            raise self._failure("write", path)

    def read(self, path: str) -> bytes:
        fails_late = self._begin("read", path)
        content = self._store.read(path)
        if fails_late:
            raise self._failure("read", path)
        return content

    def delete(self, path: str) -> None:
        fails_late = self._begin("delete", path)
        self._store.delete(path)
        if fails_late:
            raise self._failure("delete", path)

    def list(self, prefix: str) -> Iterator[PayloadObject]:
        fails_late = self._begin("list", prefix)
        found = self._store.list(prefix)
        return self._break_off(prefix, found) if fails_late else found

    def _break_off(self, prefix: str, found: Iterator[PayloadObject]) -> Iterator[PayloadObject]:
        yield from found
        raise self._failure("list", prefix)

    def _begin(self, operation: Operation, path: str) -> bool:
        """Note the call; raise if it fails before its effect, return whether it fails after."""
        self.require_open()
        with self._lock:
            self.calls.append((operation, path))
            fault = self._faults.get(operation)
            if fault is None:
                return False
            if fault.times is not None:
                if fault.times == 1:
                    del self._faults[operation]
                else:
                    self._faults[operation] = fault._replace(times=fault.times - 1)
        if not fault.after_effect:
            raise self._failure(operation, path)
        return True

    def _failure(self, operation: Operation, path: str) -> PayloadError:
        return PayloadError(self.failure_message(operation, path, "failed on command"))


class WatchedPayloadStore(FailingPayloadStore):
    """Calls ``before_read`` before it reads a payload."""

    def before_read(self) -> None:
        """Do nothing, unless a test sets something else."""

    def read(self, path: str) -> bytes:
        self.before_read()
        return super().read(path)


class _Fault(NamedTuple):
    times: int | None
    after_effect: bool
