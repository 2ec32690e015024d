"""What the analyzer makes of text, and that a real index keeps it as it is."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ltm.errors import ValidationError
from ltm.search.analysis import (
    MAX_SOURCE_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Analyzer,
    encode_token,
    get_analyzer,
)

ENGLISH = get_analyzer("english")

any_text = st.text(alphabet=st.characters(exclude_categories=()))
awkward_text = st.text(alphabet="019ex '-_.:aé東한नि\u0301\u0e41\ud800\0\u200b😀ﷺ½", max_size=20)


def decode_token(token: str) -> str:
    if token.startswith("x0"):
        return bytes.fromhex(token[2:]).decode("utf-16-be", "surrogatepass")
    return token.removeprefix("x1")


def words(text: str, analyzer: Analyzer = ENGLISH) -> list[str]:
    return [decode_token(token) for token in analyzer.analyze(text)]


def contains(document: str, query: str, analyzer: Analyzer = ENGLISH) -> bool:
    found = analyzer.analyze_document("k", document).text.split()
    terms = analyzer.parse_query(query).terms
    return bool(terms) and all(term in found for term in terms)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The agents were running.", ["agent", "run"]),
        ("agent's agents' Agent’s", ["agent", "agent", "agent"]),
        ("I don't, we'll; you’re who'd", []),
        ("O'Brien 'quoted' rock'n'roll", ["obrien", "quot", "rocknrol"]),
        ("user_id notes:assert:0", ["user", "id", "note", "assert", "0"]),
        ("v1.2.3 a1b2es 007", ["v1", "2", "3", "a1b2es", "007"]),
        ("Café CAFÉS cafe\u0301", ["cafe", "cafe", "cafe"]),
        ("Straße Łódź Malmø İzmir", ["strass", "lodz", "malmo", "izmir"]),
        ("m² ① ﬁnd ＡＢＣ ٣٤", ["m2", "1", "find", "abc", "34"]),
        ("soft\u00adhyphen zero\u200bwidth", ["softhyphen", "zero", "width"]),
        ("हिन्दी נִקּוּד", ["हिन्दी", "נקוד"]),
        ("\0 \ud800 🎉\ufe0f 1️⃣ \u0301 ''' _", ["1"]),
        ("", []),
    ],
)
def test_text_becomes_these_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("東京都", ["東京", "京都"]),
        ("猫", ["猫"]),
        ("iPhone手机2台", ["iphon", "手机", "2", "台"]),
        ("ｶﾞｷﾞ がぎ", ["ガギ", "がぎ"]),
        ("한국어", ["한국", "국어"]),
        ("แมว", ["แม", "มว"]),
    ],
)
def test_text_without_spaces_becomes_overlapping_pairs(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("我的黒猫很可爱", "猫"),
        ("我的黒猫很可爱", "黒猫"),
        ("ฉันรักแมวมาก", "แมว"),
        ("메모리를 읽는다", "메모리"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("résumés", "resume"),
    ],
)
def test_a_word_is_found_in_its_script(document: str, query: str) -> None:
    assert contains(document, query)


def test_vowel_signs_tell_words_apart() -> None:
    assert not contains("दिन", "दान")


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("german", "Häuser die Straße", ["haus", "die", "strass"]),
        ("french", "l'homme étaient", ["l", "homm", "etaient"]),
        ("russian", "красный красного", ["красн", "красн"]),
        ("turkish", "Ankara'da", ["ankar", "da"]),
    ],
)
def test_other_languages_stem_with_accents_and_fold_after(
    language: str, text: str, expected: list[str]
) -> None:
    assert words(text, get_analyzer(language)) == expected


def test_a_language_without_a_stemmer_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="'klingon'"):
        get_analyzer("klingon")


def test_the_process_shares_one_analyzer_per_language() -> None:
    assert get_analyzer("german") is get_analyzer("german")


def test_the_stemmer_is_not_loaded_with_the_module() -> None:
    script = "import sys, ltm.search.analysis; sys.exit('Stemmer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_words_are_cut_to_64_characters() -> None:
    assert words("1" * 200) == ["1" * 64]
    assert words("é1" * 200) == ["e1" * 32]


@pytest.mark.parametrize(
    "pattern", ["a'", "a\u0301\u0316", "\u0301\u0316", "न\u094d\u093c", "'s", "x", "-", "\ud800"]
)
@pytest.mark.parametrize("language", ["english", "hindi"])
def test_a_megabyte_of_anything_is_analysed(pattern: str, language: str) -> None:
    assert isinstance(get_analyzer(language).analyze(pattern * (2**20 // len(pattern))), list)


@given(any_text | awkward_text)
def test_every_token_is_ascii_letters_and_digits(text: str) -> None:
    for token in ENGLISH.analyze(text) + get_analyzer("french").analyze(text):
        assert token.isascii()
        assert token.isalnum()
        assert token == token.lower()


@given(st.text(min_size=1) | st.from_regex(r"\A[x01e]{1,4}\Z") | st.text("xX01a", min_size=1))
@example("x0")
@example("x1x0")
def test_a_token_stands_for_one_word_only(word: str) -> None:
    assert decode_token(encode_token(word)) == word


@given(st.from_regex(r"\A[0-9a-z]{1,8}\Z"))
def test_no_token_is_a_number_with_letters(word: str) -> None:
    # PostgreSQL's parser reads 1e5abc as 1e5 and abc.
    token = encode_token(word)
    assert token.isdigit() or not token[0].isdigit()


@given(st.lists(any_text | awkward_text, max_size=8))
def test_full_text_search_of_sqlite_keeps_every_token_as_it_is(strings: list[str]) -> None:
    document = ENGLISH.analyze_document("1e5abc 5kg x0ff 007", strings)
    database = sqlite3.connect(":memory:")
    database.execute(
        "CREATE VIRTUAL TABLE words USING fts5(text, tokenize='unicode61 remove_diacritics 0')"
    )
    database.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, instance)")
    database.execute("INSERT INTO words VALUES (?)", [document.text])
    indexed = database.execute("SELECT term FROM vocabulary ORDER BY offset").fetchall()
    database.close()
    assert [term for (term,) in indexed] == document.text.split(" ")
    assert len(indexed) == document.length


def test_a_document_is_its_key_and_its_strings_in_the_order_of_canonical_json() -> None:
    value = {"zeta": "one", "alpha": [2, "three", {"x": ["four"], "y": None}, True], "b": "five"}
    document = ENGLISH.analyze_document("user:seven", value)
    assert document.text == "user seven three four five one"
    assert document.length == 6


@pytest.mark.parametrize("value", [None, 7, True, [], {}, "", "the"])
def test_a_value_without_words_has_those_of_its_key(value: object) -> None:
    assert ENGLISH.analyze_document("key", value) == ("key", 1)


def test_a_document_without_any_word_is_empty() -> None:
    assert ENGLISH.analyze_document("::", None) == ("", 0)


def test_a_value_of_any_depth_is_read() -> None:
    value: object = "deep"
    for _ in range(10_000):
        value = [value, {"k": "side"}]
    assert ENGLISH.analyze_document("key", value).text.startswith("key deep side")


def test_strings_count_up_to_65536_characters() -> None:
    long = "x" * (MAX_SOURCE_CHARACTERS - 6)
    for beginning, end in [("", " bc"), ("x", " b"), ("xxx", "")]:
        document = ENGLISH.analyze_document("key", [beginning, long, " bc", "de"])
        assert document.text == " ".join(f"key {beginning} {'x' * 64}{end}".split())


def test_tokens_of_unspaced_text_are_capped_at_a_whole_token() -> None:
    han = "".join(map(chr, range(0x4E00, 0x9FA0))) * 4
    document = ENGLISH.analyze_document("key", han)
    tokens = document.text.split(" ")
    assert MAX_TEXT_CHARACTERS - 20 < len(document.text) <= MAX_TEXT_CHARACTERS
    assert document.length == len(tokens)
    assert {len(token) for token in tokens[1:]} == {6, 10}


def test_threads_get_the_same_tokens() -> None:
    texts = [
        " ".join(f"running{chr(97 + i % 26)}s" * (i % 3 + 1) for i in range(n, n + 300))
        for n in range(40)
    ]
    alone = [Analyzer("english").analyze(text) for text in texts]
    shared = Analyzer("english")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.analyze, texts * 4)) == alone * 4
