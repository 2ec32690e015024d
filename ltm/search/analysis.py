"""The analyzer every catalog shares: text to tokens.

A token is stored, and handed to the database's index, as ASCII letters and digits only. SQLite's
``unicode61`` and PostgreSQL's parser know different versions of Unicode, and the latter reads
``1e5abc`` as a number and a word; of such a token both make exactly one word, the same one.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise

from ltm.entry import JSONValue
from ltm.errors import ValidationError
from ltm.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ltm.search.questions import Question

MAX_WORD_CHARACTERS = 64
MAX_SOURCE_CHARACTERS = 65_536
# A tsvector holds 1 MiB at most. The worst text, Han characters none of which repeats, takes 26
# bytes there for 18 characters here: a pair and a single one, with positions and padding.
MAX_TEXT_CHARACTERS = 700_000

_CACHED_WORDS = 32_768
_APOSTROPHES = "'\u2018\u2019\u02bc"
_CONTRACTED = frozenset({"s", "d", "ll", "m", "re", "ve"})
_ZERO_WIDTH_SPACE = 0x200B

_FUNCTION_WORDS = """
    a about above after again against all also am an and any are as at be because been before
    being below between both but by can could did do does doing down during each few for from
    further had has have having he her here hers herself him himself his how i if in into is it
    its itself just let me more most my myself no nor not of off on once only or other our ours
    ourselves out over own same shall she should so some such than that the their theirs them
    themselves then there these they this those through to too under until up upon us very was we
    were what when where which while who whom whose why will with would you your yours yourself
    yourselves
"""
_ENGLISH_STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


class Document(NamedTuple):
    """What an index keeps of an entry."""

    text: str
    """The tokens in order, joined by spaces."""
    length: int
    """How many tokens there are."""


class Analyzer:
    """Turns text into tokens for one language; safe to share between threads.

    In English, accents go before the stemmer sees a word, so that "cafés" and "cafes" meet; an
    apostrophe joins ("o'brien" is ``obrien``) and takes a possessive or contraction with it.
    Snowball's rules for other languages need the accents, so there they go from the stem, and an
    apostrophe separates ("l'homme" holds ``homme``).

    Args:
        language: A Snowball algorithm that PyStemmer has, such as ``english`` or ``german``.

    Raises:
        ValidationError: PyStemmer has no such language.
    """

    def __init__(self, language: str = "english") -> None:
        import Stemmer  # a C extension, not loaded before text is analysed

        if language not in Stemmer.algorithms():
            raise ValidationError(f"language: {language!r} is not one that PyStemmer can stem")
        self.language = language
        self._is_english = language == "english"
        self._characters = _CharacterMap(is_english=self._is_english)
        codes = range(128)
        self._ascii = "".join(self._characters[code] or " " for code in codes).encode().ljust(256)
        # Its own cache is off: it sorts all it holds whenever it is full.
        self._stem: Callable[[str], str] = Stemmer.Stemmer(language, 0).stemWord
        self._stemming = allocate_lock()  # a stemmer keeps the word it works on
        self._tokens = _TokenCache(self._make_token)

    def analyze(self, text: str) -> list[str]:
        """Return the tokens of *text* in order; no text is an error.

        Runs of scripts that put no spaces between words become overlapping pairs of characters, or
        one character where it stands alone. Words are cut to 64 characters. Linear in *text*.
        """
        return self._analyze(text, with_characters=False)

    def analyze_document(self, key: str, value: JSONValue) -> Document:
        """Return the tokens of *key* and of every string in *value*, in order of canonical JSON.

        Keys of objects, numbers and what is past 65,536 characters of source are left out, and of
        text in unspaced scripts what is past 700,000 characters of tokens. Between its pairs such
        text has each single character too, so that a question of one character is answered.
        """
        return self.read_document(key, value)()

    def read_document(self, key: str, value: JSONValue) -> Callable[[], Document]:
        """Return what analyses *key* and *value* as they are now, if it is ever asked to."""
        parts = [key]
        remaining = MAX_SOURCE_CHARACTERS - len(key)
        pending = [value]
        while pending and remaining > 0:
            item = pending.pop()
            if isinstance(item, str):
                parts.append(item)
                remaining -= len(item)
            elif isinstance(item, dict):
                # As in the canonical JSON, so that the stored text gives the same words again.
                pending += map(item.__getitem__, sorted(item, reverse=True))
            elif isinstance(item, list):
                pending += item[::-1]
        if remaining < 0:
            parts[-1] = parts[-1][:remaining]
        return partial(self._analyze_source, "\n".join(parts))

    def _analyze_source(self, source: str) -> Document:
        tokens = self._analyze(source, with_characters=True)
        text = " ".join(tokens)
        if len(text) <= MAX_TEXT_CHARACTERS:
            return Document(text, len(tokens))
        text = text[: text.rindex(" ", 0, MAX_TEXT_CHARACTERS + 1)]
        return Document(text, text.count(" ") + 1)

    def parse_query(self, query: str) -> Question:
        """Return what *query* asks for, see :func:`~ltm.search.questions.parse_query`."""
        from ltm.search.questions import parse_query

        return parse_query(query, self.analyze, partial(self._analyze, with_characters=True))

    def _analyze(self, text: str, *, with_characters: bool) -> list[str]:
        if text.isascii():
            # By a table of bytes, which is several times as fast.
            words = text.encode().translate(self._ascii).decode().split()
        else:
            from ltm.search.scripts import has_unspaced, normalize

            text = normalize(text, keeps_accents=not self._is_english)
            words = text.translate(self._characters).split()
            if has_unspaced(text):
                return list(self._split_scripts(words, with_characters=with_characters))
        return [*filter(None, map(self._tokens.__getitem__, words))]

    def _split_scripts(self, words: list[str], *, with_characters: bool) -> Iterator[str]:
        from ltm.search.scripts import split_scripts

        for word in words:
            for index, run in enumerate(split_scripts(word)):
                if index % 2 == 1:
                    yield from _pair(run, with_characters=with_characters)
                elif run:
                    token = self._tokens[run]
                    if token:
                        yield token

    def _make_token(self, word: str) -> str:
        """Return the token of a normalised word, ``""`` if it has none."""
        word = word[:MAX_WORD_CHARACTERS]
        if "'" in word:
            word = _resolve_apostrophes(word)
        if self._is_english and word in _ENGLISH_STOP_WORDS:
            return ""
        if not word.isalnum() and not any(map(str.isalnum, word)):
            return ""
        # Endings are of words; "a1b2es" is an id.
        if word.isalpha() or not any(map(str.isdigit, word)):
            with self._stemming:
                word = self._stem(word) or word
        if word.isascii():
            return encode_token(word)
        from ltm.search.scripts import fold

        return encode_token(fold(word))


@cache
def get_analyzer(language: str = "english") -> Analyzer:
    """Return the analyzer of *language* that the process shares.

    Raises:
        ValidationError: PyStemmer has no such language.
    """
    return Analyzer(language)


def encode_token(word: str) -> str:
    """Return *word* as ASCII letters and digits, no two words alike.

    Lower-case ASCII words and all-digit ones stay as they are. Words that begin with a digit, or
    like an escape, follow ``x1``; all others follow ``x0`` as the hexadecimal digits of their
    UTF-16, which for Han and kana is shorter than UTF-8.
    """
    if word.isascii() and word.isalnum() and (word.islower() or word.isdigit()):
        if word[:2] in {"x0", "x1"} or (word[0].isdigit() and not word.isdigit()):
            return "x1" + word
        return word
    return _escape(word)


def _escape(word: str) -> str:
    return "x0" + word.encode("utf-16-be", "surrogatepass").hex()


class _TokenCache(dict[str, str]):
    """Tokens by word, so that a known word costs one look-up without a lock."""

    def __init__(self, make_token: Callable[[str], str]) -> None:
        super().__init__()
        self._make_token = make_token

    def __missing__(self, word: str) -> str:
        token = self._make_token(word)
        if token == word:
            token = word  # one object for both is found in half the memory
        if len(word) <= MAX_WORD_CHARACTERS:
            if len(self) >= _CACHED_WORDS:
                self.clear()
            self[word] = token
        return token


class _CharacterMap(dict[int, str | None]):
    """For ``str.translate``: a word's characters to themselves, all others to a space."""

    def __init__(self, *, is_english: bool) -> None:
        super().__init__()
        self._is_english = is_english

    def __missing__(self, code: int) -> str | None:
        mapped = self._classify(chr(code))
        if len(self) < _CACHED_WORDS:
            self[code] = mapped
        return mapped

    def _classify(self, character: str) -> str | None:
        if character in _APOSTROPHES:
            return "'" if self._is_english else " "
        if character.isascii():  # lower case is all that folding the case of ASCII text is
            return character.lower() if character.isalnum() else " "
        import unicodedata

        if character.isdecimal():
            return str(unicodedata.decimal(character))
        if character.isalnum():
            from ltm.search.scripts import LETTERS

            return LETTERS.get(character, character) if self._is_english else character
        category = unicodedata.category(character)
        if category == "Cf" and ord(character) != _ZERO_WIDTH_SPACE:
            return None
        return character if category[0] == "M" else " "


def _resolve_apostrophes(word: str) -> str:
    word = word.strip("'")
    if word.endswith("n't"):
        return ""
    head, apostrophe, tail = word.rpartition("'")
    while apostrophe and tail in _CONTRACTED:
        word = head
        head, apostrophe, tail = word.rpartition("'")
    return word.replace("'", "")


def _pair(run: str, *, with_characters: bool) -> Iterator[str]:
    if len(run) == 1:
        yield _escape(run)
        return
    for first, second in pairwise(run):
        if with_characters:
            yield _escape(first)
        yield _escape(first + second)
    if with_characters:
        yield _escape(run[-1])
