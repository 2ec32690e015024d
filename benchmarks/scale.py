"""How much is measured: all of it, enough for an impression, or each thing once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The sizes of a run."""

    name: str
    rounds: int
    """Of what takes milliseconds."""
    singles: int
    """Operations of one round, done one by one."""
    batch: int
    """Entries of one batch."""
    starts: int
    """New processes of each kind."""
    few: int
    many: int
    """Entries of the two memories between which a get must not differ much."""
    streamed: int
    """Entries that are gone through in bounded memory."""
    filtered: int
    """Entries among which a metadata filter finds its own."""
    searched: int
    """Entries that a question is asked of."""
    crowds: int
    """Rounds of writers that write at once."""
    writers: int
    writes: int
    """Of each writer in a round."""
    uploads: int
    """Rounds of uploads to an object store."""
    objects: int
    """Uploads in a round."""


FULL = Scale(
    name="full",
    rounds=20,
    singles=200,
    batch=1000,
    starts=25,
    few=1000,
    many=1_000_000,
    streamed=1_000_000,
    filtered=100_000,
    searched=10_000,
    crowds=7,
    writers=8,
    writes=1000,
    uploads=3,
    objects=100,
)
QUICK = Scale(
    name="quick",
    rounds=4,
    singles=60,
    batch=1000,
    starts=3,
    few=1000,
    many=50_000,
    streamed=10_000,
    filtered=10_000,
    searched=3000,
    crowds=1,
    writers=8,
    writes=100,
    uploads=1,
    objects=100,
)
SMOKE = Scale(
    name="smoke",
    rounds=1,
    singles=2,
    batch=10,
    starts=1,
    few=10,
    many=20,
    streamed=20,
    filtered=100,
    searched=50,
    crowds=1,
    writers=2,
    writes=2,
    uploads=1,
    objects=4,
)
SCALES = {scale.name: scale for scale in (FULL, QUICK, SMOKE)}
