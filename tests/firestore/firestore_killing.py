"""Runs verbs again and again, each time killed at another step, and judges what is left.

A script, so that nothing but the verb runs in the processes that it forks and kills::

    python firestore_killing.py KILLS PROJECT DIRECTORY SCENARIO ...

It prints a report as JSON. A step is a request that is about to be sent, or has been answered, or a
call of the operating system by the payload store. Each attempt has a logical table of its own.

What asks Firestore does so in a process of its own: a child of one that has done so itself may wait
for ever for a lock which a thread of gRPC held as it was forked.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "faults"))
sys.path.append(str(Path(__file__).parents[1] / "history"))

import killing
from firestore_place import FirestorePlace
from killing import LARGE, State, attempt_steps

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog import firestore_batches, firestore_client
from ltm.catalog.firestore_client import FirestoreClient
from ltm.errors import LTMError

MOST_STEPS = 90
REQUESTS = ("begin", "get", "run", "total", "commit", "commit_encoded", "roll_back")
STAGED_OLD = {f"k{number}": f"old tea {number}" for number in range(0, 12, 2)}
STAGED_NEW = {f"k{number}": f"new tea {number}" for number in range(12)}

SCENARIOS = {
    name: killing.SCENARIOS[name] for name in ("large over large", "batch", "delete", "transaction")
}
SCENARIOS |= {
    "staged batch": killing.Scenario(
        killing.store_batch(STAGED_OLD),
        killing.store_batch(STAGED_NEW),
        dict.fromkeys(STAGED_NEW) | STAGED_OLD,
        STAGED_NEW,
    ),
    "restore": killing.SCENARIOS["restore"],
    "snapshot": killing.Scenario(
        killing.snapshot_and_overwrite,
        lambda memory: memory.create_snapshot("again"),
        {"k": LARGE + "!", "gone": None},
        {"k": LARGE + "!", "gone": None},
    ),
}


def run(name: str, kills: int, place: FirestorePlace) -> dict[str, Any]:
    """Kill the scenario *name* at random steps so many times, and report what was left."""
    scenario, choice, last = SCENARIOS[name], random.Random(), MOST_STEPS
    states: list[str] = []
    problems: list[str] = []
    for attempt_number in itertools.count():
        if len(states) == kills:
            break
        table = f"{name} {attempt_number}"
        in_child(prepare, name, place, table)
        number = choice.randint(1, last)
        attempt = attempt_steps(lambda table=table: act(scenario, place, table), number)
        try:
            state, found = in_child(judge, name, place, table)
        except LTMError as error:
            state, found = "unread", [f"can't be read: {error}"]
        if attempt.has_answered and state != "new" and scenario.old != scenario.new:
            found.append("what was answered as done is not there")
        problems += [f"step {number} ({attempt.step}): {problem}" for problem in found]
        if attempt.was_killed:
            states.append(state)
        else:
            last = number - 1
    return {"states": states, "steps": last, "problems": problems}


def in_child(do: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as child:
        return child.submit(do, *arguments).result()


def open_table(place: FirestorePlace, table: str) -> DuckDBLTMBackend:
    return place.open(table=table)


def prepare(name: str, place: FirestorePlace, table: str) -> None:
    scenario = SCENARIOS[name]
    with open_table(place, table) as memory:
        assert scenario.prepare is not None
        scenario.prepare(memory)
        # A first search cuts the feed, which a dead client's lock would keep it from.
        memory.search("tea")


def act(scenario: killing.Scenario, place: FirestorePlace, table: str) -> Any:
    """Run the verb; each request takes two steps more, as calls that change nothing."""
    null = os.open(os.devnull, os.O_WRONLY)

    def between(request: Callable[..., Any]) -> Callable[..., Any]:
        def in_steps(*arguments: Any, **options: Any) -> Any:
            os.write(null, b"")
            answer = request(*arguments, **options)
            os.write(null, b"")
            return answer

        return in_steps

    for name in REQUESTS:
        setattr(FirestoreClient, name, between(getattr(FirestoreClient, name)))
    return scenario.act(open_table(place, table))


def judge(name: str, place: FirestorePlace, table: str) -> tuple[str, list[str]]:
    """Return whether *table* has the old or the new state, and what is wrong there."""
    scenario = SCENARIOS[name]
    problems: list[str] = []
    with open_table(place, table) as memory:
        state = state_of(memory, scenario)
        found = memory.search("tea", limit=100)
        if not found["success"]:
            problems.append(f"search: {found}")
        elif any(state[each["key"]] != each["value"] for each in found["results"]):
            problems.append(f"search found another state: {found}")
        collected = memory.gc(grace=0)
        if not collected["success"]:
            problems.append(f"gc: {collected}")
        verified = memory.verify()
        if not verified["success"] or verified["unreferenced"]:
            problems.append(f"verify: {verified}")
        problems += place.faults()
        if state_of(memory, scenario) != state:
            problems.append("gc changed the present")
        # What the dead one had read stays locked for a minute, which may be the whole table.
        answer = memory.store("another key", LARGE + "next")
        if not answer["success"] and answer["error_type"] != "catalog_unavailable":
            problems.append(f"store: {answer}")
    absent = dict.fromkeys(state)
    states: dict[str, State] = {"old": scenario.old, "new": scenario.new}
    return next((each for each in states if absent | states[each] == state), "neither"), problems


def state_of(memory: DuckDBLTMBackend, scenario: killing.Scenario) -> State:
    absent: State = dict.fromkeys([*scenario.old, *scenario.new])
    return absent | {key: value for key, value, _ in memory.iterate_all()}


if __name__ == "__main__":
    kills, project, directory, *names = sys.argv[1:]
    # Of 24 documents, so that a small batch has several parts.
    firestore_batches.WRITES_PER_COMMIT = 10
    firestore_batches.PATIENCE_SECONDS = 0.0
    firestore_client.CONTENTION_SECONDS = 0.1
    place = FirestorePlace(project, directory)
    print(json.dumps({name: run(name, int(kills), place) for name in names}))
