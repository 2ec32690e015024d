"""Questions in plain words, as what must be found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

MAX_QUERY_CHARACTERS = 8_192

_DOUBLE_QUOTES = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02", '"'))
_QUERY_PARTS = re.compile(
    r'(?<!\S)-"(?P<excluded_phrase>[^"]*)"|"(?P<phrase>[^"]*)"|(?<!\S)-(?P<excluded>\w[^\s"]*)'
)


class Question(NamedTuple):
    """What a query asks for. Every sequence of tokens stands in a document's text side by side."""

    terms: tuple[str, ...]
    """Distinct tokens in the order of the query, of which any makes a candidate and adds score."""
    phrases: tuple[tuple[str, ...], ...]
    """Sequences that a document must have, all of them; their words are in ``terms`` too."""
    excluded: tuple[tuple[str, ...], ...]
    """Sequences of which a document must have none."""

    @property
    def has_words(self) -> bool:
        """Whether there is anything to look for: a question of stop words has nothing."""
        return bool(self.terms)


def parse_query(
    query: str, analyze: Callable[[str], list[str]], analyze_whole: Callable[[str], list[str]]
) -> Question:
    """Return what *query* asks for; no query is an error.

    ``"quoted words"`` must stand side by side; ``-word`` and ``-"quoted words"`` must not occur
    at all. A hyphen counts at the beginning of a word only, and anything else is plain text.
    What is past 8,192 characters is not read.

    Args:
        query: The text.
        analyze: Returns the tokens to look for in a text.
        analyze_whole: Returns the tokens that an entry with just that text has.
    """
    query = query[:MAX_QUERY_CHARACTERS].translate(_DOUBLE_QUOTES)
    terms: list[str] = []
    phrases: list[tuple[str, ...]] = []
    excluded: list[tuple[str, ...]] = []
    end = 0
    for part in _QUERY_PARTS.finditer(query):
        terms += analyze(query[end : part.start()])
        end = part.end()
        phrase = part["phrase"]
        if phrase is None:
            unwanted = part["excluded"] or part["excluded_phrase"]
            excluded.append(tuple(analyze_whole(unwanted)))
        else:
            terms += analyze(phrase)
            phrases.append(tuple(analyze_whole(phrase)))
    terms += analyze(query[end:])
    return Question(
        terms=tuple(dict.fromkeys(terms)),
        phrases=tuple(dict.fromkeys(filter(None, phrases))),
        excluded=tuple(dict.fromkeys(filter(None, excluded))),
    )
