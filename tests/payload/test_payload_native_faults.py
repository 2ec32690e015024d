"""A DuckDB file whose writers are killed, without space, without rights, damaged: what is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from native_workers import content_of

from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.payload import native_file
from ltm.payload.native import DuckDBFilePayloadStore

WORKERS = Path(__file__).with_name("native_workers.py")

ROUNDS = 12

RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "payloads.duckdb"


def command(work: str, file: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", str(WORKERS), work, str(file), *map(str, arguments)]


def run(work: str, file: Path, *arguments: object) -> list[str]:
    """Return the lines that *work* prints in a process of its own."""
    ended = subprocess.run(
        command(work, file, *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace shows what DuckDB asks of the system"
)


def traced(options: list[str], script: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Run *script* under strace, or skip where nobody may trace."""
    ended = subprocess.run(
        ["strace", "-f", *options, sys.executable, "-c", script, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "PTRACE" in ended.stderr:
        pytest.skip("strace may not trace here")
    return ended


def kill_after(file: Path, mark: str, checkpoints: float, lines: int) -> list[str]:
    """Kill two writers when one has said so many *lines*; return all whole lines of both."""
    writers = [
        subprocess.Popen(
            command("write_for_ever", file, f"{mark}{number}", checkpoints),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    seen: list[str] = []
    try:
        stream = writers[0].stdout
        assert stream is not None
        seen += [stream.readline() for _ in range(lines)]
    finally:
        for writer in writers:
            writer.kill()
        for writer in writers:
            with writer:
                assert writer.stdout is not None
                # Not by communicate(), which knows nothing of what was read ahead.
                seen += writer.stdout.readlines()
            assert writer.returncode == -signal.SIGKILL
    return [line for line in seen if line.endswith("\n")]


@pytest.mark.parametrize("checkpoints", [1, 1_000_000])
def test_what_was_acknowledged_survives_writers_that_are_killed(
    file: Path, checkpoints: int
) -> None:
    written: set[str] = set()
    deleting: set[str] = set()
    deleted: set[str] = set()
    store = DuckDBFilePayloadStore(file)
    for turn in range(ROUNDS):
        for line in kill_after(file, str(turn), checkpoints, 1 + turn % 5):
            word, *paths = line.split()
            {"written": written, "deleting": deleting, "deleted": deleted}[word].update(paths)
        kept = sorted(written - deleting)
        assert store.read_many(kept) == [content_of(path) for path in kept]
        gone = store.read_many(sorted(deleted))
        assert all(isinstance(content, PayloadNotFoundError) for content in gone)
        for found in store.list("a"):
            assert store.read(found.path) == content_of(found.path)
    assert len(written) > ROUNDS
    store.write("b/one", b"1")


def test_a_maker_of_the_file_killed_at_any_step_leaves_none_or_a_whole_one(
    tmp_path: Path, run_python: RunPython
) -> None:
    script = """
import os, signal, sys
from ltm.payload.native import DuckDBFilePayloadStore

file, step, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
real = getattr(os, step)

def dying(*arguments, **options):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)

setattr(os, step, dying)
DuckDBFilePayloadStore(file).write("a/one", b"1")
"""
    file = tmp_path / "new" / "payloads.duckdb"
    for step, count in (("fsync", 0), ("fsync", 1), ("rename", 0), ("fsync", 2), ("fsync", 3)):
        shutil.rmtree(file.parent, ignore_errors=True)
        ended = run_python(script, str(file), step, str(count))
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        store = DuckDBFilePayloadStore(file)
        assert [found.path for found in store.list("a")] in ([], ["a/one"])
        store.write("a/two", b"2")
        assert store.read("a/two") == b"2"
        assert not Path(f"{file}.new").exists()


@needs_strace
@pytest.mark.parametrize("when", [1, 2, 3, 4, 5])
def test_a_maker_killed_inside_of_duckdb_leaves_none_or_a_whole_one(file: Path, when: int) -> None:
    script = """
import sys
from ltm.payload.native import DuckDBFilePayloadStore
DuckDBFilePayloadStore(sys.argv[1]).write("a/one", b"1")
"""
    killing = ["-e", "trace=pwrite64", "-e", f"inject=pwrite64:signal=KILL:when={when}"]
    traced(killing, script, file)
    store = DuckDBFilePayloadStore(file)
    assert [found.path for found in store.list("a")] in ([], ["a/one"])
    store.write("a/two", b"2")
    assert store.read("a/two") == b"2"


def test_half_of_a_file_that_a_killed_maker_left_is_made_anew(file: Path) -> None:
    Path(f"{file}.new").write_bytes(b"half")
    Path(f"{file}.new.wal").write_bytes(b"half")
    store = DuckDBFilePayloadStore(file)
    store.write("a/one", b"1")
    assert store.read("a/one") == b"1"


def test_the_log_of_a_file_that_is_gone_is_not_applied_to_a_new_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_file, "COMMITS_PER_CHECKPOINT", 1e9)
    store = DuckDBFilePayloadStore(file)
    store.write("a/one", b"1")
    log = Path(f"{file}.wal")
    kept = log.read_bytes()
    file.unlink()
    log.write_bytes(kept)
    store.write("a/two", b"2")
    assert [found.path for found in store.list("a")] == ["a/two"]


def damage_head(file: Path) -> None:
    with open(file, "r+b") as stream:
        stream.write(b"\xff" * 12_288)


def cut(file: Path) -> None:
    os.truncate(file, 5000)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def text(file: Path) -> None:
    file.write_text("no database\n" * 2000)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def foreign(file: Path) -> None:
    file.unlink()
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE TABLE other AS SELECT 1 AS number")


@pytest.mark.parametrize("damage", [damage_head, cut, empty, text, directory, foreign])
def test_a_file_that_is_none_of_ours_is_an_error_and_not_an_absence(
    file: Path, damage: Callable[[Path], None]
) -> None:
    store = DuckDBFilePayloadStore(file, timeout=5)
    store.write("a/one", b"1" * 10_000)
    with duckdb.connect(str(file)) as connection:
        connection.execute("CHECKPOINT")
    damage(file)
    before = None if file.is_dir() else file.read_bytes()
    for action, attempt in (
        ("read", lambda: store.read("a/one")),
        ("write", lambda: store.write("a/two", b"")),
        ("delete", lambda: store.delete("a/one")),
        ("list", lambda: [*store.list("a")]),
    ):
        with pytest.raises(PayloadError, match=rf"payloads\.duckdb'.*cannot {action} '") as caught:
            attempt()
        assert not isinstance(caught.value, PayloadNotFoundError)
        assert caught.value.__cause__ is not None
    for contents in (store.read_many(["a/one", "a/two"]), store.delete_many(["a/one", "a/two"])):
        assert [type(content) for content in contents] == [PayloadError] * 2
    if damage is not empty:
        assert (None if file.is_dir() else file.read_bytes()) == before


def test_a_file_where_its_directory_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = DuckDBFilePayloadStore(tmp_path / "file" / "payloads.duckdb")
    for attempt in (lambda: store.read("a/one"), lambda: store.write("a/one", b"")):
        with pytest.raises(PayloadError) as caught:
            attempt()
        assert not isinstance(caught.value, PayloadNotFoundError)


def test_what_exceeds_the_file_size_limit_is_an_error_and_leaves_nothing(file: Path) -> None:
    DuckDBFilePayloadStore(file).write("a/before", b"1")
    lines = run("limited", file, 1000, 20_000_000, 1000)
    assert (lines[0], lines[-1]) == ("written", "written")
    assert len(lines) == 3
    assert lines[1].startswith(f"payload store {str(file)!r}: cannot write 'a/1': ")
    found = sorted(found.path for found in DuckDBFilePayloadStore(file).list("a"))
    assert found == ["a/0", "a/2", "a/before"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs rights that this process does not have")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_and_what_was_acknowledged_stays(small_disk: Path) -> None:
    store = DuckDBFilePayloadStore(small_disk / "payloads.duckdb")
    kept: list[str] = []
    errors: list[PayloadError] = []
    for number in range(60):
        path = f"a/{number}0"
        try:
            store.write(path, content_of(path) * 10)
        except PayloadError as error:
            errors.append(error)
        else:
            kept.append(path)
    assert kept
    assert errors
    assert all("No space left" in str(error) for error in errors)
    outcomes = store.write_many([(f"b/{number}", os.urandom(1 << 20)) for number in range(8)])
    assert [type(outcome) for outcome in outcomes] == [PayloadError] * 8
    assert [*store.list("b")] == []
    assert store.read_many(kept) == [content_of(path) * 10 for path in kept]
    assert sorted(found.path for found in store.list("a")) == sorted(kept)


@pytest.mark.parametrize(("mode", "lock_mode"), [(0o555, 0o400), (0o777, 0o400), (0o777, 0o666)])
def test_missing_rights_are_an_error_and_not_an_absence(mode: int, lock_mode: int) -> None:
    # Not tmp_path: another user has no way into it.
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "payloads.duckdb")
        DuckDBFilePayloadStore(file).write("a/one", b"1")
        for path in Path(directory).iterdir():
            path.chmod(0o400 if path.suffix in (".duckdb", ".wal") else lock_mode)
        os.chmod(directory, mode)
        lines = run("unprivileged", file)
        os.chmod(directory, 0o755)
        assert [line.split(": ")[1].split()[1] for line in lines] == [
            "read",
            "write",
            "delete",
            "list",
        ]
        assert all("ermission denied" in line for line in lines)
        assert DuckDBFilePayloadStore(file).read("a/one") == b"1"


@needs_strace
def test_the_log_and_every_new_name_are_synced_before_a_write_returns(tmp_path: Path) -> None:
    script = """
import os, sys
from ltm.payload import native_file
from ltm.payload.native import DuckDBFilePayloadStore
native_file.COMMITS_PER_CHECKPOINT = 1e9
store = DuckDBFilePayloadStore(sys.argv[1])
for number in range(3):
    store.write(f"a/{number}", b"1")
    os.write(1, b"acknowledged")
"""
    file, trace = tmp_path / "new" / "payloads.duckdb", tmp_path / "trace"
    tracing = ["-y", "-e", "trace=fsync,fdatasync,rename,write", "-o", str(trace)]
    ended = traced(tracing, script, file)
    assert ended.returncode == 0, ended.stderr
    first, second, third, _ = trace.read_text().split("acknowledged")

    def synced(calls: str) -> list[str]:
        return [
            line.partition("<")[2].partition(">")[0].removeprefix(str(tmp_path))
            for line in calls.splitlines()
            if "sync(" in line
        ]

    directory, log = "/new", "/new/payloads.duckdb.wal"
    made, _, logged = first.partition("rename(")
    assert synced(made)[0] == ""
    assert synced(made)[-1] == "/new/payloads.duckdb.new"
    assert synced(logged) == [directory, log, directory]
    assert synced(second) == synced(third) == [log]
