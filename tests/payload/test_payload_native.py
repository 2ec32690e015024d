"""A payload store in one DuckDB file against the suite, and what only such a file can prove."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from ltm.errors import PayloadNotFoundError, ValidationError
from ltm.payload import native, native_file
from ltm.payload.base import PayloadStore
from ltm.payload.native import DuckDBFilePayloadStore
from ltm.payload.store import open_payload_store
from ltm.testing.payload_suite import PayloadStoreSuite

RunPython = Callable[..., subprocess.CompletedProcess[str]]


class TestDuckDBFile(PayloadStoreSuite):
    def make_store(self, tmp_path: Path) -> PayloadStore:
        return DuckDBFilePayloadStore(tmp_path / "payloads.duckdb")


class TestDuckDBFileUrl(PayloadStoreSuite):
    def make_store(self, tmp_path: Path) -> PayloadStore:
        return open_payload_store(f"file://{tmp_path}/new/payloads.duckdb")


class TestDuckDBFileWithCheckpointsAlways(PayloadStoreSuite):
    @pytest.fixture(autouse=True)
    def checkpoints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native_file, "COMMITS_PER_CHECKPOINT", 1)

    def make_store(self, tmp_path: Path) -> PayloadStore:
        return DuckDBFilePayloadStore(tmp_path / "payloads.duckdb")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "payloads.duckdb"


@pytest.fixture
def store(file: Path) -> DuckDBFilePayloadStore:
    return DuckDBFilePayloadStore(file)


def test_the_end_of_a_local_address_chooses_the_store(tmp_path: Path) -> None:
    chosen = {
        str(tmp_path / "a.duckdb"): "DuckDBFilePayloadStore",
        f"file://{tmp_path}/a.duckdb": "DuckDBFilePayloadStore",
        f"local://{tmp_path}/a.duckdb": "DuckDBFilePayloadStore",
        str(tmp_path / "a.duckdb.d"): "LocalPayloadStore",
        "memory://a.duckdb": "FsspecPayloadStore",
        "s3://bucket/a.duckdb": "FsspecPayloadStore",
    }
    assert {uri: type(open_payload_store(uri)).__name__ for uri in chosen} == chosen
    assert os.listdir(tmp_path) == []


def test_the_directory_is_the_one_in_which_the_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    for uri, root, directory in (
        ("a/p.duckdb", f"{tmp_path}/a/p.duckdb", f"{tmp_path}/a"),
        ("~/p.duckdb", "/home/somebody/p.duckdb", "/home/somebody"),
        ("file:///var/p.duckdb", "file:///var/p.duckdb", "/var"),
    ):
        opened = open_payload_store(uri)
        assert (opened.root, opened.directory) == (root, directory)


@pytest.mark.parametrize("uri", ["p.db", "memory://p.duckdb", "", "a\0.duckdb"])
def test_what_is_no_path_to_such_a_file_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="payload store URI"):
        DuckDBFilePayloadStore(uri)


@pytest.mark.parametrize("timeout", [0, -1, True, "1"])
def test_a_timeout_that_is_none_is_refused(timeout) -> None:
    with pytest.raises(ValidationError, match="timeout"):
        open_payload_store("p.duckdb", timeout=timeout)


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = DuckDBFilePayloadStore(tmp_path / "new" / "p.duckdb")
    with pytest.raises(PayloadNotFoundError):
        store.read("a/one")
    (content,) = store.read_many(["a/one"])
    assert isinstance(content, PayloadNotFoundError)
    store.delete("a/one")
    assert [*store.list("a")] == []
    assert os.listdir(tmp_path) == []


def test_any_duckdb_reads_the_file_as_it_is(file: Path, store: DuckDBFilePayloadStore) -> None:
    store.write("a/text", '{"a": "ключ"}'.encode())
    store.write("a/binary", b"\xff\x00")
    # First with the log beside it, then without.
    for is_merged in (False, True):
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{file}' AS other (READ_ONLY)")
            rows = connection.execute(
                "SELECT path, content, byte_size, epoch(written_at) > 0 FROM other.payloads"
            ).fetchall()
            assert sorted(rows) == [
                ("a/binary", b"\xff\x00", 2, True),
                ("a/text", '{"a": "ключ"}'.encode(), 17, True),
            ]
            values = connection.execute("SELECT path, value FROM other.payload_values").fetchall()
            assert sorted(values) == [("a/binary", None), ("a/text", '{"a": "ключ"}')]
        if not is_merged:
            with duckdb.connect(str(file)):
                pass
    assert store.read("a/binary") == b"\xff\x00"


def test_objects_of_50_mib_are_kept(store: DuckDBFilePayloadStore) -> None:
    contents = {f"a/{size}": os.urandom(size) for size in (1, 1 << 20, 50 << 20)}
    for path, content in contents.items():
        store.write(path, content)
    assert all(store.read(path) == content for path, content in contents.items())
    assert store.read_many([*contents]) == [*contents.values()]
    sizes = {found.path: found.byte_size for found in store.list("a")}
    assert sizes == {path: len(content) for path, content in contents.items()}


def test_a_path_that_comes_twice_in_a_batch_is_written_once(store: DuckDBFilePayloadStore) -> None:
    first, second = store.write_many([("a/one", b"first"), ("a/one", b"second")])
    assert first is None
    assert "the name is taken" in str(second)
    assert store.read_many(["a/one", "a/one"]) == [b"first"] * 2


def test_a_listing_of_many_pages_shows_all_once(
    store: DuckDBFilePayloadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_PAGE_ROWS", 7)
    paths = [f"a/{number}" for number in range(21)] + ["a-/x", "a0/x", "a/ключ"]
    store.write_many([(path, b"1") for path in paths])
    listing = store.list("a")
    seen = [next(listing).path]
    store.write("b/one", b"1")  # a listing under way keeps nobody out
    seen += [found.path for found in listing]
    assert sorted(seen) == sorted([*paths[:21], "a/ключ"])


def test_a_batch_is_one_transaction(store: DuckDBFilePayloadStore, file: Path) -> None:
    items = [(f"a/{number}", b"x" * 1000) for number in range(50)]
    assert store.write_many(items) == [None] * 50
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{file}' AS other (READ_ONLY)")
        asked = "SELECT count(*), count(DISTINCT written_at) FROM other.payloads"
        assert connection.execute(asked).fetchall() == [(50, 1)]


@pytest.mark.parametrize("is_alone", [True, False])
def test_the_space_of_deleted_objects_is_used_again(
    file: Path,
    store: DuckDBFilePayloadStore,
    monkeypatch: pytest.MonkeyPatch,
    is_alone: bool,
) -> None:
    monkeypatch.setattr(native_file, "COMMITS_PER_CHECKPOINT", 4)
    if not is_alone:
        store.write_many([(f"kept/{number}", os.urandom(1000)) for number in range(3000)])
    for turn in range(40):
        items = [(f"a/{turn}/{number}", os.urandom(20_000)) for number in range(100)]
        assert store.write_many(items) == [None] * 100
        # Of each turn something stays, so that no group of rows is ever empty.
        assert store.delete_many([path for path, _ in items[:95]]) == [None] * 95
    # Of 80 MB that were written, 4 MB are live.
    assert file.stat().st_size < 40 << 20
    assert len([*store.list("a")]) == 200


def test_the_log_is_bounded(
    file: Path, store: DuckDBFilePayloadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_file, "COMMITS_PER_CHECKPOINT", 1e9)
    monkeypatch.setattr(native_file, "WAL_BYTES", 1 << 20)
    log = Path(f"{file}.wal")
    sizes = []
    for number in range(30):
        store.write(f"a/{number}", os.urandom(100_000))
        sizes.append(log.stat().st_size if log.exists() else 0)
    assert 900_000 < max(sizes) < 1 << 20
    assert sizes.count(0) >= 2
    assert len([*store.list("a")]) == 30


def test_a_quote_in_a_path_is_part_of_it(tmp_path: Path) -> None:
    store = DuckDBFilePayloadStore(tmp_path / "it's; DROP" / "p'.duckdb")
    store.write("a/'; DROP TABLE payloads; --", b"1")
    assert store.read("a/'; DROP TABLE payloads; --") == b"1"
    assert (tmp_path / "it's; DROP" / "p'.duckdb").is_file()


def test_duckdb_is_imported_at_the_first_operation(tmp_path: Path, run_python: RunPython) -> None:
    script = """
import sys
from ltm.payload.store import open_payload_store
store = open_payload_store(sys.argv[1])
list(store.list("a"))
print(sorted({"duckdb", "fsspec", "tenacity"} & set(sys.modules)))
store.write("a/one", b"1")
print(sorted({"duckdb", "fsspec", "tenacity"} & set(sys.modules)))
"""
    ended = run_python(script, str(tmp_path / "p.duckdb"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "[]\n['duckdb']\n"


def test_without_duckdb_an_error_says_what_to_install(
    tmp_path: Path, run_python: RunPython
) -> None:
    script = """
import sys
sys.modules["duckdb"] = None
from ltm.errors import MissingDependencyError
from ltm.payload.store import open_payload_store
store = open_payload_store(sys.argv[1])
try:
    store.write("a/one", b"1")
except MissingDependencyError as error:
    print(error)
"""
    ended = run_python(script, str(tmp_path / "p.duckdb"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "duckdb is not installed: pip install 'ltm[duckdb]'\n"
