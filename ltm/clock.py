"""The one place that reads the time of day.

A clock is any callable that returns an aware datetime. Everything that needs the time takes a
clock, so a test moves time by hand and never sleeps.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from ltm.errors import ValidationError

Clock = Callable[[], datetime]

BEGINNING = datetime.min.replace(tzinfo=UTC)
"""The instant as of which nothing has expired."""


utc_now: Clock = partial(datetime.now, UTC)
"""Returns the present instant in UTC, with microseconds."""


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


def parse_instant(text: object, name: str, *, naive_is_utc: bool = False) -> datetime:
    """Return the instant in UTC that ISO 8601 *text* says.

    Args:
        text: With a UTC offset, or ``Z``.
        name: What it is, for the message.
        naive_is_utc: Whether a text without an offset is in UTC, rather than an error.

    Raises:
        ValidationError: Not text, not ISO 8601, or without an offset.
    """
    if not isinstance(text, str):
        raise ValidationError(f"{name}: expected ISO 8601 text, got {text!r}")
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValidationError(f"{name}: {text!r} is not ISO 8601") from error
    if naive_is_utc and instant.utcoffset() is None:
        instant = instant.replace(tzinfo=UTC)
    return require_utc(instant, name)
