"""What test servers have in common: a directory, a port, a user, and an end.

A directory under /tmp belongs to one server and stays locked for as long as the process that made
it lives. Whoever makes the next one removes those whose owner died, with the servers that work in
them, so a killed test run leaves nothing for ever.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"

PATIENCE = 60.0
"""Seconds after which a server that neither starts nor ends is given up."""

_PARENT = Path("/tmp").resolve()  # short: the path of a socket has at most 107 bytes
_PREFIX = "ltm-test-"
_PID_FILES = {
    # PostgreSQL takes it as the order to shut down at once and to free its memory.
    "data/postmaster.pid": signal.SIGQUIT,
    "pgbouncer.pid": signal.SIGQUIT,
    # Java takes the other as a question, and lives on.
    "firestore.pid": signal.SIGKILL,
    # What they hold is in memory, and nobody's any more.
    "s3.pid": signal.SIGKILL,
    "gcs.pid": signal.SIGKILL,
    "azure.pid": signal.SIGKILL,
}
"""The files that hold a server's id, and the signal that ends it."""


class ServiceUnavailableError(RuntimeError):
    """A service can't be had here; the message says why."""


class ServiceDirectory:
    """A directory that the server's user owns; making one removes those of dead owners."""

    def __init__(self, service: str) -> None:
        _sweep()
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{service}-", dir=_PARENT))
        give_to_server(self.path)
        # Locked before it has its name, so that no sweep finds it free. The pid is for people.
        self._lock = (self.path / "owner.new").open("w", encoding="ascii")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        print(os.getpid(), file=self._lock, flush=True)
        (self.path / "owner.new").rename(self.path / "owner")

    def write(self, name: str, text: str) -> Path:
        """Write a file that the server's user owns, and return its path."""
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        give_to_server(path)
        return path

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def server_user() -> dict[str, Any]:
    """Return the arguments of ``Popen`` for the server's user: nobody where we are root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give_to_server(path: Path) -> None:
    """Make the server's user the owner of *path*."""
    if user := server_user():
        os.chown(path, user["user"], user["group"], follow_symlinks=False)


def start_server(
    command: Sequence[str | Path], directory: Path, *, as_ourselves: bool = False
) -> subprocess.Popen[bytes]:
    """Start *command*; what it says goes to ``log`` in *directory*.

    It runs as the server's user, or with *as_ourselves* as the user of this process: an interpreter
    or a package in a private place can be run by nobody else.
    """
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            list(command),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt from the keyboard is for the tests alone
            **({} if as_ourselves else server_user()),
        )


def wait_until_ready(
    process: subprocess.Popen[bytes], directory: Path, is_ready: Callable[[], bool]
) -> None:
    """Return when *is_ready* says so; end *process* and raise with its log if it never does.

    Raises:
        ServiceUnavailableError: The process ended, or was not ready within ``PATIENCE``.
    """
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None:
        if is_ready():
            return
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
        time.sleep(0.005)
    log = (directory / "log").read_text(encoding="utf-8", errors="replace")
    raise ServiceUnavailableError(f"{process.args!r} didn't start: {log[-4000:]}")


def free_port() -> int:
    """Return a port that nobody listens on.

    It lies below the ports that the kernel gives to clients. A port among those could be taken
    while a server is down, and a client that knocks there may even be connected to itself.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


def processes_in(directory: Path) -> Iterator[int]:
    """Yield the ids of the processes whose working directory is *directory*."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _works_in(int(entry), directory):
            yield int(entry)


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(directory)
    except OSError:  # it ended, or is somebody else's
        return False


def _sweep() -> None:
    """Remove directories whose owner died, and end the servers that still work there."""
    for owner in _PARENT.glob(f"{_PREFIX}*/owner"):
        try:
            lock = owner.open(encoding="ascii")
        except OSError:  # removed meanwhile, or another user's
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for name, order in _PID_FILES.items():
                _end_recorded(owner.parent / name, order)
            shutil.rmtree(owner.parent, ignore_errors=True)


def _end_recorded(pid_file: Path, order: signal.Signals) -> None:
    """End the server whose id *pid_file* holds by *order*, if it works in that file's directory."""
    try:
        pid = int(pid_file.read_text(encoding="utf-8").split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return
    deadline = time.monotonic() + PATIENCE
    # A dead server's id may have been given to a stranger, who doesn't work there.
    while _works_in(pid, pid_file.parent):
        with suppress(ProcessLookupError):
            os.kill(pid, order if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(0.02)
