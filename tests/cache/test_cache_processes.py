"""Processes that ask at once share one computation; one that dies is taken over from."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from outcomes import PATIENCE, in_time, wait_until
from starting import said, started

from ltm import cache_get, cache_wrap, create_ltm_from_settings

SCRIPT = Path(__file__).with_name("cache_workers.py")

SETTINGS = dict[str, Any]


def runs(directory: Path) -> list[int]:
    """Return the processes that have begun to run the action, in that order."""
    path = directory / "runs"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_of_eight_processes_that_ask_at_once_one_runs_the_action(
    settings: SETTINGS, tmp_path: Path
) -> None:
    # Begun one after the other, they would find the schema being made, and wait for that.
    with create_ltm_from_settings(settings) as memory:
        memory.stats()
    commands = [("call", json.dumps(settings), tmp_path, "k", 0.5)] * 8
    with started(SCRIPT, commands) as workers:
        answers = said(workers, PATIENCE)
    assert len(runs(tmp_path)) == 1
    assert [each["result"] for each in answers] == [{"pid": runs(tmp_path)[0]}] * 8
    assert sum(each["_cache_hit"] for each in answers) == 7
    with create_ltm_from_settings(settings) as memory:
        assert cache_get(memory, "k")["result"] == answers[0]["result"]


def test_another_caller_takes_over_from_an_owner_that_was_killed(
    settings: SETTINGS, tmp_path: Path
) -> None:
    command = ("hang", json.dumps(settings), tmp_path, "k", 2)
    with create_ltm_from_settings(settings) as memory, started(SCRIPT, [command]) as (owner,):
        wait_until(lambda: runs(tmp_path) == [owner.pid], "the action is not run")
        in_vain = cache_wrap(memory, lambda: "alone", key="k", timeout=0.2)
        assert (in_vain["result"], in_vain["_cached"]) == ("alone", False)
        os.kill(owner.pid, signal.SIGKILL)
        answer = in_time(lambda: cache_wrap(memory, lambda: "successor", key="k"))
        assert (answer["result"], answer["_cached"]) == ("successor", True)
        assert cache_get(memory, "k")["result"] == "successor"


def test_an_owner_that_was_stopped_for_longer_than_its_lease_overwrites_nothing(
    settings: SETTINGS, tmp_path: Path
) -> None:
    command = ("call", json.dumps(settings), tmp_path, "k", 1)
    with create_ltm_from_settings(settings) as memory, started(SCRIPT, [command]) as (owner,):
        wait_until(lambda: runs(tmp_path) == [owner.pid], "the action is not run")
        os.kill(owner.pid, signal.SIGSTOP)
        (lease,) = memory.catalog.leases.under("k")
        # As if the time of its lease had passed, which is half a minute.
        memory.catalog.leases.renew(lease._replace(expires_at=memory.clock()), memory.clock())
        answer = cache_wrap(memory, lambda: "successor", key="k")
        assert (answer["result"], answer["_cached"]) == ("successor", True)
        os.kill(owner.pid, signal.SIGCONT)
        (late,) = said([owner], PATIENCE)
        assert late == {"result": {"pid": owner.pid}, "_cache_hit": False, "_cached": False}
        assert cache_get(memory, "k")["result"] == "successor"


def test_no_caller_waits_longer_than_its_timeout(settings: SETTINGS, tmp_path: Path) -> None:
    command = ("hang", json.dumps(settings), tmp_path, "k", 30)
    with create_ltm_from_settings(settings) as memory, started(SCRIPT, [command]) as (owner,):
        wait_until(lambda: runs(tmp_path) == [owner.pid], "the action is not run")
        for timeout in (0, 0.5, 2):
            begun = time.monotonic()
            answer = in_time(
                lambda timeout=timeout: cache_wrap(
                    memory, lambda: "alone", key="k", timeout=timeout
                )
            )
            assert answer["_cache_error_type"] == "timeout"
            assert time.monotonic() - begun >= timeout
