"""Runs verbs again and again, each time killed at another step, and judges what is left.

A script, so that nothing but the verb runs in the processes that it forks and kills::

    python postgres_killing.py KILLS URL DIRECTORY SCENARIO ...

It prints a report as JSON. A step is a call of the operating system by the payload store, or a
statement that is about to be sent to the server, or has been sent and is not answered yet. Each
attempt has a logical table of its own in the database at URL.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "faults"))
sys.path.append(str(Path(__file__).parents[1] / "history"))

import history_killing
import killing
from killing import LARGE, State, attempt_steps
from outcomes import wait_until
from postgres_place import PostgresPlace

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.sql.postgres import BoundedConnection

MOST_STEPS = 150

SCENARIOS = {
    name: killing.SCENARIOS[name] for name in ("large over large", "batch", "delete", "transaction")
}
SCENARIOS |= {
    "snapshot": killing.Scenario(
        killing.snapshot_and_overwrite,
        lambda memory: memory.create_snapshot("again"),
        {"k": LARGE + "!", "gone": None},
        {"k": LARGE + "!", "gone": None},
    ),
    "restore": killing.SCENARIOS["restore"],
    "gc": killing.Scenario(
        history_killing.prepare_garbage,
        lambda memory: memory.gc(grace=0),
        history_killing.LATER,
        history_killing.LATER,
    ),
}


def run(name: str, kills: int, place: PostgresPlace) -> dict[str, Any]:
    """Kill the scenario *name* at random steps so many times, and report what was left."""
    scenario, choice, last = SCENARIOS[name], random.Random(), MOST_STEPS
    states: list[str] = []
    problems: list[str] = []
    for attempt_number in itertools.count():
        if len(states) == kills:
            break
        table = f"{name} {attempt_number}"
        with open_table(place, table) as memory:
            assert scenario.prepare is not None
            scenario.prepare(memory)
        number = choice.randint(1, last)
        attempt = attempt_steps(lambda table=table: act(scenario, place, table), number)
        # What was sent before the end may still be carried out.
        wait_until(lambda: not place.sessions(), "a session stays")
        state, found = judge(scenario, place, table)
        if attempt.has_answered and state != "new" and scenario.old != scenario.new:
            found.append("what was answered as done is not there")
        problems += [f"step {number} ({attempt.step}): {problem}" for problem in found]
        if attempt.was_killed:
            states.append(state)
        else:
            last = number - 1
    return {"states": states, "steps": last, "problems": problems}


def open_table(place: PostgresPlace, table: str) -> DuckDBLTMBackend:
    return place.memory(place.catalog(table=table), max_workers=1)


def act(scenario: killing.Scenario, place: PostgresPlace, table: str) -> Any:
    """Run the verb; each statement takes two steps more, as calls that change nothing."""
    null = os.open(os.devnull, os.O_WRONLY)
    wait: Callable[..., Any] = BoundedConnection.wait

    def wait_in_steps(connection: Any, talk: Any, *arguments: Any, **options: Any) -> Any:
        os.write(null, b"")

        def talking() -> Any:
            try:
                wanted = next(talk)
                os.write(null, b"")
                while True:
                    wanted = talk.send((yield wanted))
            except StopIteration as end:
                return end.value

        return wait(connection, talking(), *arguments, **options)

    BoundedConnection.wait = wait_in_steps  # type: ignore[method-assign]  # in this child only
    return scenario.act(open_table(place, table))


def judge(scenario: killing.Scenario, place: PostgresPlace, table: str) -> tuple[str, list[str]]:
    """Return whether *table* has the old or the new state, and what is wrong there."""
    problems: list[str] = []
    with open_table(place, table) as memory:
        state = state_of(memory, scenario)
        verified = memory.verify()
        problems += [f"verify: {problem}" for problem in verified["problems"]]
        collected = memory.gc(grace=0)
        if not collected["success"]:
            problems.append(f"gc: {collected}")
        again = memory.verify()
        if not again["success"] or again["unreferenced"] or place.files() != place.referenced():
            problems.append(f"after gc: {again}")
        problems += place.faults()
        if state_of(memory, scenario) != state:
            problems.append("gc changed the present")
        key = next(iter(scenario.new))
        if not memory.store(key, LARGE + "next")["success"]:
            problems.append("nothing more can be stored")
    absent = dict.fromkeys(state)
    names: dict[str, State] = {"old": scenario.old, "new": scenario.new}
    return next((name for name in names if absent | names[name] == state), "neither"), problems


def state_of(memory: DuckDBLTMBackend, scenario: killing.Scenario) -> State:
    absent: State = dict.fromkeys([*scenario.old, *scenario.new])
    return absent | {key: value for key, value, _ in memory.iterate_all()}


if __name__ == "__main__":
    kills, url, directory, *names = sys.argv[1:]
    place = PostgresPlace(url, Path(directory) / "payloads")
    print(json.dumps({name: run(name, int(kills), place) for name in names}))
