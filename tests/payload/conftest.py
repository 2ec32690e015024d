"""Shared by the tests of payload stores."""

from __future__ import annotations

import errno
import os

import pytest
from payload_unreliable import Unreliable

# Lets the suites explain their failures like test modules do.
pytest.register_assert_rewrite(
    "ltm.testing.payload_suite", "payload_objects", "payload_outages", "payload_requests"
)


@pytest.fixture
def named_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be without a name, as on many network file systems."""
    unnamed, real = getattr(os, "O_TMPFILE", None), os.open

    def refusing(path: str, flags: int, *mode: int) -> int:
        if unnamed is not None and flags & unnamed == unnamed:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refusing)


@pytest.fixture
def unreliable() -> Unreliable:
    """A store whose line can be cut; one at a time, as all share what is stored."""
    return Unreliable()
