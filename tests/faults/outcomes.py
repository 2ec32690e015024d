"""What becomes of calls that are made at once, in time, or over a connection that breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ltm.testing.threads import PATIENCE as PATIENCE
from ltm.testing.threads import in_threads as in_threads
from ltm.testing.threads import wait_until as wait_until

UNKNOWN = "whether it has committed is not known"
"""Stands in the error of a write whose answer was lost."""


def in_time(call: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return what *call* answers; fail if it takes longer than *seconds*."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert answers, "no answer in time"
    return answers[0]


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
