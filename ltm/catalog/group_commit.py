"""Many threads' writes in one transaction: while one of them commits, the next ones gather."""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from time import sleep

from ltm import telemetry
from ltm.sql.execution import Session
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    from ltm.catalog.database import Database

    T = TypeVar("T")

MAX_TOGETHER = 64
"""So many writes share a transaction at most: others wait for it, in other processes too."""

Work = Callable[[Session], bool]
Run = Callable[[Work], bool]


class _Waiting:
    """A write whose thread waits for it."""

    __slots__ = ("alone", "error", "is_done", "is_written", "work")

    def __init__(self, work: Work, alone: Run) -> None:
        self.work = work
        self.alone = alone
        self.is_done = self.is_written = False
        self.error: BaseException | None = None


class GroupCommit:
    """Runs the writes of all threads of a process, one thread at a time for those that wait."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[_Waiting] = deque()
        self._turn = allocate_lock()
        self._owner = 0
        """The thread whose turn it is."""

    def run(self, work: Work, alone: Run) -> bool:
        """Return what *work* returns, once it is committed.

        Args:
            work: Writes; it may be run more than once, and by any thread.
            alone: Runs it in a transaction that no other write shares.

        Raises:
            LTMError: What the database has to say of this write.
        """
        thread = get_ident()
        if self._owner == thread:
            # In the midst of a write of this very thread, by a signal handler or a finaliser.
            return alone(work)
        if self._queue or self._turn.locked():
            return self._run_together(work, alone, thread)
        # Nobody waits: there is nobody to share a transaction with.
        with self._turn:
            self._owner = thread  # with no call between, in which a signal could come
            try:
                return alone(work)
            finally:
                self._owner = 0

    def _run_together(self, work: Work, alone: Run, thread: int) -> bool:
        """Return what *work* returns, committed by this *thread* or by another one."""
        if telemetry.is_on:
            from contextvars import copy_context

            # What is traced in it belongs to this call, whichever thread runs it.
            context = copy_context()
            mine = _Waiting(lambda session: context.run(work, session), alone)
        else:
            mine = _Waiting(work, alone)
        try:
            self._queue.append(mine)
            while not mine.is_done:
                if self._turn.locked():
                    # To be woken for each write would cost all threads more than the write: whoever
                    # has the interpreter gives it up, and gets it back when the woken one is
                    # through. While they sleep one thread writes on, and their writes with its own.
                    sleep(self._database.pool.pause)
                    continue
                with self._turn:
                    if not mine.is_done:
                        self._owner = thread
                        try:
                            self._commit(self._gather(mine))
                        finally:
                            self._owner = 0
        except BaseException:
            # An interrupt: it is not to be done any more, by whoever comes across it later.
            mine.is_done = True
            raise
        if mine.error is not None:
            raise mine.error
        return mine.is_written

    def _gather(self, mine: _Waiting) -> list[_Waiting]:
        """Return *mine* and those that have waited longest."""
        together = [mine]
        while self._queue and len(together) < MAX_TOGETHER:
            waiting = self._queue.popleft()
            if waiting is not mine and not waiting.is_done:
                together.append(waiting)
        return together

    def _commit(self, together: list[_Waiting]) -> None:
        """Do what is to be done; after an interrupt the rest is done by the threads that wait."""
        if len(together) > 1:
            self._commit_together(together)
        for each in together:
            if not each.is_done:
                self._commit_alone(each)

    def _commit_together(self, together: list[_Waiting]) -> None:
        has_begun = False

        def write(session: Session) -> list[bool]:
            nonlocal has_begun
            has_begun = True
            return [each.work(session) for each in together]

        try:
            written = self._database.write(write)
        except Exception as error:  # noqa: BLE001 -- their own threads raise it
            # Each is asked again, and then it is known whose fault it was; unless it was nobody's:
            # those that wait shall not wait for one another's time to run out.
            if not has_begun:
                from copy import copy

                for each in together:
                    each.error, each.is_done = copy(error), True
            return
        for each, is_written in zip(together, written, strict=True):
            each.is_written, each.is_done = is_written, True

    def _commit_alone(self, waiting: _Waiting) -> None:
        try:
            waiting.is_written = waiting.alone(waiting.work)
        except Exception as error:  # noqa: BLE001 -- its own thread raises it
            waiting.error = error
        waiting.is_done = True
