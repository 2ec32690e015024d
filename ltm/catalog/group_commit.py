"""Many threads' writes in one transaction: while one of them commits, the next ones gather."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable

from ltm import telemetry
from ltm.sql.execution import Session
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ltm.catalog.database import Database

MAX_TOGETHER = 64
"""So many writes share a transaction at most: others wait for it, in other processes too."""

Work = Callable[[Session], bool]


class _Waiting:
    """A write whose thread waits for it."""

    __slots__ = ("error", "is_done", "is_one", "is_written", "work")

    def __init__(self, work: Work, *, is_one: bool) -> None:
        self.work = work
        self.is_one = is_one
        self.is_done = self.is_written = False
        self.error: BaseException | None = None


class GroupCommit:
    """Runs the writes of all threads of a process, one thread at a time for those that wait."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[_Waiting] = deque()
        self._turn = allocate_lock()

    def run(self, work: Work, *, is_one: bool) -> bool:
        """Return what *work* returns, once it is committed.

        Args:
            work: Writes; it may be run more than once, and by any thread.
            is_one: Whether it runs one statement, which may be its own transaction.

        Raises:
            LTMError: What the database has to say of this write.
        """
        if not self._queue and self._turn.acquire(blocking=False):
            # Nobody waits: there is nobody to share a transaction with.
            try:
                return self._run(work, is_one=is_one)
            finally:
                self._turn.release()
        if telemetry.is_on:
            from contextvars import copy_context

            # What is traced in it belongs to this call, whichever thread runs it.
            context = copy_context()
            mine = _Waiting(lambda session: context.run(work, session), is_one=is_one)
        else:
            mine = _Waiting(work, is_one=is_one)
        self._queue.append(mine)
        with self._turn:
            while not mine.is_done:
                self._commit_next()
        if mine.error is not None:
            raise mine.error
        return mine.is_written

    def _commit_next(self) -> None:
        """Commit the writes that have waited longest."""
        together: list[_Waiting] = []
        while self._queue and len(together) < MAX_TOGETHER:
            together.append(self._queue.popleft())
        try:
            if len(together) > 1:
                self._commit_together(together)
            for each in together:
                if not each.is_done:
                    self._commit_alone(each)
        finally:
            # After an interrupt, those that are left are for their own threads.
            self._queue.extendleft(each for each in reversed(together) if not each.is_done)

    def _commit_together(self, together: list[_Waiting]) -> None:
        def write(session: Session) -> list[bool]:
            return [each.work(session) for each in together]

        try:
            written = self._database.write(write)
        except Exception:  # noqa: BLE001 -- each is asked again, and then it is known whose fault it was
            return
        for each, is_written in zip(together, written, strict=True):
            each.is_written, each.is_done = is_written, True

    def _commit_alone(self, waiting: _Waiting) -> None:
        try:
            waiting.is_written = self._run(waiting.work, is_one=waiting.is_one)
        except Exception as error:  # noqa: BLE001 -- its own thread raises it
            waiting.error = error
        waiting.is_done = True

    def _run(self, work: Work, *, is_one: bool) -> bool:
        return (self._database.write_one if is_one else self._database.write)(work)
