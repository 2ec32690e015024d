"""What an examination of a configuration finds, one plain statement for each thing looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

FindingState = Literal["ok", "warning", "problem", "skipped"]

WARNING_SECONDS = 2.0
"""Clocks that differ by more than this are worth a word."""

PROBLEM_SECONDS = 60.0
"""Clocks that differ by more than this are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one thing is, in words for people. None of them is a secret."""

    check: str
    """A short stable name of what was looked at, such as ``driver`` or ``schema``."""
    state: FindingState
    """``skipped`` says nothing: it could not be looked at, or there is nothing to look at yet."""
    message: str
    remedy: str | None = None
    """What to do; the very command where there is one."""
    error_type: str | None = None
    """Of a problem: the one under which a backend would answer it."""


def ok(check: str, message: str) -> Finding:
    """Return that *check* found all well."""
    return Finding(check=check, state="ok", message=message)


def warning(check: str, message: str, remedy: str) -> Finding:
    """Return that *check* found what works and is not as it should be."""
    return Finding(check=check, state="warning", message=message, remedy=remedy)


def problem(check: str, message: str, remedy: str, error_type: str) -> Finding:
    """Return that *check* found what keeps a memory from working, or from working right."""
    return Finding(
        check=check, state="problem", message=message, remedy=remedy, error_type=error_type
    )


def skipped(check: str, message: str) -> Finding:
    """Return that *check* could not be made, and why."""
    return Finding(check=check, state="skipped", message=message)


def compare_clocks(
    whose: str,
    seen: datetime,
    before: datetime,
    after: datetime,
    *,
    resolution_seconds: float = 0.0,
) -> Finding:
    """Return how another clock stands to ours.

    What the way there and back may have taken is no difference, so a slow line hides one, and
    never makes one up.

    Args:
        whose: Names the other clock.
        seen: What it showed.
        before: What ours showed before it was asked.
        after: What ours showed when it had answered.
        resolution_seconds: By how much *seen* may be cut off.
    """
    ahead = max(0.0, (seen - after).total_seconds())
    behind = max(0.0, (before - seen).total_seconds() - resolution_seconds)
    difference = max(ahead, behind)
    if difference <= WARNING_SECONDS:
        return ok("clock", f"{whose} and this machine agree on the time")
    message = (
        f"{whose} is {difference:,.0f} seconds {'ahead of' if ahead else 'behind'} this machine, "
        "and what has expired is decided by the clock of whoever asks"
    )
    remedy = "let both clocks be set by NTP; on this machine: timedatectl set-ntp true"
    if difference <= PROBLEM_SECONDS:
        return warning("clock", message, remedy)
    return problem("clock", message, remedy, "error")
