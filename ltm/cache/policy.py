"""How a cached call is to be: its key, its life, and what becomes of it under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from math import isfinite
from typing import Any, Literal, TypedDict, get_args

from ltm.catalog.base import validate_limit
from ltm.entry import validate_metadata
from ltm.errors import ValidationError

KeyStrategy = Literal["args", "sha256", "file_content", "custom"]
OnExpired = Literal["block", "stale", "refresh"]

DEFAULT_TTL_DAYS = 60

KeyMaker = str | Callable[..., str]


class CacheOptions(TypedDict, total=False):
    """The keyword arguments of ``cache_wrap`` and ``cached``; all may be left out."""

    key: KeyMaker | None
    """The key, or a function of the action's arguments that returns it."""
    key_strategy: KeyStrategy
    """What the key is made of where *key* is None. ``args``: the arguments, readable, or their hash
    where they are long; ``sha256``: always the hash; ``file_content``: the hash, with the content
    of files in place of their names; ``custom``: *key*, which then must be given."""
    agent_name: str | None
    """What the key begins with, before a colon; for one agent's results among others'."""
    name: str | None
    """What stands for the action in the key; by default its module and qualified name."""
    ignore: Iterable[str]
    """Names of arguments that are not in the key."""
    file_args: Iterable[str] | None
    """Names of arguments that name files, for ``file_content``; by default those that do."""
    storage_options: Mapping[str, Any] | None
    """For the files of ``file_content``: handed to fsspec."""
    ttl: float | timedelta | None
    """Seconds, or a timedelta, for which a result is remembered; above 0."""
    ttl_days: float | None
    """Or days, hours and seconds, which add up; with none of them it is 60 days."""
    ttl_hours: float | None
    ttl_seconds: float | None
    skip_cache: bool
    """Whether to run the action without asking the memory or telling it."""
    cache_enabled: bool
    """Whether there is a cache at all; False is as *skip_cache*."""
    should_cache: Callable[[Any], bool] | None
    """Says of a result whether it is to be remembered."""
    on_expired: OnExpired
    """What happens where there is an expired result that was not cleaned up yet. ``block``: wait
    for a new one; ``stale``: one caller computes and the others get the expired one meanwhile;
    ``refresh``: all get the expired one, and one computes in the background."""
    metadata: Mapping[str, Any] | None
    """What to find the result by, besides ``_cache_action`` and ``_cache_agent``."""
    cleanup_probability: float
    """How often expired entries are removed after a miss: from 0, never, to 1, always."""
    cleanup_limit: int
    """How many of them at most; 1 or more."""
    lease_seconds: float
    """Seconds after which another caller takes over from one that has died; above 0. One that lives
    puts it off in time."""
    timeout: float
    """Seconds for which to wait for another caller that computes, 0 or more; then the action is run
    all the same, and its result not remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """The options of a cached call, checked, with their defaults; see :class:`CacheOptions`."""

    key: KeyMaker | None = None
    key_strategy: KeyStrategy = "args"
    agent_name: str | None = None
    name: str | None = None
    ignore: Iterable[str] = ()
    file_args: Iterable[str] | None = None
    storage_options: Mapping[str, Any] | None = None
    ttl: float | timedelta | None = None
    ttl_days: float | None = None
    ttl_hours: float | None = None
    ttl_seconds: float | None = None
    skip_cache: bool = False
    cache_enabled: bool = True
    should_cache: Callable[[Any], bool] | None = None
    on_expired: OnExpired = "block"
    metadata: Mapping[str, Any] | None = None
    cleanup_probability: float = 0.05
    cleanup_limit: int = 5
    lease_seconds: float = 30.0
    timeout: float = 300.0
    seconds: float = field(init=False)
    """For how long a result is remembered."""

    def __post_init__(self) -> None:
        if self.key_strategy not in get_args(KeyStrategy):
            raise ValidationError(
                f"key_strategy: {self.key_strategy!r} is none of {KEY_STRATEGIES}"
            )
        if self.on_expired not in get_args(OnExpired):
            raise ValidationError(f"on_expired: {self.on_expired!r} is none of {ON_EXPIRED}")
        if self.key_strategy == "custom" and self.key is None:
            raise ValidationError("key: expected with key_strategy='custom'")
        for name in ("ignore", "file_args"):
            if isinstance(getattr(self, name), str):
                raise ValidationError(f"{name}: expected names in a list, got a str")
        _require_number("cleanup_probability", self.cleanup_probability, 0, 1)
        validate_limit(self.cleanup_limit, "cleanup_limit")
        _require_number("lease_seconds", self.lease_seconds, 0.001, 31_536_000)
        _require_number("timeout", self.timeout, 0, 31_536_000)
        validate_metadata(self.metadata)
        object.__setattr__(self, "ignore", tuple(self.ignore))
        object.__setattr__(self, "seconds", self._sum_ttl())

    @classmethod
    def of(cls, options: CacheOptions) -> CachePolicy:
        """Return the policy that *options* ask for.

        Raises:
            ValidationError: An unknown option, or a value that is not what it takes.
        """
        known = [each.name for each in fields(cls) if each.init]
        for name in options:
            if name not in known:
                raise ValidationError(f"{name}: is no option of the cache, which has {known}")
        return cls(**options)

    def _sum_ttl(self) -> float:
        parts = {"ttl_days": 86_400, "ttl_hours": 3_600, "ttl_seconds": 1}
        given = {name: getattr(self, name) for name in parts if getattr(self, name) is not None}
        if self.ttl is not None and given:
            raise ValidationError(f"ttl and {', '.join(given)}: give one or the others")
        if isinstance(self.ttl, timedelta):
            total = self.ttl.total_seconds()
        elif self.ttl is not None:
            total = _require_number("ttl", self.ttl, 0, float("inf"))
        elif given:
            limits = 0, float("inf")
            total = sum(
                _require_number(name, value, *limits) * parts[name] for name, value in given.items()
            )
        else:
            total = DEFAULT_TTL_DAYS * 86_400
        if not 0 < total <= MAX_TTL:
            names = ", ".join(given) or "ttl"
            raise ValidationError(f"{names}: expected above 0 and up to {MAX_TTL} s, got {total} s")
        return total


KEY_STRATEGIES = ", ".join(get_args(KeyStrategy))
ON_EXPIRED = ", ".join(get_args(OnExpired))

MAX_TTL = 3_155_760_000
"""Seconds in a hundred years."""


def _require_number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValidationError(f"{name}: expected a number, got {value!r}")
    if not least <= value <= most:
        raise ValidationError(f"{name}: expected from {least} to {most}, got {value!r}")
    return value
