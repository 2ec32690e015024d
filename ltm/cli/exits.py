"""Exit statuses: one number for each kind of failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEGATIVE = 1
"""Done, and the answer is no: not found, rejected rows, an old schema. Also what has no other."""

EXIT_STATUS = {
    "snapshot_not_found": NEGATIVE,
    "validation_error": 2,
    "serialization_error": 2,
    "conflict": 3,
    "catalog_unavailable": 4,
    "storage_error": 5,
    "payload_missing": 5,
    "integrity_error": 6,
    "schema_out_of_date": 7,
    "dependency_missing": 8,
}
"""By the ``error_type`` of a failure answer."""

BROKEN_PIPE = 141
"""Whoever read the output has gone: 128 and the number of the signal, as a shell says it."""


class FailedAnswerError(Exception):
    """A backend answered a failure.

    Attributes:
        answer: That answer, whole.
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(str(answer.get("error", "failed")))
        self.answer = dict(answer)


def exit_status(answer: Mapping[str, Any]) -> int:
    """Return the exit status for a failure *answer*."""
    return EXIT_STATUS.get(str(answer.get("error_type")), NEGATIVE)


def require_success(answer: Mapping[str, Any]) -> None:
    """Raise :class:`FailedAnswerError` unless *answer* is a success."""
    if not answer["success"]:
        raise FailedAnswerError(answer)
