"""Runs one verb again and again, each time killed a step later, and judges what is left.

A script, so that nothing but the verb runs in the processes that it forks and kills::

    python killing.py SCENARIO steps|syscalls DIRECTORY
    python killing.py DURABILITY calls DIRECTORY

It prints a report as JSON. In mode ``steps`` a step is a call of the operating system by the
payload store or a statement of the catalog. In mode ``syscalls`` it is a system call that changes
a file, whoever makes it: SQLite's writes inside of COMMIT are among them. Mode ``calls`` kills
nothing and reports these system calls with their files. The latter two need Linux.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from place import Place
from tracing import Call, follow, let_trace, reason_not_to_trace

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.testing.clock import FakeClock

State = dict[str, Any]
"""Values by key; None for those that are absent."""

SMALL, LARGE = "small" * 10, "large" * 1000
TTL = 10


class Scenario(NamedTuple):
    prepare: Callable[[DuckDBLTMBackend], object] | None
    """What was done long before; None for nothing, not even a schema."""
    act: Callable[[DuckDBLTMBackend], Any]
    old: State
    new: State
    is_late: bool = False
    """Whether it acts after what was stored with a TTL has expired."""
    stride: int = 1
    """It is killed at every so many steps."""


def store(key: str, value: object, **options: Any) -> Callable[[DuckDBLTMBackend], Any]:
    return lambda memory: memory.store(key, value, **options)


def store_batch(values: State, **options: Any) -> Callable[[DuckDBLTMBackend], Any]:
    entries = [{"key": key, "value": value, **options} for key, value in values.items()]
    return lambda memory: memory.store_batch(entries)


BATCH_OLD = {"a": LARGE + "a", "b": SMALL + "b", "c": None, "d": LARGE + "d"}
BATCH_NEW = {"a": LARGE + "a new", "b": LARGE + "b", "c": 0, "d": SMALL}
EXPIRING = {"a": LARGE + "a", "b": SMALL + "b", "c": LARGE + "c"}


def store_together(memory: DuckDBLTMBackend) -> dict[str, bool]:
    with memory.transaction():
        memory.delete("a")
        memory.store("b", LARGE + "b")
        memory.store("c", SMALL)
    return {"success": True}


def snapshot_and_overwrite(memory: DuckDBLTMBackend) -> None:
    memory.store("k", LARGE)
    memory.store("gone", LARGE + "gone")
    memory.create_snapshot("before")
    memory.store("k", LARGE + "!")
    memory.delete("gone")


MANY = {f"k{number:04}": number for number in range(1000)}

SCENARIOS = {
    "large over large": Scenario(
        store("k", LARGE), store("k", LARGE + "!"), {"k": LARGE}, {"k": LARGE + "!"}
    ),
    "small over large": Scenario(store("k", LARGE), store("k", SMALL), {"k": LARGE}, {"k": SMALL}),
    "large over small": Scenario(store("k", SMALL), store("k", LARGE), {"k": SMALL}, {"k": LARGE}),
    "small over small": Scenario(store("k", SMALL), store("k", 1), {"k": SMALL}, {"k": 1}),
    "large over expired": Scenario(
        store("k", LARGE, ttl=TTL),
        store("k", LARGE + "!"),
        {"k": LARGE},
        {"k": LARGE + "!"},
        is_late=True,
        stride=2,
    ),
    "first use": Scenario(None, store("k", LARGE), {"k": None}, {"k": LARGE}, stride=3),
    "update": Scenario(
        store("k", LARGE),
        lambda memory: memory.update("k", lambda value: value + "!"),
        {"k": LARGE},
        {"k": LARGE + "!"},
    ),
    "delete": Scenario(
        store_batch({"k": LARGE, "other": LARGE}),
        lambda memory: memory.delete("k"),
        {"k": LARGE, "other": LARGE},
        {"k": None, "other": LARGE},
    ),
    "batch": Scenario(
        store_batch({key: value for key, value in BATCH_OLD.items() if value is not None}),
        store_batch(BATCH_NEW),
        BATCH_OLD,
        BATCH_NEW,
    ),
    # A transaction takes it in chunks of 500.
    "large batch": Scenario(
        store("k0000", SMALL),
        store_batch(MANY),
        dict.fromkeys(MANY) | {"k0000": SMALL},
        MANY,
        stride=12,
    ),
    "transaction": Scenario(
        store_batch({"a": LARGE, "b": LARGE}),
        store_together,
        {"a": LARGE, "b": LARGE, "c": None},
        {"a": None, "b": LARGE + "b", "c": SMALL},
        stride=2,
    ),
    "restore": Scenario(
        snapshot_and_overwrite,
        lambda memory: memory.restore("before"),
        {"k": LARGE + "!", "gone": None},
        {"k": LARGE, "gone": LARGE + "gone"},
        stride=2,
    ),
    "cleanup": Scenario(
        store_batch(EXPIRING, ttl=TTL),
        lambda memory: memory.cleanup_expired(),
        EXPIRING,
        dict.fromkeys(EXPIRING),
        is_late=True,
        stride=2,
    ),
}


class Attempt(NamedTuple):
    """One run of a verb in a process of its own."""

    was_killed: bool
    has_answered: bool
    """Whether the verb returned a success."""
    step: str
    """The step at which it was killed."""


# Killing


def attempt_steps(act: Callable[[], Any], kill_at: int) -> Attempt:
    """Run *act* in a child that kills itself at step *kill_at*, from 1."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _run_child(lambda: _count_steps(kill_at, writer, os.write), act, writer)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    return _judge_child(status, reader)


def attempt_syscalls(act: Callable[[], Any], kill_at: int) -> Attempt:
    """Run *act* in a child killed before its file-changing system call number *kill_at*, from 1."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _run_child(let_trace, act, writer)
    os.close(writer)
    os.waitpid(child, 0)
    calls = follow(child)
    for number, (name, _) in enumerate(calls, 1):
        if number == kill_at:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return _judge_child(status, reader)._replace(step=f"before {name}")
    return _judge_child(0, reader)


def list_calls(act: Callable[[], Any]) -> list[Call]:
    """Run *act* in a child and return the file-changing system calls that it made."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _run_child(let_trace, act, writer)
    os.close(writer)
    os.waitpid(child, 0)
    calls = [*follow(child)]
    assert _judge_child(0, reader).has_answered
    return calls


def _run_child(prepare: Callable[[], object], act: Callable[[], Any], writer: int) -> None:
    write, leave = os.write, os._exit
    try:
        prepare()
        if act()["success"]:
            write(writer, b"answered\n")
            leave(0)
    finally:
        leave(1)


def _judge_child(status: int, reader: int) -> Attempt:
    with os.fdopen(reader) as lines:
        said = lines.read().splitlines()
    was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not was_killed and status != 0:
        raise AssertionError(f"the verb failed: status {status}, {said}")
    step = said[-1] if said and was_killed else ""
    return Attempt(was_killed, "answered" in said, step)


def _count_steps(kill_at: int, writer: int, write: Callable[[int, bytes], int]) -> None:
    """Make this process kill itself at the step *kill_at* of all that follow."""
    passed = 0

    def step(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == kill_at:
            write(writer, name.encode() + b"\n")
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("open", "write", "fsync", "link", "rename", "replace", "unlink", "makedirs"):
        setattr(os, name, _between_steps(name, getattr(os, name), step))
    connect, last = sqlite3.connect, ""

    def state(statement: str) -> None:
        # A trigger is traced like what sets it off, and FTS's own statements come as comments.
        nonlocal last
        name = " ".join(statement.split()[:3])
        if name != last and not name.startswith("--"):
            last = name
            step(name)

    def connect_traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(state)
        return connection

    sqlite3.connect = connect_traced


def _between_steps(
    name: str, call: Callable[..., Any], step: Callable[[str], None]
) -> Callable[..., Any]:
    def between(*arguments: Any, **options: Any) -> Any:
        step(f"before {name}")
        answer = call(*arguments, **options)
        step(f"after {name}")
        return answer

    return between


# Judging


def report_calls(directory: Path, durability: str) -> dict[str, Any]:
    """Return the calls of a store of a large value over another one, nothing being new to it."""
    place = Place(directory)

    def prepare() -> DuckDBLTMBackend:
        memory = place.open(max_workers=1, durability=durability)
        for value in (SMALL, LARGE):
            memory.store("k", value)
        return memory

    prepare().close()
    calls = list_calls(lambda: prepare().store("k", LARGE + "!"))
    link = max(index for index, call in enumerate(calls) if call.name in ("link", "linkat"))
    return {"calls": calls[link - 2 :]}


def run(scenario: Scenario, mode: str, directory: Path) -> dict[str, Any]:
    """Kill *scenario* at every step in turn until it gets through, and report what was left."""
    attempt = {"steps": attempt_steps, "syscalls": attempt_syscalls}[mode]
    template = Place(directory / "template")
    template.directory.mkdir()
    if scenario.prepare is not None:
        with template.open(clock=FakeClock(), max_workers=1) as memory:
            scenario.prepare(memory)
    _warm_up(scenario, Place(directory / "rehearsal"), template)
    kept = template.files()
    states: list[str] = []
    steps: list[str] = []
    problems: list[str] = []
    was_killed = True
    while was_killed:
        place = Place(directory / "attempt")
        shutil.copytree(template.directory, place.directory)
        number = len(states) * scenario.stride + 1
        was_killed, has_answered, step = attempt(lambda place=place: _act(scenario, place), number)
        state, found = judge(scenario, place, kept)
        if has_answered and state != "new":
            found.append("what was answered as done is not there")
        problems += [f"step {number} ({step}): {problem}" for problem in found]
        states.append(state)
        steps.append(step)
        shutil.rmtree(place.directory)
    return {"states": states, "steps": steps, "problems": problems}


def _warm_up(scenario: Scenario, place: Place, template: Place) -> None:
    """Import here what the children would each import."""
    shutil.copytree(template.directory, place.directory)
    with _open(scenario, place) as memory:
        assert scenario.act(memory)["success"]
    shutil.rmtree(place.directory)


def _act(scenario: Scenario, place: Place) -> Any:
    return scenario.act(_open(scenario, place))


def _open(scenario: Scenario, place: Place) -> DuckDBLTMBackend:
    clock = FakeClock()
    if scenario.is_late:
        clock.advance(TTL)
    return place.open(clock=clock, max_workers=1)


def judge(scenario: Scenario, place: Place, kept: set[str]) -> tuple[str, list[str]]:
    """Return whether *place* has the old or the new state, and what is wrong there.

    Args:
        scenario: What was under way.
        place: Where it was.
        kept: The payload files that were there before.
    """
    problems: list[str] = []
    with place.open(clock=FakeClock(), max_workers=1) as memory:
        answer = memory.retrieve_batch(scenario.old)
        problems += [f"{each['key']}: {each['error']}" for each in answer.get("errors", [])]
        state = {key: answer["results"].get(key) for key in scenario.old}
        problems += place.faults()
        accounted = place.referenced() | place.scheduled()
        problems += [f"forgotten: {path}" for path in (place.files() & kept) - accounted]
        strays = place.files() - kept - accounted
        if len(strays) > 2 * len(scenario.new):
            problems.append(f"{len(strays)} unreferenced files")
        problems += _try_next(memory, next(iter(scenario.new)))
    names = {"old": scenario.old, "new": scenario.new}
    return next((name for name in names if names[name] == state), "neither"), problems


def _try_next(memory: DuckDBLTMBackend, key: str) -> list[str]:
    answer = memory.store(key, LARGE + "next")
    if not answer["success"]:
        return [f"next store of {key}: {answer['error']}"]
    found = memory.retrieve(key)
    return [] if found.get("value") == LARGE + "next" else [f"next store of {key}: {found}"]


if __name__ == "__main__":
    name, mode, directory = sys.argv[1:]
    reason = None if mode == "steps" else reason_not_to_trace()
    if reason is not None:
        report: dict[str, Any] = {"skip": reason}
    elif mode == "calls":
        report = report_calls(Path(directory), name)
    else:
        report = run(SCENARIOS[name], mode, Path(directory))
    print(json.dumps(report))
