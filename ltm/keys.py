"""Keys, the ids made of them, and the range of keys that a prefix stands for."""

from __future__ import annotations

import hashlib

from ltm.errors import ValidationError

MAX_KEY_BYTES = 1024
DEFAULT_TABLE = "default"


def validate_key(key: object) -> str:
    """Return *key* if it can name an entry.

    Raises:
        ValidationError: Not a string, empty, over 1,024 bytes in UTF-8, or with NUL or a lone
            surrogate in it.
    """
    text = require_storable(key, "key")
    if not text:
        raise ValidationError("key: is empty")
    if len(text) * 4 > MAX_KEY_BYTES and len(text.encode()) > MAX_KEY_BYTES:
        raise ValidationError(
            f"key: {len(text.encode())} bytes in UTF-8, at most {MAX_KEY_BYTES} are allowed: "
            f"{text[:40]!r}..."
        )
    return text


def validate_prefix(prefix: object, what: str = "prefix") -> str:
    """Return *prefix*, where None means the empty prefix that every key has.

    Raises:
        ValidationError: Not a string, or one that no key can begin with.
    """
    return "" if prefix is None else require_storable(prefix, what)


def validate_name(name: object, what: str) -> str:
    """Return *name* if it can name a logical table or a tenant: 1 to 200 characters, no NUL.

    Raises:
        ValidationError: It can't; *what* says which argument it was.
    """
    text = require_storable(name, what)
    if not 1 <= len(text) <= 200:
        raise ValidationError(f"{what}: expected 1 to 200 characters, got {len(text)}")
    return text


def generate_entry_id(key: str, *, table: str = DEFAULT_TABLE, tenant: str = "") -> str:
    """Return the id of an entry: 64 hexadecimal digits.

    In the default table without a tenant it is the SHA-256 of the key, which other tools compute
    too. Elsewhere the parts are joined by NUL, which none of them can hold, so no two entries meet.
    """
    return hash_key(id_prefix(table=table, tenant=tenant) + key)


def id_prefix(*, table: str, tenant: str) -> str:
    """Return what stands before each key of a logical table where ids are made of them."""
    return f"\0{tenant}\0{table}\0" if tenant or table != DEFAULT_TABLE else ""


def hash_key(text: str) -> str:
    """Return the id of the entry whose key is in *text*, after its prefix."""
    return hashlib.sha256(text.encode()).hexdigest()


def prefix_upper_bound(prefix: str) -> str | None:
    """Return the smallest string above every string that begins with *prefix*, or None.

    Order is by code point, which is the order of UTF-8 bytes. None means that there is no bound:
    the prefix is empty or made of the last code point only.
    """
    while prefix:
        head, last = prefix[:-1], ord(prefix[-1])
        if last < 0x10FFFF:
            # The code points between are surrogates, which no key holds.
            return head + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = head
    return None


def require_storable(text: object, what: str) -> str:
    """Return *text* if every catalog can keep it; of a subclass, such as an enumeration, its text.

    Raises:
        ValidationError: Not text, or NUL or a lone surrogate is in it; *what* says which argument
            it was.
    """
    if not isinstance(text, str):
        raise ValidationError(f"{what}: expected str, got {type(text).__name__}")
    if "\0" in text:
        raise ValidationError(f"{what}: {text[:80]!r} holds NUL")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValidationError(f"{what}: {text[:80]!r} holds a lone surrogate") from error
    return text if type(text) is str else str.__str__(text)
