"""Forked children of a process that used a real server: they use it too, and they end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from tests.services.object_server import ObjectPlace

SCRIPT = """
import json, os, sys, time
from ltm.payload.store import open_payload_store

store = open_payload_store(sys.argv[1], storage_options=json.loads(sys.argv[2]))
store.write_many([(f"a/{number}", b"parent") for number in range(4)])
children = []
for uses_it in (True, False):
    child = os.fork()
    if child == 0:
        if uses_it:
            assert store.read("a/1") == b"parent"
            assert store.write_many([(f"b/{n}", b"child") for n in range(4)]) == [None] * 4
        # As a worker of a server does: with all that an interpreter does at its end.
        sys.exit(7)
    children.append(child)
until = time.monotonic() + 30
while children and time.monotonic() < until:
    ended, status = os.waitpid(children[0], os.WNOHANG)
    if ended:
        assert os.waitstatus_to_exitcode(status) == 7, status
        children.pop(0)
    else:
        time.sleep(0.05)
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
assert not children, "a child did not end"
assert store.read("b/1") == b"child"
assert store.read("a/1") == b"parent"
store.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("service", ["s3", "gcs", "azure"])
def test_a_forked_child_uses_the_store_and_ends(
    service: str,
    request: pytest.FixtureRequest,
    run_python: Callable[..., CompletedProcess[str]],
) -> None:
    place: ObjectPlace = request.getfixturevalue(f"{service}_place")
    ended = run_python(SCRIPT, place.uri, json.dumps(place.options))
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
