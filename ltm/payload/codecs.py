"""Codecs: the canonical JSON texts of values to the bytes of payload objects, and back.

The content hash covers the text, so a value has one hash in every format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from ltm.errors import IntegrityError
from ltm.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, ClassVar

MAX_OBJECT_BYTES = 32 * 2**20
"""Of the texts in one object; a larger text has an object of its own."""


class Record(NamedTuple):
    """One value and what is kept beside it, for those who read the object without a catalog."""

    key: str
    text: str
    """The value as canonical JSON, which is ASCII."""
    metadata: Mapping[str, Any]
    content_hash: str


class Encoded(NamedTuple):
    """An object to be, and where in it the values are."""

    content: bytes
    parts: list[str]
    """For each record what follows the path in its location: nothing, or ``#`` and the part."""


class Codec(ABC):
    """One payload format."""

    name: ClassVar[str]
    """The word for it in settings."""
    extension: ClassVar[str]
    """What object names end in, without the dot: lower-case letters and digits."""
    max_records: ClassVar[int] = 1
    """How many values one object holds at most."""
    object_overhead: ClassVar[int] = 0
    """Bytes of an object, at most, besides its records."""
    record_overhead: ClassVar[int] = 0
    """Bytes of a record, at most, besides its texts."""

    @abstractmethod
    def encode(self, records: Sequence[Record]) -> Encoded:
        """Return the object that holds *records*, 1 to :attr:`max_records` of them.

        Raises:
            MissingDependencyError: What writes the format is not installed.
            ValidationError: A value is too large for it.
        """

    @abstractmethod
    def decode(self, content: bytes, rows: Sequence[int | None], *, where: str) -> list[str]:
        """Return the texts in *content*: a whole object, or the range of bytes that is a value.

        Args:
            rows: Which rows of the object, in the order of the result; None where a location tells
                none, as of a range and an object of one value.
            where: Names what was read.

        Raises:
            IntegrityError: *content* is not in this format, or has no such row.
        """


class JsonCodec(Codec):
    """The text itself, in UTF-8."""

    name = "json"
    extension = "json"

    def encode(self, records: Sequence[Record]) -> Encoded:
        (record,) = records
        return Encoded(record.text.encode(), [""])

    def decode(self, content: bytes, rows: Sequence[int | None], *, where: str) -> list[str]:
        return [decode_text(content, where) for _ in rows]


def decode_text(content: bytes, where: str) -> str:
    """Return *content* as text.

    Raises:
        IntegrityError: It is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{where}: is not UTF-8: {error}") from error


def in_objects(sizes: Sequence[int], max_records: int) -> Iterator[range]:
    """Yield runs of records, by index, that share an object.

    Args:
        sizes: Bytes of the text of each record.
        max_records: In one object.
    """
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if index > start and (index - start >= max_records or total + size > MAX_OBJECT_BYTES):
            yield range(start, index)
            start, total = index, 0
        total += size
    if start < len(sizes):
        yield range(start, len(sizes))
