"""Text beyond ASCII: its normal form, its accents, and the scripts that put no spaces in it.

A module of its own, imported with the first text that is not ASCII: compiling these patterns takes
longer than all that a short program asks of its memory.
"""

from __future__ import annotations

import re
import unicodedata

# Letters that are accented to the eye but do not decompose.
LETTERS = {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d"}

# Accents, and the points of Hebrew and Arabic, which writers leave out; not the vowel signs and
# viramas of other scripts, without which their words are different words, nor kana's voicing.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a"
    "\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f]+"
)

# Scripts that put no space between words: Thai, Lao, Myanmar, Khmer, Tai; kana, Bopomofo, Han; and
# Hangul, whose words carry their particles.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\ua9e0-\ua9ff\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_SCRIPT_RUNS = re.compile(f"([{_UNSPACED}]+)")

# Sorting the marks on one letter costs the square of their number in unicodedata.normalize. No
# word has 32 characters in a row that are neither letter nor digit.
_LONG_GAPS = re.compile(r"(\W{32})\W+")


def normalize(text: str, *, keeps_accents: bool) -> str:
    """Return *text* in its compatible composed form, its case folded; linear in *text*.

    Args:
        text: Of any script.
        keeps_accents: Whether accents that compose stay.
    """
    text = _LONG_GAPS.sub(r"\1 ", text)
    text = unicodedata.normalize("NFKD", text).casefold()
    # A Turkish capital I with its dot; only accents that compose are known to stemmers.
    text = text.replace("i\u0307", "i") if keeps_accents else _ACCENTS.sub("", text)
    # NFC puts Hangul and voiced kana together again.
    return unicodedata.normalize("NFC", text)


def has_unspaced(text: str) -> bool:
    """Say whether any of *text* is in a script that puts no space between words."""
    return _HAS_UNSPACED.search(text) is not None


def split_scripts(word: str) -> list[str]:
    """Return the runs of *word*: at odd places those in unspaced scripts, the others between."""
    return _SCRIPT_RUNS.split(word)


def fold(word: str) -> str:
    """Return *word* without its accents; as it is where nothing else would be left."""
    folded = _ACCENTS.sub("", unicodedata.normalize("NFD", word))
    folded = "".join(LETTERS.get(letter, letter) for letter in folded)
    return unicodedata.normalize("NFC", folded) or word
