"""Many rows in pages: so many are held in memory at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from ltm.catalog.base import PAGE_SIZE

T = TypeVar("T")


def in_pages(items: Iterable[T], size: int = PAGE_SIZE) -> Iterator[list[T]]:
    """Yield *items* in lists of *size*, the last one perhaps shorter; none for no items."""
    page: list[T] = []
    for item in items:
        page.append(item)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page
