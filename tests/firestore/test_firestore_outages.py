"""A Firestore that goes away is an outage and nothing worse; when it is back all works on."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from firestore_place import FirestorePlace
from firestore_verbs import (
    ANSWERING,
    LARGE,
    RAISING,
    SNAPSHOT,
    catalog_verbs,
    prepare,
    track,
)
from outcomes import in_threads, is_outage, succeed

from ltm.errors import CatalogUnavailableError
from tests.services.firestore import FirestoreEmulator
from tests.services.fixtures import MakeProxy
from tests.services.proxy import FaultProxy

DEADLINE = 3.0
"""Seconds for one request."""

MARGIN = 8.0
"""Seconds that threads which all wait at once may take beyond it."""


class Network:
    """What lies between catalogs and the emulator, and can fail."""

    def __init__(self, emulator: FirestoreEmulator, proxy: FaultProxy) -> None:
        self.emulator = emulator
        self.proxy = proxy

    def fail(self, fault: str) -> None:
        """Fail in one of the ways of ``FAULTS``."""
        if fault == "stopped":
            self.emulator.stop()
        elif fault == "paused":
            self.emulator.pause()
        else:
            FAULTS[fault](self.proxy)
        if fault == "refuses":
            self.proxy.cut_all()

    def work(self) -> None:
        """Work again; what a stopped emulator held is lost."""
        self.emulator.start()
        self.proxy.pass_through()


FAULTS: dict[str, Callable[[FaultProxy], None]] = {
    "stopped": lambda _: None,
    "paused": lambda _: None,
    "refuses": FaultProxy.refuse,
    "resets": FaultProxy.reset,
    "is silent": FaultProxy.blackhole,
}


@pytest.fixture
def network(
    firestore_emulator: FirestoreEmulator,
    firestore_project: str,
    make_proxy: MakeProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> Network:
    """The way to the emulator that clients of this test take."""
    proxy = make_proxy(firestore_emulator.host, firestore_emulator.port)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"{proxy.host}:{proxy.port}")
    return Network(firestore_emulator, proxy)


def expect_outage(call: Callable[[], object]) -> str | None:
    """Return what is wrong with how *call* fails; None if it fails as it should, and in time."""
    began_at = time.monotonic()
    try:
        answer: Any = call()
    except CatalogUnavailableError as error:
        if not str(error).startswith("catalog firestore://"):
            return f"raised {error}"
    else:
        if not isinstance(answer, dict) or not is_outage(answer):
            return f"answered {answer!r}"
        if {"found", "value", "results", "deleted"} & answer.keys():
            return f"answered with {answer!r}"
    took = time.monotonic() - began_at
    return None if took < DEADLINE + MARGIN else f"took {took} seconds"


@pytest.mark.parametrize("fault", FAULTS)
def test_no_verb_takes_an_outage_for_an_answer_and_the_first_call_after_it_works(
    place: FirestorePlace, network: Network, fault: str
) -> None:
    with place.open(timeout=DEADLINE) as memory, place.catalog(timeout=DEADLINE) as catalog:
        prepare(memory)
        files = place.files()
        calls = catalog_verbs(catalog)
        calls |= {f"memory.{name}": partial(verb, memory) for name, verb in ANSWERING.items()}
        calls |= {f"memory.{name}": partial(verb, memory) for name, verb in RAISING.items()}
        names = list(calls)
        wrong: dict[str, str] = {}

        def run(number: int) -> None:
            problem = expect_outage(calls[names[number]])
            if problem is not None:
                wrong[names[number]] = problem

        network.fail(fault)
        # At once, so that the deadlines of a silent server run at once.
        in_threads(run, len(names))
        assert wrong == {}
        assert files <= place.files(), "a payload was deleted in the dark"
        network.work()
        began_at = time.monotonic()
        succeed(memory.store("new", "black tea"))
        assert succeed(memory.retrieve("new"))["value"] == "black tea"
        assert "new" in {hit["key"] for hit in succeed(memory.search("tea"))["results"]}
        assert "new" in {hit["key"] for hit in catalog.search("tea")}
        track(catalog, "tracked")
        assert time.monotonic() - began_at < MARGIN
        # A stopped emulator has forgotten all.
        if fault != "stopped":
            assert succeed(memory.retrieve("large"))["value"] == LARGE
            assert succeed(memory.retrieve("k", snapshot=SNAPSHOT))["value"] == "tea"


def test_a_server_that_has_lost_its_documents_is_begun_with_anew(
    place: FirestorePlace, firestore_emulator: FirestoreEmulator
) -> None:
    with place.open() as memory:
        prepare(memory)
        firestore_emulator.stop()
        firestore_emulator.start()
        assert succeed(memory.retrieve("k", "a default"))["value"] == "a default"
        assert succeed(memory.store("new", LARGE))["created"]
        assert succeed(memory.retrieve("new"))["value"] == LARGE
        assert [each["key"] for each in succeed(memory.search("tea"))["results"]] == ["new"]
        assert succeed(memory.store_batch([("k", 1), ("large", 2)]))["stored"] == 2
        assert succeed(memory.create_snapshot("s"))["entry_count"] == 3


def test_callers_of_a_silent_server_do_not_wait_for_one_another(
    place: FirestorePlace, network: Network
) -> None:
    with place.open(timeout=DEADLINE) as memory:
        prepare(memory)
        network.fail("is silent")
        verbs = [ANSWERING["search"], ANSWERING["retrieve"], ANSWERING["store"]]
        wrong: list[str] = []

        def use(thread: int) -> None:
            problem = expect_outage(lambda: verbs[thread % len(verbs)](memory))
            wrong.extend([] if problem is None else [problem])

        # One after another they would take a minute.
        in_threads(use, 30)
        assert wrong == []


def test_connections_cut_while_idle_cost_no_call(place: FirestorePlace, network: Network) -> None:
    with place.open() as memory:
        prepare(memory)
        for name in ("store", "retrieve", "search", "store_batch", "create_snapshot", "stats"):
            network.proxy.cut_all()
            succeed(ANSWERING[name](memory))


@pytest.mark.parametrize("after", [0, 100, 400])
def test_a_read_that_is_cut_amid_its_answer_is_asked_again(
    place: FirestorePlace, network: Network, after: int
) -> None:
    reads = ("retrieve", "retrieve what is not there", "retrieve as of", "retrieve_batch", "search")
    with place.open() as memory:
        prepare(memory)
        for name in (*reads, "search for the newest", "list_snapshots", "stats"):
            expected = succeed(ANSWERING[name](memory))
            network.proxy.cut_after(after)
            assert ANSWERING[name](memory) == expected
            network.work()
        for name in ("iterate_all", "iterate_all as of", "changes"):
            expected = RAISING[name](memory)
            network.proxy.cut_after(after)
            assert RAISING[name](memory) == expected
            network.work()


def test_a_slow_network_only_takes_longer(place: FirestorePlace, network: Network) -> None:
    with place.open() as memory:
        network.proxy.latency(0.005)
        prepare(memory)
        for name in ("update", "gc", "verify", "restore", "health_check"):
            succeed(ANSWERING[name](memory))


def test_garbage_is_not_collected_by_what_a_failing_catalog_says(
    place: FirestorePlace, network: Network
) -> None:
    with place.open(timeout=DEADLINE) as memory:
        prepare(memory)
        succeed(memory.store("large", LARGE + "!"))
        stray = place.storage / memory.catalog.table().storage_prefix / "ab"
        stray.mkdir(exist_ok=True)
        files = place.files()
        # At whichever of its requests the catalog goes away.
        for after in range(0, 1500, 150):
            network.proxy.cut_after(after)
            answer = memory.gc(grace=0)
            assert answer["success"] or is_outage(answer), answer
            assert place.referenced() <= place.files()
        network.fail("refuses")
        assert is_outage(memory.gc(grace=0))
        assert files == place.files()
