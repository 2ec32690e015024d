"""Which entries are there already, to the letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ltm.entry import AnyRow
from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.payload.base import PayloadStore
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ltm.backend.writer import PreparedEntry


def find_equal(
    store: PayloadStore, entries: Sequence[PreparedEntry], found: Mapping[str, AnyRow]
) -> dict[str, AnyRow]:
    """Return the rows in *found* that have the very value of their entry.

    Equal hashes are not enough: a success means that the value is there, so what the row names
    is read and compared. A value that is lost or damaged is not equal.

    Raises:
        PayloadError: The store failed; whether a payload is there is not known.
    """
    equal: dict[str, AnyRow] = {}
    outside: list[tuple[PreparedEntry, AnyRow, str]] = []
    for entry in entries:
        row = found.get(entry.key)
        if row is None or row.content_hash != entry.content_hash:
            continue
        if row.storage_uri is not None:
            outside.append((entry, row, row.storage_uri))
        elif row.inlined_text == entry.text:
            equal[entry.key] = row
    if not outside:
        return equal
    from ltm.payload.values import read_texts

    texts = read_texts(store, [uri for _, _, uri in outside])
    for (entry, row, _), text in zip(outside, texts, strict=True):
        if isinstance(text, PayloadError) and not isinstance(text, PayloadNotFoundError):
            raise text
        if text == entry.text:
            equal[entry.key] = row
    return equal
