"""Waiting for what another caller computes, no longer than there is any use in it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ltm.errors import LTMError


class WaitedInVainError(LTMError):
    """Another caller has not finished within the time that this one waits."""

    error_type = "timeout"

    def __init__(self, key: str, seconds: float) -> None:
        super().__init__(
            f"another caller computes {key!r}, and has not finished in {seconds} seconds"
        )


_waits: dict[str, str] = {}
"""The owners in this process whose computations wait, and for which other owner."""


class Waiting:
    """How long one caller has waited, and for whom."""

    def __init__(self, timeout: float, held: frozenset[str]) -> None:
        """Wait at most *timeout* seconds, on behalf of the owners *held*."""
        self._ends_at = time.monotonic() + timeout
        self._held = held
        self._pauses = 0

    @property
    def has_waited(self) -> bool:
        """Whether there was a pause already."""
        return self._pauses > 0

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return time.monotonic() >= self._ends_at

    def is_for_itself(self, owner: str) -> bool:
        """Return whether *owner* waits for this very caller, or is this caller.

        An action that calls itself is the plainest case. It is seen within a process; callers of
        two processes that wait for one another do so until their time is over.
        """
        seen: set[str] = set()
        while owner not in seen:
            if owner in self._held:
                return True
            seen.add(owner)
            owner = _waits.get(owner, owner)
        return False

    def pause(self, shortest: float, longest: float) -> float:
        """Return the seconds until the next look: each time longer, and never past the end."""
        self._pauses += 1
        seconds = min(shortest * 1.5**self._pauses, longest) * random.uniform(0.7, 1)
        return max(0.0, min(seconds, self._ends_at - time.monotonic()))

    @contextmanager
    def on(self, owner: str) -> Iterator[None]:
        """Let it be known, in a block, that the computations of this caller wait for *owner*."""
        _waits.update(dict.fromkeys(self._held, owner))
        try:
            yield
        finally:
            for each in self._held:
                _waits.pop(each, None)
