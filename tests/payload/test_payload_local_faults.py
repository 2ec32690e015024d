"""A local payload store killed, out of space, without rights: an error, and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltm.errors import PayloadError
from ltm.hashing import hash_text
from ltm.keys import generate_entry_id
from ltm.payload.base import is_temporary_path, payload_path
from ltm.payload.local import LocalPayloadStore

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def files(directory: Path) -> list[str]:
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    )


KINDS = ("named", "unnamed")
"""Files that have a temporary name until they are complete, and files that have none."""

HAS_UNNAMED = hasattr(os, "O_TMPFILE")
needs_unnamed = pytest.mark.skipif(not HAS_UNNAMED, reason="here every file has a name")

KILLED_WRITER = """
import os, signal, stat, sys
if "named" in sys.argv[4:]:
    del os.O_TMPFILE
from ltm.payload.local import LocalPayloadStore

root, path, step = sys.argv[1:4]
real = getattr(os, step)

def dying(file, *others, **options):
    if isinstance(file, str):
        unnamed = getattr(os, "O_TMPFILE", None)
        is_temporary = file.endswith(".tmp") or file.startswith("/proc/self/fd/")
        is_temporary |= step == "open" and unnamed is not None and others[0] & unnamed == unnamed
    else:
        is_temporary = stat.S_ISREG(os.fstat(file).st_mode)
    if not is_temporary:
        return real(file, *others, **options)
    if step == "open":
        real(file, *others)
    if step == "write":
        real(file, others[0][: len(others[0]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, step, dying)
LocalPayloadStore(root).write(path, b"x" * (8 << 20))
"""


@pytest.mark.parametrize(
    ("kind", "step", "is_there"),
    [
        *((kind, step, False) for kind in KINDS for step in ("open", "write", "fsync", "link")),
        ("named", "unlink", True),
        pytest.param("unnamed", "close", True, marks=needs_unnamed),
    ],
)
def test_a_writer_killed_at_any_step_leaves_the_whole_object_or_none(
    tmp_path: Path, run_python: RunPython, kind: str, step: str, is_there: bool
) -> None:
    path = payload_path("p", generate_entry_id("k"), hash_text("1"), "json")
    ended = run_python(KILLED_WRITER, str(tmp_path), path, step, kind)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    store = LocalPayloadStore(tmp_path)
    left = {found.path for found in store.list("p")}
    assert (path in left) == is_there
    leftovers = left - {path}
    assert len(leftovers) == (kind == "named" or not HAS_UNNAMED)
    assert all(is_temporary_path(leftover, "p") for leftover in leftovers)
    if is_there:
        assert store.read(path) == b"x" * (8 << 20)
    else:
        store.write(path, b"again")
        assert store.read(path) == b"again"


def test_a_write_that_exceeds_the_file_size_limit_leaves_nothing(
    tmp_path: Path, run_python: RunPython
) -> None:
    script = """
import resource, sys
from ltm.errors import PayloadError
from ltm.payload.local import LocalPayloadStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = LocalPayloadStore(sys.argv[1])
store.write("a/small", b"x" * 1000)
try:
    store.write("a/large", b"x" * 1_000_000)
except PayloadError as error:
    print(error)
"""
    ended = run_python(script, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (
        f"payload store {str(tmp_path)!r}: cannot write 'a/large': {os.strerror(errno.EFBIG)}\n"
    )
    assert files(tmp_path) == ["a/small"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs rights that this process does not have")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_and_leaves_nothing(small_disk: Path) -> None:
    store = LocalPayloadStore(small_disk)
    store.write("a/small", b"x" * 1000)
    with pytest.raises(PayloadError, match=os.strerror(errno.ENOSPC)) as caught:
        store.write("a/large", b"x" * (2 << 20))
    assert isinstance(caught.value.__cause__, OSError)
    assert files(small_disk) == ["a/small"]
    store.write("a/next", b"x" * 1000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["write", "fsync", "link", "close"])
def test_a_system_call_that_fails_leaves_nothing(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    kind: str,
) -> None:
    if kind == "named":
        request.getfixturevalue("named_files_only")
    store = LocalPayloadStore(tmp_path)
    store.write("a/one", b"1")
    real = getattr(os, step)

    def failing(*arguments, **options):
        if step == "close":
            real(*arguments)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, step, failing)
    with pytest.raises(PayloadError, match=os.strerror(errno.EIO)):
        store.write("a/two", b"2")
    monkeypatch.undo()
    assert files(tmp_path) == ["a/one"]


def test_an_object_whose_directory_cannot_be_synced_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalPayloadStore(tmp_path)
    store.write("a/one", b"1")
    real = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(PayloadError, match=os.strerror(errno.EIO)):
        store.write("a/two", b"2")
    assert files(tmp_path) == ["a/one"]


def test_in_a_batch_only_objects_below_a_directory_that_cannot_be_synced_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalPayloadStore(tmp_path)
    store.write_many([("a/one", b"1"), ("b/one", b"1")])
    real = os.fsync

    def failing(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/b"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    items = [("a/two", b"2"), ("b/two", b"2"), ("b/c/two", b"2"), ("bc/two", b"2")]
    outcomes = store.write_many(items)
    assert [error is None for error in outcomes] == [True, False, False, True]
    assert str(outcomes[1]).endswith(f"cannot write 'b/two': {os.strerror(errno.EIO)}")
    assert files(tmp_path) == ["a/one", "a/two", "b/one", "bc/two"]
    monkeypatch.undo()
    assert store.write_many(items[1:3]) == [None, None]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, content[:1000]))
    store = LocalPayloadStore(tmp_path)
    content = os.urandom(12_345)
    store.write("a/one", content)
    assert store.read("a/one") == content


def test_a_file_where_a_directory_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PayloadError, match=r"file.*cannot write 'a/one'"):
        LocalPayloadStore(tmp_path / "file").write("a/one", b"")
    with pytest.raises(PayloadError, match=os.strerror(errno.ENOTDIR)):
        LocalPayloadStore(tmp_path).write("file/a/one", b"")
    with pytest.raises(PayloadError, match=os.strerror(errno.ENOTDIR)):
        LocalPayloadStore(tmp_path).delete("file/one")
    with pytest.raises(PayloadError, match=os.strerror(errno.ENOTDIR)):
        next(LocalPayloadStore(tmp_path / "file").list("a"))
    assert files(tmp_path) == ["file"]


def test_a_directory_that_may_not_be_written_is_an_error(run_python: RunPython) -> None:
    script = """
import os, sys, threading  # all of it now: others may have no way into Python's own directory
from ltm.errors import PayloadError
from ltm.payload.local import LocalPayloadStore
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
store = LocalPayloadStore(sys.argv[1])
for path in ("one", "a/one"):
    try:
        store.write(path, b"")
    except PayloadError as error:
        print(error)
"""
    # Not tmp_path: another user has no way into it.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o555)
        ended = run_python(script, directory)
        assert os.listdir(directory) == []
        os.chmod(directory, 0o755)
    assert ended.returncode == 0, ended.stderr
    denied = os.strerror(errno.EACCES)
    assert ended.stdout.splitlines() == [
        f"payload store {directory!r}: cannot write {path!r}: {denied}" for path in ("one", "a/one")
    ]
