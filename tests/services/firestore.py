"""Google's Firestore emulator: a real server of documents that keeps them in memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

from tests.services.processes import (
    HOST,
    PATIENCE,
    ServiceDirectory,
    ServiceUnavailableError,
    free_port,
    give_to_server,
    server_user,
    start_server,
    wait_until_ready,
)

_MAIN_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_JAR = Path("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
"""Where an installed SDK has the emulator."""


class FirestoreEmulator:
    """An emulator on loopback, for as many projects as are named to it; they share nothing.

    It stays on its port from the first ``start`` to ``close``. What it holds is lost when it ends.
    """

    def __init__(self) -> None:
        self.host = HOST
        self.port = 0
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

    @property
    def directory(self) -> Path:
        assert self._directory is not None, "not started"
        return self._directory.path

    @property
    def address(self) -> str:
        """What ``FIRESTORE_EMULATOR_HOST`` has to say."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start it, after a ``stop`` on the same port and empty; one that is paused goes on.

        Raises:
            ServiceUnavailableError: There is no Java or no emulator, or it doesn't run here.
        """
        if self.is_running:
            self.resume()
            return
        java, jar = _find_java(), _find_jar()
        if self._directory is None:
            self._directory = ServiceDirectory("firestore")
            self.port = free_port()
        command = [
            java,
            "-Xmx512m",
            "-XX:TieredStopAtLevel=1",  # it starts sooner, and no test runs long enough for more
            "-XX:-UsePerfData",
            f"-Djava.io.tmpdir={self.directory}",
            "-Duser.language=en",
            "-cp",
            _readable(jar, self.directory),
            _MAIN_CLASS,
            "start",
            f"--host={self.host}",
            f"--port={self.port}",
        ]
        # Not Google's script around it: killing that leaves the emulator behind.
        try:
            self._process = start_server(command, self.directory)
        except PermissionError as error:
            raise ServiceUnavailableError(f"the servers' user may not run {java}") from error
        self._directory.write("firestore.pid", f"{self._process.pid}\n")
        wait_until_ready(self._process, self.directory, self._is_ready)

    def stop(self) -> None:
        """End it without warning, paused or not; its documents are lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Make it silent: it takes connections and requests, and answers when it is resumed."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and delete its files; idempotent."""
        self.stop()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None

    def _signal(self, order: signal.Signals) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(order)

    def _is_ready(self) -> bool:
        with (
            closing(HTTPConnection(self.host, self.port, timeout=PATIENCE)) as connection,
            suppress(OSError, HTTPException),
        ):
            connection.request("GET", "/")
            return connection.getresponse().read().strip() == b"Ok"
        return False


def _find_java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = home and shutil.which("java", path=Path(home, "bin"))
    java = java or shutil.which("java")
    if java is None:
        raise ServiceUnavailableError(
            "the Firestore emulator needs Java, which is neither in JAVA_HOME nor on PATH: "
            "install Debian's default-jre-headless"
        )
    return java


def _find_jar() -> Path:
    """Return the jar that ``LTM_FIRESTORE_EMULATOR`` names, else that of a Google Cloud SDK."""
    named = os.environ.get("LTM_FIRESTORE_EMULATOR")
    if named is not None:
        candidates = [Path(named)]
    else:
        parents = [Path("/usr/lib"), Path("/usr/share"), Path("/opt"), Path.home()]
        candidates = [parent / "google-cloud-sdk" / _JAR for parent in parents]
        if program := shutil.which("gcloud"):
            candidates.append(Path(program).resolve().parent.parent / _JAR)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ServiceUnavailableError(
        f"there is no Firestore emulator at {' or '.join(map(str, candidates))}: get it by "
        "`gcloud components install cloud-firestore-emulator` or from Google's Debian package "
        "google-cloud-cli-firestore-emulator, or let LTM_FIRESTORE_EMULATOR name its jar"
    )


def _readable(jar: Path, directory: Path) -> Path:
    """Return *jar*, or its copy in *directory* if the server's user may not read it."""
    if not subprocess.run(["test", "-r", jar], check=False, **server_user()).returncode:
        return jar
    copy = directory / jar.name
    shutil.copyfile(jar, copy)
    give_to_server(copy)
    return copy
