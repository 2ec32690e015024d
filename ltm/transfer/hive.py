"""The directories of a Hive-partitioned dataset: one for each combination of values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from ltm.entry import EntryRow, JSONValue, Missing
from ltm.errors import ValidationError
from ltm.hashing import canonical_json
from ltm.keys import require_storable
from ltm.search.filters import resolve

NULL = "__HIVE_DEFAULT_PARTITION__"
"""Stands for null, and as in Hive for the empty text too."""

MONTH = "month"
"""The partition where no field of the metadata is named: of the creation, ``YYYY-MM`` in UTC."""

MAX_FIELDS = 4

MAX_SEGMENT_BYTES = 180
"""Of one directory's name, so that four of them fit into the name of an object."""

MAX_NAME_BYTES = 64
"""Of a field's name, escaped."""

# The characters that Hive's FileUtils.escapePathName escapes.
_SPECIAL = frozenset("\"#%'*/:=?\\{[]^") | {chr(code) for code in (*range(1, 32), 127)}
_HASH_DIGITS = 16


class Partitioning:
    """Says into which directory an entry goes."""

    def __init__(self, fields: Sequence[str], columns: Iterable[str]) -> None:
        """Take the *fields* of the metadata, for files that have *columns*.

        A dot in a field reaches into an object, unless a key of the metadata has it.

        Raises:
            ValidationError: A field twice, more than four, one with too long a name or that of a
                column. Readers don't tell names by case.
        """
        if isinstance(fields, str) or not isinstance(fields, Sequence):
            raise ValidationError(f"partition_by: expected a list of fields, got {fields!r}")
        if len(fields) > MAX_FIELDS:
            raise ValidationError(
                f"partition_by: {len(fields)} fields, at most {MAX_FIELDS} are allowed"
            )
        taken = {column.lower() for column in columns}
        for field in fields:
            name = require_storable(field, "partition_by").lower()
            if not name or len(escape(name).encode()) > MAX_NAME_BYTES:
                raise ValidationError(
                    f"partition_by: expected names of 1 to {MAX_NAME_BYTES} bytes, got {field!r}"
                )
            if name in taken:
                raise ValidationError(f"partition_by: {field!r} is the name of another column")
            taken.add(name)
        self.fields = tuple(fields)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that readers find in the names of the directories."""
        return self.fields or (MONTH,)

    @property
    def empty_directory(self) -> str:
        """Where a file without rows goes."""
        return "/".join(segment(column, None) for column in self.columns)

    def directory(self, row: EntryRow) -> str:
        """Return the directory of *row*, without a slash at the end."""
        if not self.fields:
            return segment(MONTH, f"{row.created_at.year:04}-{row.created_at.month:02}")
        return "/".join(segment(field, resolve(row.metadata, field)) for field in self.fields)


def segment(column: str, value: JSONValue | Missing) -> str:
    """Return ``column=value``, escaped as Hive does it.

    A text stands as it is, anything else as JSON. Of what is too long, the beginning stands, ``~``
    and 16 digits of the SHA-256 of it all.
    """
    name = f"{escape(column)}="
    if value is None or value == "" or isinstance(value, Missing):
        return name + NULL
    text = value if isinstance(value, str) else canonical_json(value)
    if text == NULL:
        # Else it would be read as null. Any character may stand escaped.
        return f"{name}%5F{NULL[1:]}"
    room = MAX_SEGMENT_BYTES - len(name.encode())
    escaped = escape(text)
    if escaped[-1] in " .":
        # Windows drops it, and so do some clients of Azure.
        escaped = f"{escaped[:-1]}%{ord(escaped[-1]):02X}"
    if len(escaped.encode()) <= room:
        return name + escaped
    digits = hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{name}{_beginning(escaped, room - 1 - _HASH_DIGITS)}~{digits}"


def escape(text: str) -> str:
    """Return *text* with ``%`` and two digits for each character that no path may hold."""
    return "".join(f"%{ord(each):02X}" if each in _SPECIAL else each for each in text)


def _beginning(escaped: str, room: int) -> str:
    """Return as much of *escaped* as fits into *room* bytes, no escape or character cut."""
    kept: list[str] = []
    for part in re.findall(r"%[0-9A-F]{2}|.", escaped, re.DOTALL):
        room -= len(part.encode())
        if room < 0:
            break
        kept.append(part)
    return "".join(kept)
