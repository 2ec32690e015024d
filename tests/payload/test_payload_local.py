"""What only a local directory can prove: what is synced when, links, roots, what is imported."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltm.errors import PayloadError, ValidationError
from ltm.payload.directories import FAN_OUT, MANY
from ltm.payload.local import LocalPayloadStore
from ltm.payload.store import open_payload_store

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def files(directory: Path) -> list[str]:
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    )


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fsyncs and the publication, as they really happen."""
    taken: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        taken.append(f"fsync directory {name}" if is_directory else "fsync file")
        real_fsync(descriptor)

    def link(source: str, target: str, **options: Any) -> None:
        taken.append(f"publish {os.path.basename(target)}")
        real_link(source, target, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    return taken


needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="only /proc tells which directory is synced"
)


@needs_proc
def test_file_and_every_new_name_are_synced_before_a_write_returns(
    tmp_path: Path, steps: list[str]
) -> None:
    LocalPayloadStore(tmp_path / "new" / "root").write("a/b/one", b"1")
    above = ("a", "root", "new", tmp_path.name)
    assert steps[:2] == ["fsync file", "publish one"]
    assert sorted(steps[2:]) == sorted(f"fsync directory {name}" for name in ("b", *above))


@needs_proc
def test_a_directory_that_another_process_made_is_synced_too(
    tmp_path: Path, steps: list[str]
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    LocalPayloadStore(tmp_path).write("a/b/one", b"1")
    assert {"fsync directory a", f"fsync directory {tmp_path.name}"} < set(steps)


@needs_proc
def test_a_write_into_a_known_directory_costs_two_fsyncs(tmp_path: Path, steps: list[str]) -> None:
    store = LocalPayloadStore(tmp_path)
    store.write("a/one", b"1")
    steps.clear()
    store.write("a/two", b"2")
    assert steps == ["fsync file", "publish two", "fsync directory a"]


@needs_proc
def test_a_new_directory_beside_a_known_one_costs_three_fsyncs(
    tmp_path: Path, steps: list[str]
) -> None:
    store = LocalPayloadStore(tmp_path)
    store.write("a/b/one", b"1")
    steps.clear()
    store.write("a/c/two", b"2")
    assert steps[:2] == ["fsync file", "publish two"]
    assert sorted(steps[2:]) == ["fsync directory a", "fsync directory c"]


@needs_proc
def test_directories_that_were_there_when_theirs_was_synced_are_known_to_be_durable(
    tmp_path: Path, steps: list[str]
) -> None:
    LocalPayloadStore(tmp_path).write_many([(f"a/{name}/one", b"1") for name in "bcd"])
    store = LocalPayloadStore(tmp_path)  # as another process has it
    store.write("a/b/two", b"2")
    for name in "cd":
        steps.clear()
        store.write(f"a/{name}/two", b"2")
        assert steps == ["fsync file", "publish two", f"fsync directory {name}"]


@needs_proc
def test_when_many_of_the_directories_of_ids_are_there_all_are_made_and_synced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    store, place = LocalPayloadStore(tmp_path), tmp_path / "table"
    names = sorted(FAN_OUT)
    for name in names[: MANY - 1]:
        store.write(f"table/{name}/one", b"1")
    assert len(os.listdir(place)) == MANY - 1
    synced: list[set[str]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(place):
            synced.append({*os.listdir(place)})
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    store.write(f"table/{names[MANY]}/one", b"1")
    assert synced == [FAN_OUT]
    for name in names[MANY:]:
        steps.clear()
        store.write(f"table/{name}/two", b"2")
        assert steps == ["fsync file", "publish two", f"fsync directory {name}"]
    assert len(synced) == 1


def test_where_no_more_directories_can_be_made_a_write_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir
    allowed = MANY + 2  # the root's, and one for each write

    def make(path: str, *mode: int) -> None:
        nonlocal allowed
        allowed -= 1
        if allowed < 0:
            raise OSError(errno.EMLINK, "Too many links")
        mkdir(path, *mode)

    monkeypatch.setattr(os, "mkdir", make)
    store = LocalPayloadStore(tmp_path)
    paths = [f"table/{name}/one" for name in sorted(FAN_OUT)[:MANY]]
    for path in paths:
        store.write(path, b"1")
    assert [store.read(path) for path in paths] == [b"1"] * MANY
    assert sorted(each.path for each in store.list("table")) == paths


@needs_proc
def test_a_batch_syncs_each_directory_once_after_its_last_new_name(
    tmp_path: Path, steps: list[str]
) -> None:
    paths = [f"a/{number % 3}/{number}" for number in range(30)]
    store = LocalPayloadStore(tmp_path)
    assert store.write_many([(path, b"1") for path in paths]) == [None] * 30
    assert steps[:60].count("fsync file") == 30
    assert {f"publish {number}" for number in range(30)} < set(steps[:60])
    names = [tmp_path.name, "a", "0", "1", "2"]
    assert sorted(steps[60:]) == sorted(f"fsync directory {name}" for name in names)
    steps.clear()
    store.write_many([(f"{path}.again", b"1") for path in paths])
    assert sorted(steps[60:]) == [f"fsync directory {name}" for name in "012"]


@needs_proc
def test_the_content_of_each_object_of_a_batch_is_synced_before_its_name_is_given(
    tmp_path: Path, steps: list[str]
) -> None:
    LocalPayloadStore(tmp_path, max_workers=1).write_many([(f"a/{n}", b"1") for n in range(3)])
    assert steps[:6] == [step for n in range(3) for step in ("fsync file", f"publish {n}")]


def test_a_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    store = LocalPayloadStore(tmp_path / "root")
    store.write("a/b/one", b"1")
    shutil.rmtree(tmp_path / "root")
    store.write("a/b/two", b"2")
    assert files(tmp_path) == ["root/a/b/two"]
    shutil.rmtree(tmp_path / "root")
    assert store.write_many([("a/b/one", b"1"), ("a/c/one", b"1")]) == [None, None]
    assert files(tmp_path) == ["root/a/b/one", "root/a/c/one"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_keeps_objects_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(source: str, target: str, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    store = LocalPayloadStore(tmp_path)
    store.write("a/one", b"old")
    with pytest.raises(PayloadError, match=os.strerror(errno.EEXIST)):
        store.write("a/one", b"new")
    assert store.read("a/one") == b"old"
    assert files(tmp_path) == ["a/one"]


def test_a_directory_is_not_an_object(tmp_path: Path) -> None:
    store = LocalPayloadStore(tmp_path)
    store.write("a/b/one", b"1")
    for attempt in (
        lambda: store.read("a/b"),
        lambda: store.delete("a/b"),
        lambda: store.write("a/b", b""),
    ):
        with pytest.raises(PayloadError):
            attempt()
    assert files(tmp_path) == ["a/b/one"]


def test_a_listing_follows_no_symbolic_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"")
    store = LocalPayloadStore(tmp_path / "root")
    store.write("a/one", b"1")
    (tmp_path / "root" / "a" / "directory").symlink_to(outside)
    (tmp_path / "root" / "a" / "file").symlink_to(outside / "secret")
    (tmp_path / "root" / "link").symlink_to(outside)
    assert [found.path for found in store.list("a")] == ["a/one"]
    assert [*store.list("link")] == []
    assert [*store.list("a/directory")] == []


def test_a_listing_shows_files_with_odd_names(tmp_path: Path) -> None:
    store = LocalPayloadStore(tmp_path)
    store.write("a/one", b"1")
    (tmp_path / "a" / "b\\c").mkdir()
    (tmp_path / "a" / "b\\c" / "d").write_bytes(b"")
    assert sorted(found.path for found in store.list("a")) == ["a/b\\c/d", "a/one"]


def test_a_listing_survives_what_is_deleted_meanwhile(tmp_path: Path) -> None:
    store = LocalPayloadStore(tmp_path)
    for number in range(20):
        store.write(f"a/{number % 4}/{number}", b"")
    for found in store.list("a"):
        shutil.rmtree(tmp_path / os.path.dirname(found.path), ignore_errors=True)
    assert [*store.list("a")] == []


def test_an_object_deleted_meanwhile_hides_no_other(tmp_path: Path) -> None:
    store = LocalPayloadStore(tmp_path)
    for number in range(10):
        store.write(f"a/{number}", b"")
    in_order = [found.path for found in store.list("a")]
    listing = store.list("a")
    assert next(listing).path == in_order[0]
    store.delete(in_order[1])
    assert [found.path for found in listing] == in_order[2:]


def test_making_a_store_touches_nothing(tmp_path: Path) -> None:
    open_payload_store(tmp_path / "new").close()
    assert os.listdir(tmp_path) == []


def test_the_root_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    roots = {
        "memory": f"{tmp_path}/memory",
        "memory/../other/": f"{tmp_path}/other",
        "~/memory": "/home/somebody/memory",
        "/": "/",
        "file:///var/memory/": "file:///var/memory",
        "file://~/memory": "file:///home/somebody/memory",
        "file://memory": f"file://{tmp_path}/memory",
        "FILE:///": "file:///",
        "local:///var": "file:///var",
    }
    assert {uri: open_payload_store(uri).root for uri in roots} == roots
    assert open_payload_store("/").uri("a/b") == "/a/b"
    assert open_payload_store("file:///").uri("a/b") == "file:///a/b"


def test_the_address_under_a_plain_path_can_be_opened(tmp_path: Path) -> None:
    store = LocalPayloadStore(tmp_path)
    store.write("a/one", b"1")
    assert Path(store.uri("a/one")).read_bytes() == b"1"


@pytest.mark.parametrize("uri", ["", "file://", "memory://x", "a\0b"])
def test_what_is_no_local_path_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="payload store URI"):
        LocalPayloadStore(uri)


def test_a_local_store_imports_nothing_heavy(tmp_path: Path, run_python: RunPython) -> None:
    script = """
import sys
heavy = {"fsspec", "tenacity", "concurrent.futures", "tempfile", "pathlib", "sqlalchemy"}
heavy -= set(sys.modules)  # what the interpreter itself imports at its start
from ltm.payload.formats import get_codec
from ltm.payload.store import open_payload_store
store = open_payload_store(sys.argv[1])
store.write("a/one", b"1")
assert store.read("a/one") == b"1"
assert [found.path for found in store.list("a")] == ["a/one"]
store.delete("a/one")
assert store.write_many([("a/two", b"2")]) == [None]
print(sorted(heavy & set(sys.modules)))
assert store.read_many(["a/two", "a/two"]) == [b"2", b"2"]
store.close()
print(sorted({"fsspec", "tenacity"} & set(sys.modules)))
"""
    ended = run_python(script, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "[]\n[]\n"
