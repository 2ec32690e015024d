"""What happens around a fork, to threads and to handlers of the application."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

WAITING = """
import os, threading, warnings
from ltm.fork_gate import forks_wait
warnings.simplefilter("ignore", DeprecationWarning)
is_in, goes_on, has_left = threading.Event(), threading.Event(), []
def use():
    with forks_wait(), forks_wait():
        is_in.set()
        goes_on.wait(60)
        has_left.append(True)
user = threading.Thread(target=use)
user.start()
is_in.wait(60)
threading.Timer(0.3, goes_on.set).start()
child = os.fork()
if child == 0:
    os._exit(0 if has_left else 3)
user.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

HANDLERS = """
import os, signal, sys
signal.alarm(60)
memory, seen = None, []
def note():
    if memory is not None:
        seen.append(memory.query("SELECT value FROM entries"))
# Before those of ltm: run after them ahead of a fork, and before them behind it.
os.register_at_fork(before=note, after_in_parent=note, after_in_child=note)
from ltm import create_ltm_backend
memory = create_ltm_backend(
    catalog_config={"path": sys.argv[1] + "/c.db"}, storage_uri=sys.argv[1], raise_errors=True
)
memory.store("k", 1)
note()
child = os.fork()
if child == 0:
    signal.alarm(60)
    memory.query("SELECT value FROM entries")
    sys.stdout.write(f"child {len(seen)} ")
    sys.stdout.flush()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert seen == [[{"value": 1}]] * 3, seen
memory.close()
print("parent")
"""


def test_a_fork_waits_for_threads_that_it_would_hurt(
    run_python: Callable[..., CompletedProcess[str]],
) -> None:
    ended = run_python(WAITING)
    assert ended.returncode == 0, ended.stderr


def test_an_applications_own_handlers_use_a_memory_at_a_fork(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    ended = run_python(HANDLERS, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "child 3 parent\n"
