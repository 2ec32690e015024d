"""What only a process of its own shows: signals, pipes, start-up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ltm import create_ltm_backend


def test_start_up_is_light():
    for arguments in (["--help"], ["--version"], ["store", "--help"]):
        code = (
            "import sys, ltm.cli\n"
            f"assert ltm.cli.main({arguments!r}) == 0\n"
            "heavy = {'sqlalchemy', 'rich', 'msgspec', 'fsspec', 'alembic', 'duckdb', 'asyncio'}\n"
            "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
        )
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr


def test_values_go_through_pipes_and_statuses_come_out(shell):
    result = shell(
        "printf '{\"n\": 1}' | ltm store a && ltm get a | ltm store b && ltm --json get b;"
        " ltm get nowhere; echo $?"
    )
    value, status = result.out.splitlines()[-2:]
    assert json.loads(value)["value"] == {"n": 1}
    assert status == "1"


def test_a_reader_that_goes_away_leaves_no_traceback(shell):
    with create_ltm_backend(raise_errors=True) as memory:
        memory.store_batch((f"key/{number:05}", "x" * 50) for number in range(3000))
    result = shell("set -o pipefail; ltm ls | head -1; echo $?; ltm --json ls | head -1")
    first, status, second = result.out.splitlines()
    assert first.startswith("key/00000\t")
    assert status == "141"
    assert json.loads(second)["key"] == "key/00000"
    assert result.status == 141
    assert result.err == ""


def test_a_reader_that_is_gone_from_the_start_leaves_no_word_either():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ltm.cli", "db", "current"]
    finished = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_is_full_is_one_line_on_standard_error(shell):
    result = shell("ltm --version > /dev/full")
    assert result.status == 1
    assert result.err == "error: [Errno 28] No space left on device (error)\n"


# A job in the background ignores SIGINT, and so do its children unless they say otherwise.
AS_IN_THE_FOREGROUND = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "ltm"
runpy.run_module("ltm.cli", run_name="__main__")
"""


def test_ctrl_c_ends_quietly_with_130():
    process = subprocess.Popen(
        [sys.executable, "-c", AS_IN_THE_FOREGROUND, "store", "k"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # It waits for standard input; asking the kernel beats sleeping a fixed time.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not _waits_for_input(process.pid):
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_standard_input_that_is_closed_is_a_missing_value(shell):
    result = shell("ltm store k <&-")
    assert result.status == 2
    assert "VALUE: is missing" in result.err


def test_an_encoding_that_lacks_a_character_is_no_failure(shell):
    line = "ltm store é --text 日本 && ltm ls && ltm get é"
    result = shell(f"export PYTHONIOENCODING=ascii; {line}")
    assert result.status == 0
    assert "\\u65e5\\u672c" in result.out


def _waits_for_input(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/wchan") as file:
            return "pipe" in file.read()
    except OSError:
        pytest.skip("needs /proc")
