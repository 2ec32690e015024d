"""What a topic is: comparisons that share memories, servers and a section of the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.rounds import Comparison
from benchmarks.scale import Scale


class UnavailableError(RuntimeError):
    """What a topic needs can't be had here; the message says why."""


class Place(NamedTuple):
    """Where a topic is measured."""

    scale: Scale
    directory: str
    """An empty directory of its own."""
    missing: list[str]
    """Takes in what could not be measured, and why."""

    def warm(self) -> None:
        """Read all files, so that the system has them in memory: it forgets what is idle."""
        for root, _, names in os.walk(self.directory):
            for name in names:
                with open(os.path.join(root, name), "rb") as file:
                    while file.read(2**20):
                        pass


class Topic(NamedTuple):
    """A section of the report."""

    name: str
    title: str
    remark: str
    """What holds of all its comparisons."""
    comparisons: Callable[[Place], Iterator[Comparison]]
    """Opens what it needs, yields one comparison after the other and closes it again.

    Raises:
        UnavailableError: It can't be had here.
    """
