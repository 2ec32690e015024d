"""The circuit breaker: when calls are refused, who is let through, and what it costs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from payload_unreliable import HandClock, Unreliable

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.payload.breaker import FAILURES_TO_OPEN, PAUSE_SECONDS, CircuitBreaker
from ltm.payload.local import LocalPayloadStore

RESET = ConnectionResetError("reset")
ATTEMPTS = 4


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def breaker(clock: HandClock) -> CircuitBreaker:
    return CircuitBreaker(clock)


def fail(breaker: CircuitBreaker, times: int = FAILURES_TO_OPEN) -> None:
    for _ in range(times):
        assert breaker.admit()
        breaker.fail()


def break_down(unreliable: Unreliable) -> None:
    """Let calls fail until the circuit is open, and forget them."""
    for _ in range(FAILURES_TO_OPEN):
        unreliable.faults[:] = [RESET] * ATTEMPTS
        with pytest.raises(PayloadError, match="reset"):
            unreliable.store.read("a/one")
    unreliable.calls.clear()


def test_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, FAILURES_TO_OPEN - 1)
    assert breaker.state == "closed"
    fail(breaker, 1)
    assert breaker.state == "open"
    assert not breaker.admit()


def test_a_success_in_between_begins_the_count_anew(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        fail(breaker, FAILURES_TO_OPEN - 1)
        assert breaker.admit()
        breaker.succeed()
    assert breaker.state == "closed"


def test_it_refuses_until_its_pause_is_over(breaker: CircuitBreaker, clock: HandClock) -> None:
    fail(breaker)
    assert breaker.seconds_left == PAUSE_SECONDS
    clock.now += PAUSE_SECONDS - 0.001
    assert (breaker.state, breaker.admit()) == ("open", False)
    clock.now += 0.001
    assert (breaker.state, breaker.seconds_left, breaker.admit()) == ("half_open", 0, True)


def test_half_open_it_lets_one_of_many_threads_through(
    breaker: CircuitBreaker, clock: HandClock
) -> None:
    fail(breaker)
    clock.now += PAUSE_SECONDS
    with ThreadPoolExecutor(8) as pool:
        admitted = [*pool.map(lambda _: breaker.admit(), range(200))]
    assert admitted.count(True) == 1
    breaker.succeed()
    assert breaker.state == "closed"
    assert breaker.admit()


def test_a_trial_that_fails_begins_another_pause(breaker: CircuitBreaker, clock: HandClock) -> None:
    fail(breaker)
    clock.now += PAUSE_SECONDS
    fail(breaker, 1)
    assert (breaker.state, breaker.seconds_left) == ("open", PAUSE_SECONDS)


def test_a_trial_that_shows_nothing_leaves_it_to_the_next(
    breaker: CircuitBreaker, clock: HandClock
) -> None:
    fail(breaker)
    clock.now += PAUSE_SECONDS
    assert breaker.admit()
    breaker.withdraw()
    assert breaker.state == "half_open"
    assert breaker.admit()


def test_a_call_that_fails_late_does_not_make_the_pause_longer(
    breaker: CircuitBreaker, clock: HandClock
) -> None:
    assert breaker.admit()
    fail(breaker)
    clock.now += PAUSE_SECONDS / 2
    breaker.fail()
    assert breaker.seconds_left == PAUSE_SECONDS / 2


def test_a_pause_can_be_ended(breaker: CircuitBreaker) -> None:
    breaker.end_pause()
    assert breaker.state == "closed"
    fail(breaker)
    breaker.end_pause()
    assert breaker.state == "half_open"


def test_an_open_circuit_fails_at_once_and_says_when_it_will_not(unreliable: Unreliable) -> None:
    assert unreliable.store.circuit == "closed"
    break_down(unreliable)
    assert unreliable.store.circuit == "open"
    pauses = len(unreliable.pauses)
    for attempt in (
        lambda: unreliable.store.write("a/one", b"1"),
        lambda: unreliable.store.read("a/one"),
        lambda: unreliable.store.delete("a/one"),
        lambda: [*unreliable.store.list("a")],
    ):
        with pytest.raises(PayloadError, match=r"circuit is open.* in 15\.0 seconds") as caught:
            attempt()
        assert not isinstance(caught.value, PayloadNotFoundError)
    assert unreliable.calls == []
    assert len(unreliable.pauses) == pauses


def test_after_the_pause_a_store_that_works_is_used_again(unreliable: Unreliable) -> None:
    break_down(unreliable)
    unreliable.clock.now += PAUSE_SECONDS
    unreliable.faults.clear()
    unreliable.store.write("a/one", b"1")
    assert unreliable.store.circuit == "closed"
    assert unreliable.store.read("a/one") == b"1"


@pytest.mark.parametrize(
    "answer", [FileNotFoundError("none"), PermissionError("403"), OSError(22, "bad")], ids=repr
)
def test_an_answer_is_no_failure_of_the_connection(
    unreliable: Unreliable, answer: Exception
) -> None:
    for _ in range(2 * FAILURES_TO_OPEN):
        unreliable.faults[:] = [answer]
        with pytest.raises(PayloadError):
            unreliable.store.read("a/one")
    assert unreliable.store.circuit == "closed"
    break_down(unreliable)
    unreliable.clock.now += PAUSE_SECONDS
    unreliable.faults[:] = [answer]
    with pytest.raises(PayloadError):
        unreliable.store.read("a/one")
    assert unreliable.store.circuit == "closed"


def test_what_is_neither_decides_nothing(unreliable: Unreliable) -> None:
    break_down(unreliable)
    unreliable.clock.now += PAUSE_SECONDS
    unreliable.faults[:] = [ValueError("an option that the driver does not take")]
    with pytest.raises(PayloadError, match="does not take"):
        unreliable.store.read("a/one")
    assert unreliable.store.circuit == "half_open"
    with pytest.raises(PayloadNotFoundError):
        unreliable.store.read("a/one")
    assert unreliable.store.circuit == "closed"


def test_an_interrupted_trial_leaves_it_to_the_next(unreliable: Unreliable) -> None:
    break_down(unreliable)
    unreliable.clock.now += PAUSE_SECONDS
    unreliable.faults[:] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        unreliable.store.read("a/one")
    unreliable.store.write("a/one", b"1")
    assert unreliable.store.circuit == "closed"


def test_a_batch_ends_as_soon_as_the_circuit_opens(unreliable: Unreliable) -> None:
    unreliable.faults[:] = [RESET] * 10_000
    paths = [f"a/{number}" for number in range(1000)]
    contents = unreliable.store.read_many(paths)
    assert all(isinstance(each, PayloadError) for each in contents)
    # Those under way go on to their next attempt at most.
    workers = unreliable.store.max_workers
    assert len(unreliable.calls) <= ATTEMPTS * (FAILURES_TO_OPEN + workers)
    assert sum("circuit is open" in str(each) for each in contents) > 900
    unreliable.store.close()


def test_attempts_of_others_end_when_the_circuit_opens(unreliable: Unreliable) -> None:
    unreliable.faults[:] = [RESET] * 100
    is_nested = False

    def open_the_circuit(seconds: float) -> None:
        nonlocal is_nested
        if not is_nested:
            is_nested = True
            for _ in range(FAILURES_TO_OPEN):
                with pytest.raises(PayloadError):
                    store.read("a/one")
            unreliable.calls.clear()

    store = unreliable.open(sleep=open_the_circuit)
    with pytest.raises(PayloadError, match="reset"):
        store.read("a/one")
    assert unreliable.calls == ["cat_file"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_finds_out_for_itself(unreliable: Unreliable) -> None:
    unreliable.store.write("a/one", b"1")
    break_down(unreliable)
    unreliable.faults.clear()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if unreliable.store.read("a/one") == b"1" else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert unreliable.store.circuit == "open"


def test_a_health_check_tries_an_open_circuit_and_closes_it(
    unreliable: Unreliable, tmp_path
) -> None:
    with DuckDBLTMBackend(
        SQLiteCatalog(str(tmp_path / "c.db")), store=unreliable.store, owns_catalog=True
    ) as memory:
        assert memory.health_check()["storage"]["circuit"] == "closed"
        break_down(unreliable)
        unreliable.faults[:] = [RESET] * ATTEMPTS
        sick = memory.health_check()
        assert (sick["healthy"], sick["storage"]["circuit"]) == (False, "open")
        assert "reset" in sick["storage"]["error"]
        unreliable.faults.clear()
        well = memory.health_check()
        assert (well["healthy"], well["storage"]["circuit"]) == (True, "closed")


def test_a_local_store_has_no_circuit(tmp_path) -> None:
    store = LocalPayloadStore(str(tmp_path / "data"))
    store.end_pause()
    assert store.circuit is None
    with DuckDBLTMBackend(
        SQLiteCatalog(str(tmp_path / "c.db")), str(tmp_path / "data"), owns_catalog=True
    ) as memory:
        assert "circuit" not in memory.health_check()["storage"]
