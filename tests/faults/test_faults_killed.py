"""A process killed at any step leaves the old value or the new one, whole and readable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from killing import SCENARIOS

SCRIPT = Path(__file__).with_name("killing.py")

# System calls say more than steps do, where they can be followed. The steps are for where they
# can't, and for the names of what was passed.
CASES = [(name, "syscalls") for name in SCENARIOS if name not in ("update", "small over small")]
CASES += [("large over large", "steps"), ("update", "steps"), ("small over small", "steps")]

CALLS = ("open", "write", "fsync", "link")

Reports = dict[tuple[str, str], "Future[dict[str, Any]]"]


def kill_everywhere(name: str, mode: str, directory: Path) -> dict[str, Any]:
    command = [sys.executable, "-W", "error", str(SCRIPT), name, mode, str(directory)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


@pytest.fixture(scope="module")
def reports(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reports]:
    """Reports of the selected cases, made two at a time."""
    parameters = [
        item.callspec.params
        for item in request.session.items
        if item.path == request.path and "reports" in item.fixturenames
    ]
    selected = dict.fromkeys((each["name"], each["mode"]) for each in parameters)
    with ThreadPoolExecutor(2) as executor:
        yield {
            case: executor.submit(kill_everywhere, *case, tmp_path_factory.mktemp("killed"))
            for case in selected
        }
        executor.shutdown(cancel_futures=True)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_killed_process_leaves_the_old_state_or_the_new_one(
    reports: Reports, name: str, mode: str
) -> None:
    report = reports[name, mode].result()
    if "skip" in report:
        pytest.skip(report["skip"])
    assert report["problems"] == []
    # One step is the commit; and the last run, which nothing killed, gets through.
    assert [state for state, _ in groupby(report["states"])] == ["old", "new"]
    assert report["steps"][-1] == ""
    assert all(report["steps"][:-1])


@pytest.mark.parametrize(("name", "mode"), [("large over large", "steps")])
def test_the_steps_of_a_store_are_all_among_those_it_is_killed_at(
    reports: Reports, name: str, mode: str
) -> None:
    steps = reports[name, mode].result()["steps"]
    positions = [steps.index(f"{when} {call}") for call in CALLS for when in ("before", "after")]
    begin, commit = steps.index("BEGIN IMMEDIATE"), steps.index("COMMIT")
    assert max(positions) < begin < commit
    after = steps[commit + 1 :]
    forget = after.index("DELETE FROM ltm_payload_deletions")
    assert after.index("before unlink") < after.index("after unlink") < forget


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_nothing_is_deleted_before_its_replacement_would_survive_a_power_cut(
    tmp_path: Path, durability: str
) -> None:
    """Each step is on disk before the one begins that relies on it."""
    report = kill_everywhere(durability, "calls", tmp_path)
    if "skip" in report:
        pytest.skip(report["skip"])
    write, sync, link, *calls = report["calls"]
    assert [write[0], sync[0]] == ["write", "fsync"]
    assert write[1] == sync[1]
    assert link[0] in ("link", "linkat")
    into_log = [index for index, call in enumerate(calls) if call == ["pwrite64", "catalog.db-wal"]]
    directory = next(index for index, (name, _) in enumerate(calls) if name == "fsync")
    assert directory < into_log[0]
    deletion = max(index for index, (name, _) in enumerate(calls) if name == "unlink")
    assert deletion > into_log[0]
    synced = [name for name, file in calls[into_log[0] : deletion] if file == "catalog.db-wal"]
    assert {"fsync", "fdatasync"} & set(synced)
