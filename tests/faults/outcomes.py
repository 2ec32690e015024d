"""What becomes of calls that are made at once, in time, or over a connection that breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0
"""Seconds after which what should have happened is taken not to happen."""

UNKNOWN = "whether it has committed is not known"
"""Stands in the error of a write whose answer was lost."""


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


def in_time(call: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return what *call* answers; fail if it takes longer than *seconds*."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert answers, "no answer in time"
    return answers[0]


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Return when *is_so* says so; fail, naming *what*, when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def succeed(answer: Any) -> Any:
    assert answer["success"], answer
    return answer


def is_outage(answer: Any) -> bool:
    """Return whether *answer* is the one for a catalog that can't be reached, and nothing else."""
    return answer["success"] is False and answer["error_type"] == "catalog_unavailable"


def judge_cut(answer: Any, before: str, value: str, found: str) -> str:
    """Return what became of a write whose connection was cut, given what is *found* afterwards."""
    assert found in (before, value)
    if answer["success"]:
        assert found == value
        return "success"
    assert is_outage(answer), answer
    if UNKNOWN in answer["error"]:
        return "unknown old" if found == before else "unknown new"
    assert found == before, answer
    return "failed"
