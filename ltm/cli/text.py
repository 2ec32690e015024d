"""Text for a terminal: what would command it is escaped, what people write stays."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from ltm.entry import JSONValue

# Control characters, line separators, what reorders or hides text, and surrogates. The two joiners
# U+200C and U+200D stay: Persian and many emoji need them.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f"
)
_UNSAFE_IN_LINE = re.compile(f"[{_UNSAFE}]")
_UNSAFE_IN_TEXT = re.compile(f"(?![\n\t])[{_UNSAFE}]")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_KIBI = 1024
_UNITS = ("kB", "MB", "GB", "TB")
_SPANS = ((31_536_000, "y"), (86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def one_line(text: str) -> str:
    r"""Return *text* with ``\n``, ``\x1b`` or ``\u202e`` in place of what can't stand in a cell."""
    return _UNSAFE_IN_LINE.sub(_escape, text)


def many_lines(text: str) -> str:
    """Return *text* like :func:`one_line` does, its line ends and tabs kept."""
    return _UNSAFE_IN_TEXT.sub(_escape, text)


def compact_json(value: JSONValue) -> str:
    """Return *value* as JSON in ASCII on one line, datetimes in ISO 8601."""
    return json.dumps(value, default=_instant)


def readable_json(value: JSONValue, *, indent: int | None = None) -> str:
    """Return *value* as JSON that shows its script and can't command a terminal."""
    shown = json.dumps(value, default=_instant, ensure_ascii=False, indent=indent)
    # In JSON such a character stands inside of a string, where its escape means the same.
    return re.sub(f"(?!\n)[{_UNSAFE}]", lambda match: json.dumps(match[0])[1:-1], shown)


def readable_size(byte_size: int) -> str:
    """Return a number of bytes with a unit, such as ``1.5 kB``; a kB is 1,024 bytes."""
    size, unit = float(byte_size), "B"
    for larger in _UNITS:
        if size < _KIBI:
            break
        size, unit = size / _KIBI, larger
    return f"{byte_size} B" if unit == "B" else f"{size:.1f} {unit}"


def readable_instant(instant: datetime | None) -> str:
    """Return a UTC *instant* to the second in ISO 8601, and ``-`` for None."""
    if instant is None:
        return "-"
    return instant.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def relative_time(instant: datetime | None, now: datetime) -> str:
    """Return how far *instant* is from *now*, such as ``5 min ago``, and ``-`` for None."""
    if instant is None:
        return "-"
    seconds = (instant - now).total_seconds()
    size, unit = next((each for each in _SPANS if abs(seconds) >= each[0]), _SPANS[-1])
    count = int(abs(seconds) // size)
    return f"in {count} {unit}" if seconds > 0 else f"{count} {unit} ago"


def excerpt(value: JSONValue, query: str, width: int = 100) -> str:
    """Return about *width* characters of *value*, around the longest word of *query* in it."""
    strings = list(_strings(value))
    text = " ".join(" ".join(strings).split()) if strings else readable_json(value)
    start = 0
    for word in sorted(re.findall(r"\w{3,}", query), key=len, reverse=True):
        found = re.search(rf"\b{re.escape(word)}", text, re.IGNORECASE)
        if found:
            start = max(0, min(found.start() - width // 3, len(text) - width))
            break
    cut = text[start : start + width]
    return f"{'…' if start else ''}{cut}{'…' if start + width < len(text) else ''}"


def _strings(value: JSONValue) -> Any:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _strings(child)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _instant(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")
