"""How objects are named, and which names are known again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.errors import PayloadError, ValidationError
from ltm.hashing import hash_text
from ltm.keys import generate_entry_id
from ltm.payload.base import (
    is_payload_path,
    is_temporary_path,
    mask_credentials,
    payload_path,
    split_uri,
    temporary_path,
    validate_path,
)

ENTRY_ID = generate_entry_id("user:1")
CONTENT_HASH = hash_text("1")
segments = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12)
prefixes = st.lists(segments, min_size=1, max_size=3).map("/".join)


def test_a_payload_path_tells_entry_and_hash() -> None:
    path = payload_path("default-1f2e", ENTRY_ID, CONTENT_HASH, "json")
    prefix, shard, name = path.split("/")
    entry_id, hash_digits, rest = name.split("-")
    random_digits, extension = rest.split(".")
    assert (prefix, shard, entry_id, extension) == (
        "default-1f2e",
        ENTRY_ID[:2],
        ENTRY_ID,
        "json",
    )
    assert CONTENT_HASH.startswith(f"sha256:{hash_digits}")
    assert len(hash_digits) == 16
    assert len(random_digits) == 16


def test_no_payload_path_comes_twice() -> None:
    paths = {payload_path("p", ENTRY_ID, CONTENT_HASH, "json") for _ in range(1000)}
    assert len(paths) == 1000


@given(prefixes, st.text(), st.sampled_from(["json", "parquet", "json.gz", "duckdb"]))
def test_a_payload_path_is_known_again_under_its_own_prefix_only(
    prefix: str, key: str, extension: str
) -> None:
    path = payload_path(prefix, generate_entry_id(key), CONTENT_HASH, extension)
    assert is_payload_path(path, prefix)
    assert not is_payload_path(path, prefix[:-1])
    assert not is_payload_path(path, f"{prefix}x")
    assert not is_payload_path(f"x{path}", prefix)
    assert not is_temporary_path(path, prefix)
    assert is_temporary_path(temporary_path(path), prefix)
    assert not is_payload_path(temporary_path(path), prefix)
    assert not is_temporary_path(temporary_path(path), f"{prefix}x")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.upper(),
        lambda path: f"{path}\n",
        lambda path: f"{path}.",
        lambda path: path.replace("/", "//"),
        lambda path: path.removesuffix(".json"),
        lambda path: path.replace("p/", "p/../p/"),
        lambda path: path.replace(f"/{ENTRY_ID[:2]}/", "/zz/"),
        lambda path: path.replace(f"/{ENTRY_ID[:2]}/", "/"),
        lambda path: path[:-6] + path[-5:],
        lambda path: path.replace("-", "-0", 1),
    ],
)
def test_what_differs_in_a_character_is_no_payload_path(change) -> None:
    path = payload_path("p", ENTRY_ID, CONTENT_HASH, "json")
    assert change(path) != path
    assert not is_payload_path(change(path), "p")


def test_a_file_of_somebody_else_is_no_temporary_file() -> None:
    assert not is_temporary_path("p/ab/.notes.0123456789abcdef.tmp", "p")
    assert not is_temporary_path("p/ab/notes.tmp", "p")


@pytest.mark.parametrize(
    ("prefix", "entry_id", "content_hash", "extension"),
    [
        ("../p", ENTRY_ID, CONTENT_HASH, "json"),
        ("", ENTRY_ID, CONTENT_HASH, "json"),
        ("p", "user:1", CONTENT_HASH, "json"),
        ("p", ENTRY_ID, "sha256:", "json"),
        ("p", ENTRY_ID, CONTENT_HASH, ""),
        ("p", ENTRY_ID, CONTENT_HASH, "a/b"),
    ],
)
def test_a_path_that_would_not_be_known_again_is_not_made(
    prefix: str, entry_id: str, content_hash: str, extension: str
) -> None:
    with pytest.raises(ValidationError, match="not well formed"):
        payload_path(prefix, entry_id, content_hash, extension)


@given(st.text() | st.lists(st.sampled_from(["..", ".", "a", "", "/", "\\", "\0"])).map("/".join))
def test_an_accepted_path_stays_under_the_root(path: str) -> None:
    try:
        accepted = validate_path(path)
    except PayloadError:
        return
    assert accepted == path
    assert os.path.normpath(f"/root/{path}") == f"/root/{path}"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/var/memory", ("", "/var/memory")),
        ("memory", ("", "memory")),
        ("./a://b", ("", "./a://b")),
        (Path("/var"), ("", "/var")),
        ("file:///var", ("file", "/var")),
        ("S3://Bucket/Folder", ("s3", "Bucket/Folder")),
        ("memory://", ("memory", "")),
    ],
)
def test_a_uri_is_a_protocol_and_the_rest(uri, expected) -> None:
    assert split_uri(uri) == expected


@pytest.mark.parametrize("uri", ["", "a\0b", "simplecache::s3://bucket", "://x", "3s://x", b"/x"])
def test_what_is_no_uri_is_refused(uri) -> None:
    with pytest.raises(ValidationError, match="payload store URI"):
        split_uri(uri)


def test_credentials_in_urls_are_masked() -> None:
    text = "sftp://user:p@ss@host/a and ftp://me@host/b@c"
    assert mask_credentials(text) == "sftp://***@host/a and ftp://***@host/b@c"
