"""Running the command line: in this process where that will do, in one of its own where not."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ltm.cli import main


@dataclass(frozen=True)
class Result:
    """How a run ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def documents(self) -> list[Any]:
        """One document for each line."""
        return [json.loads(line) for line in self.out.splitlines()]


Runner = Callable[..., Result]


class Stream(io.TextIOWrapper):
    """A standard stream that says whether it is a terminal."""

    def __init__(self, content: bytes = b"", *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Unbuffered output has nothing left to flush, and so hides what happens at the end.
    for name in ("LTM_CATALOG_URL", "LTM_STORAGE_URI", "PYTHONUNBUFFERED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def ltm(monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run ``ltm`` in this process, in a directory of its own with a memory of its own."""

    def run(*arguments: str, stdin: bytes | None = None, is_terminal: bool = False) -> Result:
        out, err = Stream(is_terminal=is_terminal), Stream(is_terminal=is_terminal)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", Stream(stdin or b"", is_terminal=stdin is None))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            status = main(list(arguments))
        return Result(status, out.text(), err.text())

    return run


@pytest.fixture
def shell() -> Runner:
    """Run a line of shell in which ``ltm`` is the command line, in processes of their own."""

    def run(line: str, stdin: bytes | None = None) -> Result:
        function = f'ltm() {{ "{sys.executable}" -m ltm.cli "$@"; }}\n'
        finished = subprocess.run(
            ["bash", "-c", function + line], input=stdin or b"", capture_output=True, timeout=60
        )
        return Result(finished.returncode, finished.stdout.decode(), finished.stderr.decode())

    return run
