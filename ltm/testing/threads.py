"""Calls that are made at once, within bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which what should have happened is taken not to happen."""


def in_threads(task: Callable[[int], object], count: int, seconds: float = PATIENCE) -> None:
    """Run *task* in *count* threads that begin together, and raise what they raise.

    Fail if they have not ended after *seconds*.
    """
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(PATIENCE)
            task(number)
        except BaseException as error:  # noqa: BLE001 -- raised again below, in the test's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(deadline - time.monotonic())
        assert not thread.is_alive(), "a thread does not end"
    if errors:
        raise errors[0]


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Return when *is_so* says so; fail, naming *what*, when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
