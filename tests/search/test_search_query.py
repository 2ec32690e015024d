"""What a plain-language query asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.search.analysis import get_analyzer

ENGLISH = get_analyzer("english")

query_text = st.text(alphabet=st.characters(exclude_categories=())) | st.text(
    alphabet="\"“”-*^:() ANDORabc'東京é\ud800\0", max_size=30
)


def holds(document: str, sequence: tuple[str, ...]) -> bool:
    text = ENGLISH.analyze_document("k", document).text
    return f" {' '.join(sequence)} " in f" {text} "


def test_terms_are_distinct_and_in_order() -> None:
    question = ENGLISH.parse_query("What did the users say about users' tea, and tea leaves?")
    assert question.terms == ("user", "say", "tea", "leav")
    assert question.has_words


@pytest.mark.parametrize("quotes", ['""', "“”", "„“", "«»", "＂＂"])
def test_quoted_words_are_a_required_phrase_and_terms(quotes: str) -> None:
    question = ENGLISH.parse_query(f"who likes {quotes[0]}dark  roast{quotes[1]} coffee")
    assert question.phrases == (("dark", "roast"),)
    assert question.terms == ("like", "dark", "roast", "coffe")


def test_a_quoted_word_is_required() -> None:
    assert ENGLISH.parse_query('"tea" coffee').phrases == (("tea",),)


@pytest.mark.parametrize(
    ("query", "excluded"),
    [
        ("tea -coffee", (("coffe",),)),
        ("-coffee tea", (("coffe",),)),
        ('tea -"iced coffee"', (("ice", "coffe"),)),
        ("tea -“iced coffee”", (("ice", "coffe"),)),
        ("tea -user_id", (("user", "id"),)),
        ("tea -b -c -b", (("b",), ("c",))),
        ("tea -the", ()),
        ('tea -""', ()),
        ("tea - coffee", ()),
        ("tea -", ()),
        ("well-known tea", ()),
        ("tea --verbose", ()),
        ("tea -> milk", ()),
    ],
)
def test_a_hyphen_before_a_word_excludes_it(
    query: str, excluded: tuple[tuple[str, ...], ...]
) -> None:
    question = ENGLISH.parse_query(query)
    assert question.excluded == excluded
    assert "tea" in question.terms


def test_an_excluded_word_is_no_term() -> None:
    assert ENGLISH.parse_query("tea -coffee").terms == ("tea",)


def test_a_hyphen_within_a_word_separates_words() -> None:
    assert ENGLISH.parse_query("well-known").terms == ("well", "known")


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("tea AND coffee", ("tea", "coffe")),
        ("tea NEAR coffee", ("tea", "near", "coffe")),
        ("key:tea* (^coffee)", ("key", "tea", "coffe")),
        ('tea "coffee', ("tea", "coffe")),
        ('tea" coffee', ("tea", "coffe")),
    ],
)
def test_operators_of_search_engines_are_plain_text(query: str, terms: tuple[str, ...]) -> None:
    question = ENGLISH.parse_query(query)
    assert question.terms == terms
    assert question.phrases == ()


@pytest.mark.parametrize("query", ["", " ", '"', '""', "-", "the", "who am I?", "-tea", "***"])
def test_a_query_may_have_no_words(query: str) -> None:
    assert not ENGLISH.parse_query(query).has_words


def test_a_phrase_in_a_script_without_spaces_is_found_inside_a_run() -> None:
    question = ENGLISH.parse_query('"北京" -上海')
    assert holds("我爱北京天安门", question.phrases[0])
    assert holds("我爱北京天安门", ENGLISH.parse_query('"北京天安"').phrases[0])
    assert not holds("我爱东北的京都", question.phrases[0])
    assert holds("在上海的人", question.excluded[0])


def test_one_character_can_be_excluded() -> None:
    assert holds("我的黒猫很可爱", ENGLISH.parse_query("-猫").excluded[0])


def test_a_query_is_read_up_to_8192_characters() -> None:
    assert len(ENGLISH.parse_query(" ".join(map(str, range(10**6)))).terms) < 8192 / 2


@given(query_text)
def test_no_query_is_an_error(query: str) -> None:
    question = ENGLISH.parse_query(query)
    assert len(set(question.terms)) == len(question.terms)
    assert question.has_words == (question.terms != ())
    for sequence in question.phrases + question.excluded:
        assert sequence
    for phrase in question.phrases:
        assert set(phrase) & set(question.terms)


@given(query_text)
def test_text_holds_itself_as_a_phrase(text: str) -> None:
    text = text.translate(dict.fromkeys(map(ord, '"“”„«»＂')))
    for phrase in ENGLISH.parse_query(f'"{text}"').phrases:
        assert holds(text, phrase)
        assert holds(f"before {text} after", phrase)
