"""A file system over a line that a test can cut, and a store on it with a clock by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from ltm.payload.remote import FsspecPayloadStore

SECRET = "wJalrXUtnFEMI"


class UnreliableFileSystem(MemoryFileSystem):
    """A file system of its own, reached over a line that a test can cut."""

    protocol = "unreliable"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    faults: ClassVar[list[BaseException]] = []
    """Raised by one call each."""
    lost_answers: ClassVar[list[Exception]] = []
    """Raised by one call each, after it took effect."""
    calls: ClassVar[list[str]] = []
    processes: ClassVar[list[int]] = []
    """Those that connected, one by one."""
    during_calls: ClassVar[list[Callable[[], None]]] = []
    """What happens while a call is under way."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.processes.append(os.getpid())

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("unreliable://"))

    def pipe_file(self, path, value, mode="overwrite", **options):
        return self.over_the_line("pipe_file", super().pipe_file, path, value, mode=mode)

    def cat_file(self, path, start=None, end=None, **options):
        return self.over_the_line("cat_file", super().cat_file, path)

    def rm_file(self, path):
        return self.over_the_line("rm_file", super().rm_file, path)

    def ls(self, path, detail=True, **options):
        return self.over_the_line("ls", super().ls, path, detail=detail)

    def over_the_line(self, name: str, call: Callable[..., Any], *arguments, **options):
        self.calls.append(name)
        for each in self.during_calls:
            each()
        if self.faults:
            raise self.faults.pop(0)
        answer = call(*arguments, **options)
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return answer


class HandClock:
    """Seconds that pass when a test says so, or a pause is made."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.pass_by(seconds)


class Unreliable:
    """A store on the unreliable file system, and the pauses it made."""

    def __init__(self) -> None:
        fsspec.register_implementation("unreliable", UnreliableFileSystem, clobber=True)
        for state in ("store", "faults", "lost_answers", "calls", "processes", "during_calls"):
            getattr(UnreliableFileSystem, state).clear()
        self.clock = HandClock()
        self.pauses = self.clock.pauses
        self.faults = UnreliableFileSystem.faults
        self.lost_answers = UnreliableFileSystem.lost_answers
        self.calls = UnreliableFileSystem.calls
        self.during_calls = UnreliableFileSystem.during_calls
        self.store = self.open()

    def open(self, **options: Any) -> FsspecPayloadStore:
        """Open another store on the same line."""
        secrets = {"secret": SECRET, "client_kwargs": {"api_key": f"{SECRET}-2"}}
        return FsspecPayloadStore(
            "unreliable://user:hunter2@root",
            **{"storage_options": secrets, "sleep": self.clock.sleep, "clock": self.clock}
            | options,
        )
