"""What a store on fsspec does when its file system fails, and what it never says."""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from payload_unreliable import SECRET, Unreliable, UnreliableFileSystem

from ltm.errors import PayloadError, PayloadNotFoundError, ValidationError
from ltm.payload.remote import FsspecPayloadStore
from ltm.payload.store import open_payload_store

TRANSIENT = [
    ConnectionResetError("reset"),
    TimeoutError("late"),
    OSError(errno.EIO, "server error"),
    OSError("SlowDown"),
]
LASTING = [
    PermissionError("no"),
    IsADirectoryError("no"),
    NotADirectoryError("no"),
    OSError(errno.ENOSPC, "full"),
    ValueError("no"),
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=repr)
def test_what_may_pass_is_tried_again(unreliable: Unreliable, fault: Exception) -> None:
    store = unreliable.store
    unreliable.faults[:] = [fault] * 3
    store.write("a/one", b"1")
    unreliable.faults[:] = [fault] * 3
    assert store.read("a/one") == b"1"
    unreliable.faults[:] = [fault] * 3
    assert [found.path for found in store.list("a")] == ["a/one"]
    unreliable.faults[:] = [fault] * 3
    store.delete("a/one")
    assert len(unreliable.pauses) == 12
    assert unreliable.calls == ["pipe_file"] * 4 + ["cat_file"] * 4 + ["ls"] * 4 + ["rm_file"] * 4


def test_what_does_not_pass_is_given_up_after_four_attempts(unreliable: Unreliable) -> None:
    unreliable.faults[:] = [ConnectionResetError("reset")] * 9
    with pytest.raises(PayloadError, match="reset") as caught:
        unreliable.store.write("a/one", b"1")
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert unreliable.calls == ["pipe_file"] * 4
    assert len(unreliable.pauses) == 3
    assert all(0 <= pause <= 2 * 0.5 * 2**number for number, pause in enumerate(unreliable.pauses))


@pytest.mark.parametrize("fault", LASTING, ids=repr)
def test_what_stays_is_not_tried_again(unreliable: Unreliable, fault: Exception) -> None:
    for attempt in (
        lambda: unreliable.store.write("a/one", b"1"),
        lambda: unreliable.store.read("a/one"),
        lambda: unreliable.store.delete("a/one"),
        lambda: [*unreliable.store.list("a")],
    ):
        unreliable.calls.clear()
        unreliable.faults[:] = [fault]
        with pytest.raises(PayloadError) as caught:
            attempt()
        assert caught.value.__cause__ is fault
        assert not isinstance(caught.value, PayloadNotFoundError)
        assert len(unreliable.calls) == 1
    assert unreliable.pauses == []


def test_a_verb_that_works_is_one_request(unreliable: Unreliable) -> None:
    store = unreliable.store
    store.write("a/one", b"1")
    store.read("a/one")
    store.delete("a/one")
    store.delete("a/one")
    assert unreliable.calls == ["pipe_file", "cat_file", "rm_file", "rm_file"]


def test_a_write_whose_answer_was_lost_is_done(unreliable: Unreliable) -> None:
    unreliable.lost_answers[:] = [ConnectionResetError("reset")]
    unreliable.store.write("a/one", b"1")
    assert unreliable.store.read("a/one") == b"1"
    assert len(unreliable.pauses) == 1


def test_a_retried_write_does_not_take_the_object_of_another_for_its_own(
    unreliable: Unreliable,
) -> None:
    unreliable.store.write("a/one", b"other")
    unreliable.faults[:] = [ConnectionResetError("reset")]
    with pytest.raises(PayloadError, match="the name is taken"):
        unreliable.store.write("a/one", b"mine")
    assert unreliable.store.read("a/one") == b"other"


def test_a_write_of_a_mapped_file_whose_answer_was_lost_is_done(unreliable: Unreliable) -> None:
    with mmap.mmap(-1, 7) as mapped:
        mapped.write(b"content")
        unreliable.lost_answers[:] = [ConnectionResetError("reset")]
        unreliable.store.write("a/one", cast(bytes, mapped))
    assert unreliable.store.read("a/one") == b"content"


def test_a_delete_whose_answer_was_lost_is_done(unreliable: Unreliable) -> None:
    unreliable.store.write("a/one", b"1")
    unreliable.lost_answers[:] = [ConnectionResetError("reset")]
    unreliable.store.delete("a/one")
    with pytest.raises(PayloadNotFoundError):
        unreliable.store.read("a/one")


def test_a_bucket_that_is_missing_is_not_a_missing_payload(unreliable: Unreliable) -> None:
    unreliable.faults[:] = [FileNotFoundError("no such bucket")]
    with pytest.raises(PayloadError, match="no such bucket") as caught:
        unreliable.store.write("a/one", b"1")
    assert not isinstance(caught.value, PayloadNotFoundError)


def test_no_message_holds_a_secret(unreliable: Unreliable) -> None:
    store = unreliable.store
    unreliable.faults[:] = [
        PermissionError(f"403 for unreliable://user:hunter2@root with {SECRET}, {SECRET}-2")
    ]
    with pytest.raises(PayloadError, match="403") as caught:
        store.read("a/one")
    for text in (str(caught.value), repr(caught.value), repr(store)):
        assert "hunter2" not in text
        assert SECRET not in text
    store.close()
    with pytest.raises(Exception, match="closed") as closed:
        store.read("a/one")
    assert "hunter2" not in str(closed.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_each_process_has_one_connection_of_its_own(unreliable: Unreliable) -> None:
    unreliable.store.write("a/one", b"1")
    unreliable.store.read("a/one")
    assert UnreliableFileSystem.processes == [os.getpid()]
    child = os.fork()
    if child == 0:
        try:
            unreliable.store.read("a/one")
        finally:
            os._exit(len(set(UnreliableFileSystem.processes)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def test_all_memory_stores_of_a_process_with_one_address_are_one() -> None:
    open_payload_store("memory://shared").write("a/one", b"1")
    other = open_payload_store("memory://shared/")
    assert other.read("a/one") == b"1"
    other.delete("a/one")


def test_only_one_thread_creates_an_object_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    look = MemoryFileSystem.exists

    def look_and_let_others_run(self, path, **options):
        is_there = look(self, path, **options)
        for _ in range(100):
            time.sleep(0)  # gives up the interpreter lock
        return is_there

    monkeypatch.setattr(MemoryFileSystem, "exists", look_and_let_others_run)
    stores = [open_payload_store("memory://race") for _ in range(4)]
    start = threading.Barrier(4)

    def write(store) -> bool:
        start.wait()
        return store.write_many([("a/one", b"1")]) == [None]

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(write, stores)) == [False, False, False, True]
    stores[0].delete("a/one")


def test_a_root_may_be_the_protocol_alone() -> None:
    store = FsspecPayloadStore("memory://", storage_options={"global_store": False})
    store.write("a/one", b"1")
    assert store.uri("a/one") == "memory://a/one"
    assert [found.path for found in store.list("a")] == ["a/one"]


def test_an_option_that_the_driver_does_not_take_is_an_error_of_the_store() -> None:
    class Strict(MemoryFileSystem):
        def __init__(self, *, skip_instance_cache: bool = True) -> None:
            super().__init__()

    fsspec.register_implementation("strict", Strict, clobber=True)
    store = open_payload_store("strict://x", storage_options={"nonsense": SECRET})
    with pytest.raises(PayloadError, match="nonsense") as caught:
        store.read("a/one")
    assert SECRET not in str(caught.value)


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(ValidationError, match="'nosuch'"):
        open_payload_store("nosuch://bucket")


@pytest.mark.parametrize("uri", ["/var/memory", "file:///var/memory"])
def test_a_local_path_is_not_for_fsspec(uri: str) -> None:
    with pytest.raises(ValidationError, match="is local"):
        FsspecPayloadStore(uri)


def test_a_driver_that_is_not_installed_names_its_extra(run_python) -> None:
    script = """
import sys
for package in ("s3fs", "gcsfs", "adlfs", "paramiko"):
    sys.modules[package] = None  # an import of it fails, installed or not
from ltm.errors import MissingDependencyError, ValidationError
from ltm.payload.store import open_payload_store
for uri in ("s3://b", "s3a://b", "gs://b", "gcs://b", "az://c", "abfs://c", "abfss://c"):
    store = open_payload_store(uri)
    assert "fsspec" not in sys.modules or uri != "s3://b"
    try:
        store.read("a/one")
    except MissingDependencyError as error:
        print(uri, error.extra)
try:
    open_payload_store("sftp://user:hunter2@host/x").read("a/one")
except ValidationError as error:
    assert "'sftp'" in str(error) and "hunter2" not in str(error)
    print("sftp")
"""
    ended = run_python(script)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n")[:-1] == [
        "s3://b s3",
        "s3a://b s3",
        "gs://b gcs",
        "gcs://b gcs",
        "az://c azure",
        "abfs://c azure",
        "abfss://c azure",
        "sftp",
    ]
