"""Kills a transaction, a restore and a collection at every step in turn, and judges what is left.

A script, so that nothing but the verb runs in the processes that it forks and kills::

    python history_killing.py SCENARIO steps|syscalls DIRECTORY

It prints a report as JSON; ``killing.py`` of the tests of faults says what a step is.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "faults"))

from killing import LARGE, SMALL, attempt_steps, attempt_syscalls, reason_not_to_trace
from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.payload.base import payload_path
from ltm.testing.clock import FakeClock

State = dict[str, Any]

BEFORE = {"a": LARGE + "a", "b": SMALL, "c": LARGE + "c", "d": LARGE + "d"}
LATER = {"a": SMALL + "!", "c": LARGE + "c later", "d": LARGE + "d later", "new": LARGE}
TRANSACTED = {"a": LARGE + "!", "b": LARGE + "b", "d": LARGE + "d", "new": SMALL}
STRAYS = 3


class Scenario(NamedTuple):
    prepare: Callable[[DuckDBLTMBackend], object]
    act: Callable[[DuckDBLTMBackend], Any]
    old: State
    new: State
    snapshot: State | None = None
    """What the snapshot ``before`` holds all the time, where there is one."""


def prepare_transaction(memory: DuckDBLTMBackend) -> None:
    memory.store_batch(list(BEFORE.items()))


def run_transaction(memory: DuckDBLTMBackend) -> Any:
    with memory.transaction() as block:
        block.store("a", TRANSACTED["a"])
        block.store("b", TRANSACTED["b"])
        block.store("new", TRANSACTED["new"])
        block.delete("c")
    return {"success": True}


def prepare_restore(memory: DuckDBLTMBackend) -> None:
    memory.store_batch(list(BEFORE.items()))
    memory.create_snapshot("before")
    memory.store_batch(list(LATER.items()))
    memory.delete("b")


def prepare_garbage(memory: DuckDBLTMBackend) -> None:
    """Leave objects on the schedule, objects that nothing names, and ones that versions name."""
    prepare_restore(memory)
    catalog = memory.catalog
    prefix = catalog.table().storage_prefix
    for number in range(STRAYS):
        identity = catalog.entry_id("a"), f"sha256:{number:064}"
        memory.payloads.write(payload_path(prefix, *identity, "json"), b"stray")
    # Whoever joins a caller's transaction leaves on the schedule what it frees.
    with catalog.engine.connect() as connection:
        bound = memory.using(connection)
        bound.store("d", LARGE + "d scheduled")
        bound.store("d", LATER["d"])
        bound.store("new", LARGE + "new scheduled")
        bound.store("new", LATER["new"])
        connection.commit()


SCENARIOS = {
    "transaction": Scenario(prepare_transaction, run_transaction, BEFORE, TRANSACTED),
    "restore": Scenario(
        prepare_restore, lambda memory: memory.restore("before"), LATER, BEFORE, BEFORE
    ),
    "gc": Scenario(prepare_garbage, lambda memory: memory.gc(grace=0), LATER, LATER, BEFORE),
}


def judge(scenario: Scenario, place: Place) -> tuple[str, list[str]]:
    """Return whether *place* has the old or the new state, and what is wrong there."""
    problems: list[str] = []
    with place.open(clock=FakeClock(), max_workers=1) as memory:
        state = {key: value for key, value, _ in memory.iterate_all()}
        verified = memory.verify()
        problems += [f"verify: {problem}" for problem in verified["problems"]]
        strays = verified["unreferenced"]
        if strays > len(scenario.new) + STRAYS:
            problems.append(f"{strays} unreferenced files")
        problems += _expect_snapshot(memory, scenario, "before")
        collected = memory.gc(grace=0)
        if not collected["success"]:
            problems.append(f"gc: {collected}")
        problems += _expect_snapshot(memory, scenario, "after gc")
        again = memory.verify()
        if not again["success"] or again["unreferenced"]:
            problems.append(f"after gc: {again}")
        if {key: value for key, value, _ in memory.iterate_all()} != state:
            problems.append("gc changed the present")
        if scenario.snapshot is not None:
            memory.expire_snapshot("before")
            if place.files() != place.referenced():
                problems.append("files are left over that nothing names")
    names = {"old": scenario.old, "new": scenario.new}
    return next((name for name in names if names[name] == state), "neither"), problems


def _expect_snapshot(memory: DuckDBLTMBackend, scenario: Scenario, when: str) -> list[str]:
    if scenario.snapshot is None:
        return []
    kept = {key: value for key, value, _ in memory.iterate_all(snapshot="before")}
    return [] if kept == scenario.snapshot else [f"{when}: the snapshot has changed"]


def run(scenario: Scenario, mode: str, directory: Path) -> dict[str, Any]:
    """Kill *scenario* at every step in turn until it gets through, and report what was left."""
    attempt = {"steps": attempt_steps, "syscalls": attempt_syscalls}[mode]
    template = Place(directory / "template")
    template.directory.mkdir()
    with template.open(clock=FakeClock(), max_workers=1) as memory:
        scenario.prepare(memory)
    rehearsal = Place(directory / "rehearsal")
    shutil.copytree(template.directory, rehearsal.directory)
    with rehearsal.open(clock=FakeClock(), max_workers=1) as memory:
        # Import here what the children would each import.
        assert scenario.act(memory)["success"]
        assert memory.verify()["success"]
    states: list[str] = []
    steps: list[str] = []
    problems: list[str] = []
    was_killed = True
    while was_killed:
        place = Place(directory / "attempt")
        shutil.copytree(template.directory, place.directory)

        def act(place: Place = place) -> Any:
            return scenario.act(place.open(clock=FakeClock(), max_workers=1))

        was_killed, has_answered, step = attempt(act, len(states) + 1)
        state, found = judge(scenario, place)
        if has_answered and state != "new" and scenario.old != scenario.new:
            found.append("what was answered as done is not there")
        problems += [f"step {len(states) + 1} ({step}): {problem}" for problem in found]
        states.append(state)
        steps.append(step)
        shutil.rmtree(place.directory)
    return {"states": states, "steps": steps, "problems": problems}


if __name__ == "__main__":
    name, mode, directory = sys.argv[1:]
    reason = None if mode == "steps" else reason_not_to_trace()
    report = {"skip": reason} if reason else run(SCENARIOS[name], mode, Path(directory))
    print(json.dumps(report))
