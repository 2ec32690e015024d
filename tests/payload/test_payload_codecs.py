"""Codecs give back the text that they were given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.errors import IntegrityError, ValidationError
from ltm.hashing import canonical_json, compute_content_hash, parse_verified
from ltm.payload.codecs import codec_for_path, get_codec

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children) | st.dictionaries(st.text("aé\n"), children),
    max_leaves=8,
)


@pytest.mark.parametrize("name", ["json"])
@given(value=values)
def test_a_value_comes_back_with_its_hash(name: str, value: object) -> None:
    codec = get_codec(name)
    text = codec.decode(codec.encode(canonical_json(value)), where="here")
    assert parse_verified(text, compute_content_hash(value), where="here") == value


def test_a_json_payload_is_the_canonical_text() -> None:
    assert get_codec("json").encode('{"a": "\\u00e9"}') == b'{"a": "\\u00e9"}'


def test_bytes_that_are_not_the_format_fail_the_check() -> None:
    with pytest.raises(IntegrityError, match=r"^here: "):
        get_codec("json").decode(b"\xff\xfe", where="here")


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"'json'.*got 'yaml'"):
        get_codec("yaml")


def test_the_extension_of_an_object_tells_its_codec() -> None:
    assert codec_for_path("p/ab/abc.json") is get_codec("json")


@pytest.mark.parametrize("path", ["p/ab/abc.xml", "p/ab/json", "p/ab/abc.json.tmp", ""])
def test_an_object_of_no_known_format_fails_the_check(path: str) -> None:
    with pytest.raises(IntegrityError, match="no codec"):
        codec_for_path(path)
