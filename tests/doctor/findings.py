"""Findings, as tests ask for them."""

from __future__ import annotations

from datetime import datetime, timedelta

from ltm.clock import Clock, utc_now
from ltm.finding import Finding


class Findings:
    """All that one examination found."""

    def __init__(self, findings: list[Finding]) -> None:
        self.all = findings
        for each in findings:
            # Whoever must act is told how, and a problem has its exit status.
            assert (each.remedy is not None) == (each.state in ("warning", "problem")), each
            assert (each.error_type is not None) == (each.state == "problem"), each

    def of(self, check: str) -> list[Finding]:
        return [each for each in self.all if each.check == check]

    def states(self, check: str) -> list[str]:
        return [each.state for each in self.of(check)]

    def only(self, check: str) -> Finding:
        """Return the one finding of *check*."""
        (found,) = self.of(check)
        return found

    @property
    def problems(self) -> list[str]:
        return [each.check for each in self.all if each.state == "problem"]

    @property
    def warnings(self) -> list[str]:
        return [each.check for each in self.all if each.state == "warning"]

    @property
    def text(self) -> str:
        """Everything that is told to somebody."""
        return "\n".join(map(repr, self.all))


def clock_ahead(seconds: float) -> Clock:
    """Return a clock that shows what the real one will."""

    def clock() -> datetime:
        return utc_now() + timedelta(seconds=seconds)

    return clock
