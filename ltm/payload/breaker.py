"""A circuit breaker: after failures in a row, calls are refused for a while instead of tried.

After Michael Nygard, *Release It!*.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

CircuitState = Literal["closed", "open", "half_open"]

MonotonicClock = Callable[[], float]
"""Seconds since whenever; it never goes back."""

FAILURES_TO_OPEN = 3
"""In a row, each of them after its retries."""

PAUSE_SECONDS = 15.0
"""How long an open circuit refuses calls."""


class CircuitBreaker:
    """Counts failures of one connection; threads share it, processes don't.

    It is closed while calls go through. After :data:`FAILURES_TO_OPEN` failures in a row it is open
    for :data:`PAUSE_SECONDS` and refuses every call. Then it is half open: one call at a time is
    let through; its success closes the circuit, its failure opens it again.
    """

    def __init__(self, clock: MonotonicClock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._paused_until: float | None = None
        self._has_trial = False

    @property
    def state(self) -> CircuitState:
        with self._lock:
            if self._paused_until is None:
                return "closed"
            return "open" if self._clock() < self._paused_until else "half_open"

    @property
    def seconds_left(self) -> float:
        """How long the pause still lasts; 0 where there is none."""
        with self._lock:
            return max(0.0, (self._paused_until or 0.0) - self._clock())

    def admit(self) -> bool:
        """Say whether a call may be made; if so, one of the three methods below must follow it."""
        with self._lock:
            if self._paused_until is None:
                return True
            if self._has_trial or self._clock() < self._paused_until:
                return False
            self._has_trial = True
            return True

    def succeed(self) -> None:
        """Close the circuit: there was an answer."""
        with self._lock:
            self._failures, self._paused_until, self._has_trial = 0, None, False

    def fail(self) -> None:
        """Count a failure; that of a trial opens the circuit again."""
        with self._lock:
            self._failures += 1
            was_paused = self._paused_until is not None and self._clock() < self._paused_until
            if self._failures >= FAILURES_TO_OPEN and not was_paused:
                self._paused_until, self._has_trial = self._clock() + PAUSE_SECONDS, False

    def withdraw(self) -> None:
        """Count nothing: the call showed neither that the connection works nor that it doesn't."""
        with self._lock:
            self._has_trial = False

    def end_pause(self) -> None:
        """Make an open circuit half open now."""
        with self._lock:
            if self._paused_until is not None:
                self._paused_until = min(self._paused_until, self._clock())
