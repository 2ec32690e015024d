"""What the servers of objects have in common, and what a test is given of one."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.services.processes import (
    HOST,
    PATIENCE,
    ServiceDirectory,
    free_port,
    start_server,
    wait_until_ready,
)

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPlace:
    """An empty bucket or container of a test's own."""

    server: ObjectServer
    name: str
    """Of the bucket or container."""
    port: int
    """Where clients find it: that of the server, or of a proxy before it."""

    @property
    def uri(self) -> str:
        return f"{self.server.protocol}://{self.name}/payloads"

    @property
    def options(self) -> dict[str, Any]:
        """The ``storage_options`` with everything that a client has to know."""
        return self.server.options(self.port)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that tell a client the same."""
        return self.server.environment(self.port)

    def through(self, proxy: Any) -> ObjectPlace:
        """Return the same place as it is found by way of *proxy*."""
        return ObjectPlace(server=self.server, name=self.name, port=proxy.port)


class ObjectServer(ABC):
    """A server of objects on loopback that keeps them in memory.

    It stays on its port from the first ``start`` to ``close``. What it holds is lost when it ends.
    """

    service: ClassVar[str]
    """The word for it in names of directories and files."""
    protocol: ClassVar[str]
    """How its URIs begin."""

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

    @abstractmethod
    def command(self) -> list[str | Path]:
        """Return what starts it on its port.

        Raises:
            ServiceUnavailableError: It can't be had here.
        """

    @abstractmethod
    def options(self, port: int) -> dict[str, Any]:
        """Return the options of the fsspec driver that lead to *port*."""

    @abstractmethod
    def environment(self, port: int) -> dict[str, str]:
        """Return the variables that lead the driver to *port* without any option."""

    @abstractmethod
    def make_bucket(self, name: str) -> None: ...

    @abstractmethod
    def clear(self) -> None:
        """Forget what tests have left, as far as that frees memory."""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def directory(self) -> Path:
        assert self._directory is not None, "not started"
        return self._directory.path

    def start(self) -> None:
        """Start it, after a ``stop`` on the same port and empty; one that is paused goes on.

        Raises:
            ServiceUnavailableError: It can't be had here, or doesn't run.
        """
        if self.is_running:
            self.resume()
            return
        if self._directory is None:
            self.port = free_port()
            command = self.command()
            self._directory = ServiceDirectory(self.service)
        else:
            command = self.command()
        self._process = start_server(command, self.directory, as_ourselves=True)
        self._directory.write(f"{self.service}.pid", f"{self._process.pid}\n")
        wait_until_ready(self._process, self.directory, self._is_ready)

    def stop(self) -> None:
        """End it without warning, paused or not; its objects are lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Make it silent: it takes connections and requests, and answers when it is resumed."""
        process = self._signal(signal.SIGSTOP)
        # A thread of it that is at work may go on for a moment.
        os.waitid(os.P_PID, process, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and delete its files; idempotent."""
        self.stop()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None

    def make_place(self) -> ObjectPlace:
        """Make an empty bucket or container; it is started first if a test took it down."""
        self.start()
        name = f"test-{os.getpid()}-{next(_numbers)}"
        self.make_bucket(name)
        return ObjectPlace(server=self, name=name, port=self.port)

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> int:
        """Send one request and return the status of the answer."""
        named: Mapping[str, str] = {key.replace("_", "-"): text for key, text in headers.items()}
        with closing(HTTPConnection(self.host, self.port, timeout=PATIENCE)) as connection:
            connection.request(method, target, body, dict(named))
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def _signal(self, order: signal.Signals) -> int:
        assert self._process is not None, "not started"
        self._process.send_signal(order)
        return self._process.pid

    def _is_ready(self) -> bool:
        with suppress(OSError, HTTPException):
            return self.ask("GET", "/") > 0
        return False
