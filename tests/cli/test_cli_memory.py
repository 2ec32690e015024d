"""``store``, ``get``, ``rm``, ``ls`` and ``search``."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from ltm import compute_content_hash, create_ltm_backend

VALUES = [
    None,
    False,
    0,
    1.5,
    "",
    "naïve 日本 🧠",
    [],
    {},
    [1, {"a": None}],
    "x" * 5000,
    "a\x9b\ud7ff",
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_json_value_comes_back_as_it_was_stored(ltm, value):
    assert ltm("store", "k", json.dumps(value)).status == 0
    assert json.loads(ltm("get", "k").out) == value
    assert ltm("--json", "get", "k").document["value"] == value


def test_store_reads_json_from_standard_input_with_a_dash_or_nothing(ltm):
    assert ltm("store", "a", "-", stdin=b'{"n": 1}').status == 0
    assert ltm("store", "b", stdin=b'{"n": 2}').status == 0
    assert json.loads(ltm("get", "a").out) == {"n": 1}
    assert json.loads(ltm("get", "b").out) == {"n": 2}


def test_text_is_taken_to_the_letter_from_argument_input_and_file(ltm, tmp_path):
    (tmp_path / "f.txt").write_bytes('{"not": json}\r\n é'.encode())
    ltm("store", "argument", "--text", "null")
    ltm("store", "input", "--text", stdin=b"two\nlines\n")
    ltm("store", "file", "--text", "--file", "f.txt")
    assert ltm("--json", "get", "argument").document["value"] == "null"
    assert ltm("--json", "get", "input").document["value"] == "two\nlines\n"
    assert ltm("--json", "get", "file").document["value"] == '{"not": json}\r\n é'


def test_store_reads_json_from_a_file_with_or_without_byte_order_mark(ltm, tmp_path):
    (tmp_path / "f.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert ltm("store", "k", "--file", "f.json").status == 0
    assert json.loads(ltm("get", "k").out) == [1]


@pytest.mark.parametrize(
    ("arguments", "stdin", "reason"),
    [
        (["{broken"], None, "VALUE: is not JSON"),
        (["NaN"], None, "NaN is not allowed"),
        (["[" * 100_000], None, "nested too deeply"),
        ([], None, "VALUE: is missing"),
        ([], b"", "VALUE: is empty"),
        (["1", "--file", "f"], None, "give one, not both"),
        (["--file", "nowhere.json"], None, "'nowhere.json': No such file"),
        (["--text"], b"\xff", "standard input: is not UTF-8 at byte 0"),
        (["--text", "\udcff"], None, "is not UTF-8"),
        (["1", "--metadata", "[]"], None, "metadata: expected an object, got list"),
        (["1", "--metadata", "{"], None, "metadata: is not JSON"),
        (["1", "--ttl", "0"], None, "ttl: expected seconds above 0"),
        (["1", "--ttl", "soon"], None, "Invalid value for '--ttl'"),
        (["1", "--if-absent", "--if-match", "sha256:0"], None, "give one, not both"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_reason(ltm, arguments, stdin, reason):
    result = ltm("store", "k", *arguments, stdin=stdin)
    assert result.status == 2
    assert reason in result.err
    assert result.out == ""
    assert ltm("get", "k").status == 1


def test_the_answer_of_store_is_one_document(ltm):
    answer = ltm("--json", "store", "k", '{"a": 1}').document
    assert answer["success"]
    assert answer["stored"]
    assert answer["content_hash"] == compute_content_hash({"a": 1})


def test_storing_the_same_again_says_unchanged(ltm):
    assert ltm("store", "k", "1").out.startswith("stored k (1 B, inline) sha256:")
    assert ltm("store", "k", "1").out.startswith("unchanged k ")


def test_conditions_hold_at_the_commit(ltm):
    first = ltm("--json", "store", "k", "1", "--if-absent").document["content_hash"]
    assert ltm("store", "k", "2", "--if-absent").status == 3
    assert ltm("store", "k", "2", "--if-match", first).status == 0
    assert ltm("store", "k", "3", "--if-match", first).status == 3
    assert ltm("rm", "k", "--if-match", first).status == 3
    assert json.loads(ltm("get", "k").out) == 2


def test_ttl_and_metadata_are_kept(ltm):
    ltm("store", "k", "1", "--ttl", "3600", "--metadata", '{"type": "note"}')
    (entry,) = ltm("--json", "ls").documents
    lifetime = datetime.fromisoformat(entry["expires_at"]) - datetime.fromisoformat(
        entry["updated_at"]
    )
    assert lifetime.total_seconds() == pytest.approx(3600, abs=1)
    assert entry["metadata"] == {"type": "note"}


def test_what_is_not_found_is_said_on_standard_error_and_answered_in_json(ltm):
    result = ltm("get", "nowhere")
    assert (result.status, result.out, result.err) == (1, "", "not found: nowhere\n")
    answered = ltm("get", "nowhere", "--json")
    assert answered.status == 1
    assert answered.document["success"]
    assert answered.document["found"] is False


def test_raw_prints_a_string_as_it_is_and_anything_else_as_json(ltm):
    ltm("store", "s", "--text", "tab\tand é\x1b[31m\n")
    ltm("store", "n", "[1]")
    assert ltm("get", "s", "--raw").out == "tab\tand é\x1b[31m\n"
    assert json.loads(ltm("get", "n", "--raw").out) == [1]
    assert ltm("get", "s", "--raw", "--json").status == 2


def test_full_prints_metadata_and_hash_with_the_value(ltm):
    ltm("store", "k", "1", "--metadata", '{"a": 2}')
    assert json.loads(ltm("get", "k", "--full").out) == {
        "key": "k",
        "value": 1,
        "metadata": {"a": 2},
        "content_hash": compute_content_hash(1),
        "inlined": True,
    }


def test_rm_forgets_every_key_and_names_those_that_were_not_there(ltm):
    ltm("store", "a", "1")
    ltm("store", "b", "1")
    result = ltm("--json", "rm", "a", "nowhere", "b", "a")
    assert result.status == 1
    assert result.document == {"success": True, "deleted": ["a", "b"], "missing": ["nowhere"]}
    assert result.err == "not found: nowhere\n"
    assert ltm("ls").out == ""


def test_rm_takes_a_condition_for_one_key_only(ltm):
    assert ltm("rm", "a", "b", "--if-match", "sha256:0").status == 2


def test_a_key_may_begin_with_a_dash_after_two_dashes(ltm):
    assert ltm("store", "--", "-k", "-1").status == 0
    assert ltm("rm", "--", "-k").out == "removed -k\n"


def test_ls_pages_through_everything_in_key_order(ltm, tmp_path):
    keys = [f"k/{number:04}" for number in range(1203)]
    with create_ltm_backend(raise_errors=True) as memory:
        memory.store_batch([(key, 1) for key in keys] + [("other", 1)])
    assert [entry["key"] for entry in ltm("--json", "ls", "k/").documents] == keys
    assert [line.split("\t")[0] for line in ltm("ls", "k/").out.splitlines()] == keys
    some = ltm("--json", "ls", "k/", "--limit", "700", "--after", "k/0002").documents
    assert [entry["key"] for entry in some] == keys[3:703]


def test_ls_filters_by_where_and_filter_together(ltm):
    for number in range(6):
        kind = "note" if number % 2 else "fact"
        ltm("store", f"k{number}", "1", "--metadata", json.dumps({"type": kind, "n": number}))
    found = ltm("--json", "ls", "--where", "type=note", "--filter", '{"n": {"$gt": 1}}').documents
    assert [entry["key"] for entry in found] == ["k3", "k5"]
    found = ltm("--json", "ls", "--where", "type=note", "--where", "n=3").documents
    assert [entry["key"] for entry in found] == ["k3"]
    assert ltm("--json", "ls", "--where", 'n="3"').documents == []


@pytest.mark.parametrize("arguments", [["--where", "type"], ["--where", "=1"], ["--filter", "[1]"]])
def test_a_bad_filter_is_a_usage_error(ltm, arguments):
    assert ltm("ls", *arguments).status == 2
    assert ltm("search", "word", *arguments).status == 2


def test_ls_in_json_holds_everything_but_the_value(ltm):
    ltm("store", "k", "1")
    (entry,) = ltm("--json", "ls").documents
    assert list(entry) == [
        "key",
        "content_hash",
        "byte_size",
        "storage_uri",
        "metadata",
        "created_at",
        "updated_at",
        "expires_at",
    ]
    assert datetime.fromisoformat(entry["created_at"]).utcoffset() is not None


@pytest.fixture
def remembered(ltm):
    ltm("store", "a", "--text", "cats chase mice", "--metadata", '{"type": "note"}')
    ltm("store", "b", "--text", "dogs chase cats", "--metadata", '{"type": "fact"}')
    ltm("store", "c", "--text", "birds sing in the morning")


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["who", "chases", "mice?"], ["a", "b"]),
        (["cats", "-dogs"], ["a"]),
        (['"chase cats"'], ["b"]),
        (["cats", "--where", "type=fact"], ["b"]),
        (["cats", "--filter", '{"type": {"$in": ["note"]}}'], ["a"]),
        (["chase", "--limit", "1", "mice"], ["a"]),
        (["zebra"], []),
        (["--where", "type=note"], ["a"]),
    ],
)
def test_search_finds_best_first(ltm, remembered, arguments, keys):
    answer = ltm("--json", "search", *arguments).document
    assert [found["key"] for found in answer["results"]] == keys
    lines = ltm("search", *arguments).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == keys


def test_a_mistyped_option_of_search_is_no_word(ltm, remembered):
    result = ltm("search", "cats", "--limt", "1")
    assert result.status == 2
    assert "no such option: --limt" in result.err


def test_search_without_a_question_and_a_filter_is_refused(ltm):
    assert ltm("search").status == 2


def test_the_snippet_shows_the_place_that_matches(ltm):
    ltm("store", "long", "--text", f"{'filler ' * 300}the zeppelin lands {'filler ' * 300}")
    (line,) = ltm("search", "zeppelin").out.splitlines()
    snippet = line.split("\t")[2]
    assert "the zeppelin lands" in snippet
    assert len(snippet) < 120


def test_a_search_with_an_unreadable_answer_shows_the_others_and_fails(ltm, remembered, tmp_path):
    ltm("store", "big", "--text", "cats " * 1000)
    (payload,) = [path for path in Path("ltm_data").rglob("*.json") if path.is_file()]
    payload.unlink()
    result = ltm("search", "cats")
    assert result.status == 5
    assert {line.split("\t")[0] for line in result.out.splitlines()} == {"a", "b"}
    assert result.err.startswith("error: 1 could not be read")
    answer = ltm("--json", "search", "cats")
    assert answer.status == 5
    assert answer.document["error_type"] == "payload_missing"
    assert len(answer.document["results"]) == 2
