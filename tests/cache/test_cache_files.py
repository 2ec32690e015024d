"""Keys made of the content of files, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pytest

from ltm import ValidationError, cache_wrap, create_ltm_backend
from ltm.backend.base import LTMBackend
from ltm.payload.store import open_payload_store
from tests.services.object_server import ObjectPlace


@pytest.fixture
def memory() -> Iterator[LTMBackend]:
    with create_ltm_backend(
        catalog_config={"type": "sqlite", "path": ":memory:"}, storage_uri="memory://files"
    ) as memory:
        yield memory


class Summary:
    """An action that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, path: Any, style: str = "short") -> str:
        self.runs += 1
        return f"run {self.runs}"


def summarise(memory: LTMBackend, action: Any, path: Any, **options: Any) -> Any:
    options = {"key_strategy": "file_content"} | options
    return cache_wrap(memory, action, {"path": path}, **options)


def test_a_file_is_known_by_its_content_and_not_by_its_name(
    memory: LTMBackend, tmp_path: Path
) -> None:
    action = Summary()
    first, copy = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("the same")
    copy.write_text("the same")
    results = [
        summarise(memory, action, path)["result"]
        for path in (str(first), first, str(copy), first.as_uri())
    ]
    assert results == ["run 1"] * 4
    copy.write_text("another")
    assert summarise(memory, action, copy)["result"] == "run 2"
    assert summarise(memory, action, first)["result"] == "run 1"


def test_what_is_no_file_counts_as_it_is(memory: LTMBackend, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    action = Summary()
    for style, run in (("short", 1), ("long", 2), ("short", 1)):
        args = {"path": str(tmp_path / "a"), "style": style}
        answer = cache_wrap(memory, action, args, key_strategy="file_content")
        assert answer["result"] == f"run {run}"


def test_several_files_count_in_their_order(memory: LTMBackend, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    paths = [tmp_path / "a", tmp_path / "b"]
    keys = {
        summarise(memory, Summary(), each, file_args=["path"])["_cache_key"]
        for each in (paths, paths[::-1], tuple(paths), paths[:1], paths[0])
    }
    assert len(keys) == 4


@pytest.mark.parametrize("place", ["s3_place", "gcs_place", "azure_place"])
def test_a_file_in_an_object_store_is_known_by_its_content(
    memory: LTMBackend, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    stored: ObjectPlace = request.getfixturevalue(place)
    action = Summary()
    local = tmp_path / "local"
    content = b"a megabyte or two" * 100_000
    local.write_bytes(content)
    assert summarise(memory, action, local)["result"] == "run 1"
    uri, options = f"{stored.uri}/report.pdf", stored.options
    with closing(open_payload_store(stored.uri, storage_options=options)) as store:
        store.write("report.pdf", content)
    found = summarise(memory, action, uri, storage_options=options)
    assert (found["result"], found["_cache_hit"]) == ("run 1", True)
    with pytest.raises(ValidationError, match=r"path: .*no such file"):
        summarise(memory, action, f"{stored.uri}/absent.pdf", storage_options=options)


def test_a_file_in_memory_is_known_by_its_content(memory: LTMBackend) -> None:
    with fsspec.open("memory://somewhere/a.txt", "wb") as file:
        file.write(b"content")
    action = Summary()
    for _ in range(2):
        assert summarise(memory, action, "memory://somewhere/a.txt")["result"] == "run 1"


def test_a_missing_file_and_arguments_that_name_none_are_clear_errors(
    memory: LTMBackend, tmp_path: Path
) -> None:
    action = Summary()
    with pytest.raises(ValidationError, match=r"path: .*absent.*no such file"):
        summarise(memory, action, tmp_path / "absent")
    with pytest.raises(ValidationError, match="none of the arguments names a file"):
        summarise(memory, action, "just text")
    with pytest.raises(ValidationError, match="document names a file"):
        summarise(memory, action, "x", file_args=["document"])
    with pytest.raises(ValidationError, match="path: expected the name of a file, got int"):
        summarise(memory, action, 7, file_args=["path"])
    assert action.runs == 0


def test_a_file_that_cannot_be_read_stops_no_action(memory: LTMBackend, tmp_path: Path) -> None:
    answer = summarise(memory, Summary(), tmp_path)
    assert (answer["result"], answer["_cached"], answer["_cache_key"]) == ("run 1", False, None)
    assert answer["_cache_error_type"] == "storage_error"
    assert answer["_cache_error"].startswith("path: ")
