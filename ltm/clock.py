"""The one place that reads the time of day.

A clock is any callable that returns an aware datetime. Everything that needs the time takes a
clock, so a test moves time by hand and never sleeps.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ltm.errors import ValidationError

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present instant in UTC, with microseconds."""
    return datetime.now(UTC)


def require_utc(instant: object, name: str) -> datetime:
    """Return *instant* in UTC.

    Raises:
        ValidationError: Not a datetime, or one without a UTC offset: a naive time means a different
            instant on every machine.
    """
    if not isinstance(instant, datetime):
        raise ValidationError(f"{name}: expected datetime, got {type(instant).__name__}")
    if instant.utcoffset() is None:
        raise ValidationError(f"{name}: {instant.isoformat()} has no UTC offset")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValidationError(f"{name}: {instant.isoformat()} is out of range in UTC") from error
