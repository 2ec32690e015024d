"""PgBouncer before a PostgreSQL server, as hosted databases put a pooler before theirs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from typing import Self

from tests.services.postgres import PASSWORDS, PostgresServer, database_url
from tests.services.processes import (
    HOST,
    ServiceDirectory,
    ServiceUnavailableError,
    free_port,
    start_server,
    wait_until_ready,
)


class PgBouncer:
    """Lends server connections, by default for a transaction, and knows no prepared statements.

    It trusts its clients, and lets in the roles ``postgres`` and those of ``PASSWORDS``.

    Args:
        server: Any database of it can be reached, under its own name.
        default_pool_size: At most this many server connections per database and role.
        pool_mode: ``transaction``, or ``session``.
        query_wait_timeout: Seconds until a client that got no server connection is cut off, be they
            all in use or the server down.
    """

    def __init__(
        self,
        server: PostgresServer,
        *,
        default_pool_size: int = 3,
        pool_mode: str = "transaction",
        query_wait_timeout: int = 15,
    ) -> None:
        self.host = HOST
        self.port = 0
        self._server = server
        self._default_pool_size = default_pool_size
        self._pool_mode = pool_mode
        self._query_wait_timeout = query_wait_timeout
        self._directory: ServiceDirectory | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, after a ``stop`` on the same port; no effect while it runs.

        Raises:
            ServiceUnavailableError: There is no pgbouncer, or it doesn't run here.
        """
        if self.is_running:
            return
        program = _find_program()
        if self._directory is None:
            self._directory = ServiceDirectory("pgbouncer")
            self.port = free_port()
        directory = self._directory
        users = {"postgres": "", **PASSWORDS}
        lines = [f'"{name}" "{password}"\n' for name, password in users.items()]
        directory.write("users.txt", "".join(lines))
        configuration = directory.write("pgbouncer.ini", self._configuration(program))
        self._process = start_server([program, configuration], directory.path)
        wait_until_ready(self._process, directory.path, self._is_ready)

    def stop(self) -> None:
        """End it and cut off its clients; it has nothing to lose."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it and delete its files; idempotent."""
        self.stop()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None

    def url(
        self, database: str = "postgres", user: str = "postgres", password: str | None = None
    ) -> str:
        return database_url(self.port, database, user, password)

    def _configuration(self, program: str) -> str:
        settings = {
            "listen_addr": HOST,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": "users.txt",
            "pool_mode": self._pool_mode,
            "default_pool_size": self._default_pool_size,
            "query_wait_timeout": self._query_wait_timeout,
            # Seconds that it refuses new clients after the server was found down.
            "server_login_retry": 0.1,
            "max_client_conn": 500,
            "pidfile": "pgbouncer.pid",
        }
        if _version(program) >= (1, 21):
            settings["max_prepared_statements"] = 0
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        server = f"host={self._server.host} port={self._server.port}"
        return f"[databases]\n* = {server}\n[pgbouncer]\n{''.join(lines)}"

    def _is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0


def _find_program() -> str:
    # Debian keeps it where only root's PATH leads.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    program = shutil.which("pgbouncer", path=path)
    if program is None:
        raise ServiceUnavailableError("pgbouncer is neither on PATH nor in /usr/sbin")
    return program


def _version(program: str) -> tuple[int, int]:
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", text)
    assert found is not None, text
    return int(found[1]), int(found[2])
