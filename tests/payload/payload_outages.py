"""What a store and a backend do while their server is away, slow, busy, or cut off mid-sentence."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import LTMError, PayloadError, PayloadNotFoundError
from ltm.payload.base import PayloadStore
from ltm.payload.remote import FsspecPayloadStore
from tests.services.fixtures import MakeHTTPProxy
from tests.services.http_proxy import HTTPProxy
from tests.services.object_server import ObjectPlace

TIMEOUT = 2.0
"""Seconds that a call of the store may take where the server is away."""

DEADLINE = 30.0
"""Seconds after which a call of the store counts as hanging, on the slowest of machines."""

LARGE = 50_000_000

OpenStore = Callable[..., PayloadStore]


class OutageSuite:
    """Every failure is a ``PayloadError`` in time, and absent is said only of what is absent."""

    busy_body: ClassVar[bytes]
    """What the service says when it has too much to do."""
    busy_type: ClassVar[str] = "application/xml"

    @pytest.fixture
    def place(self) -> ObjectPlace:
        """An empty bucket or container."""
        raise NotImplementedError

    @pytest.fixture
    def proxy(self, place: ObjectPlace, make_http_proxy: MakeHTTPProxy) -> HTTPProxy:
        return make_http_proxy(place)

    @pytest.fixture
    def open_store(self, place: ObjectPlace, proxy: HTTPProxy) -> Iterator[OpenStore]:
        """Open stores behind the proxy; they are closed after the test."""
        there = place.through(proxy)
        with ExitStack() as stack:

            def open_store(uri: str = there.uri, **more: Any) -> PayloadStore:
                settings = {"timeout": 60.0, "sleep": sleep_briefly, **more}
                store = FsspecPayloadStore(uri, storage_options=there.options, **settings)
                return stack.enter_context(closing(store))

            yield open_store

    @pytest.fixture
    def sound(self, place: ObjectPlace) -> Iterator[PayloadStore]:
        """A store that knows no proxy, with one object."""
        store = FsspecPayloadStore(place.uri, storage_options=place.options)
        with closing(store):
            store.write("a/old", b"old")
            yield store

    def refuse_one_in(self, count: int, proxy: HTTPProxy, status: int = 503) -> None:
        """Let the server have too much to do for one in *count* requests."""
        headers = f"Content-Type: {self.busy_type}\r\n"
        proxy.answer(status, self.busy_body, one_in=count, headers=headers)

    @pytest.fixture
    def memory(self, tmp_path: Path, open_store: OpenStore) -> Iterator[DuckDBLTMBackend]:
        """A backend that sends one request after the other, so that each has its third refused."""
        store = open_store(max_workers=1)
        catalog = SQLiteCatalog(tmp_path / "catalog.db")
        with DuckDBLTMBackend(catalog, store=store, owns_catalog=True) as memory:
            assert memory.store("old", text_of("old"))["success"]
            yield memory

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_one_refusal_in_three_goes_unnoticed(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy, status: int
    ) -> None:
        self.refuse_one_in(3, proxy, status)
        store = open_store()
        contents = {f"a/{number}": os.urandom(10_000) for number in range(6)}
        for path, content in contents.items():
            store.write(path, content)
        assert {path: store.read(path) for path in contents} == contents
        assert {found.path for found in store.list("a")} == {"a/old", *contents}
        for path in contents:
            store.delete(path)
        assert [found.path for found in sound.list("a")] == ["a/old"]

    def test_a_large_object_among_refusals_is_whole_or_an_error(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy
    ) -> None:
        store = open_store()
        content = os.urandom(LARGE)
        self.refuse_one_in(2, proxy)
        for path in ("a/one", "a/two"):
            assert outcome_of(lambda path=path: store.write(path, content)) is None
            # A driver may need many requests for it, none of which may be refused.
            found = outcome_of(lambda path=path: store.read(path))
            assert found == content or isinstance(found, PayloadError)
            store.end_pause()
            assert sound.read(path) == content

    @pytest.mark.parametrize("fault", ["refuse", "reset", "blackhole", "busy"])
    def test_a_server_that_is_away_is_an_error_in_time(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy, fault: str
    ) -> None:
        used = open_store(timeout=TIMEOUT)
        assert used.read("a/old") == b"old"
        if fault == "busy":
            self.refuse_one_in(1, proxy)
        else:
            getattr(proxy, fault)()
        if fault == "refuse":
            proxy.cut_all()  # connections that are open would go on
        for attempt in attempts_of(used):
            assert_fails_in_time(attempt)
            used.end_pause()
        fresh = open_store(timeout=TIMEOUT)
        assert_fails_in_time(lambda: fresh.read("a/old"))
        proxy.pass_through()
        proxy.answer(503, one_in=0)
        assert used.read("a/old") == b"old"
        # What was held back may arrive after all, and is whole then.
        left = {found.path: sound.read(found.path) for found in sound.list("a")}
        assert left in ({"a/old": b"old"}, {"a/old": b"old", "a/new": b"new"})
        assert fault == "blackhole" or "a/new" not in left

    def test_a_batch_against_a_silent_server_ends_in_time(
        self, open_store: OpenStore, proxy: HTTPProxy
    ) -> None:
        store = open_store(timeout=TIMEOUT)
        proxy.blackhole()
        begun = time.monotonic()
        outcomes = store.write_many([(f"a/{number}", b"1") for number in range(64)])
        contents = store.read_many([f"a/{number}" for number in range(64)])
        assert time.monotonic() - begun < DEADLINE
        for outcome in outcomes + contents:
            assert isinstance(outcome, PayloadError)
            assert not isinstance(outcome, PayloadNotFoundError)

    def test_what_trickles_is_given_up_in_time(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy
    ) -> None:
        sound.write("a/large", bytes(LARGE))
        store = open_store(timeout=TIMEOUT)
        assert store.read("a/old") == b"old"
        proxy.latency(TIMEOUT / 20)  # between chunks, so that no connection looks dead
        assert_fails_in_time(lambda: store.read("a/large"))
        assert_fails_in_time(lambda: store.write("a/new", bytes(LARGE)))
        proxy.cut_all()
        proxy.pass_through()
        assert [found.path for found in sound.list("a")] == ["a/large", "a/old"]

    def test_a_bucket_that_is_missing_is_not_a_missing_object(
        self, open_store: OpenStore, place: ObjectPlace
    ) -> None:
        store = open_store(place.uri.replace(place.name, f"{place.name}-none"))
        for attempt in attempts_of(store):
            assert_fails_in_time(attempt)

    def test_a_slow_server_is_waited_for(self, open_store: OpenStore, proxy: HTTPProxy) -> None:
        store = open_store()
        proxy.pause_before_each(0.3)
        items = [(f"a/{number}", os.urandom(10_000)) for number in range(20)]
        assert store.write_many(items) == [None] * 20
        assert store.read_many([path for path, _ in items]) == [content for _, content in items]

    def test_a_server_killed_in_the_middle_of_an_upload_is_an_error_in_time(
        self, open_store: OpenStore, place: ObjectPlace, proxy: HTTPProxy
    ) -> None:
        store = open_store(timeout=TIMEOUT * 2)
        store.write("a/warm", b"")
        proxy.hold_upload_after(LARGE // 3)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(outcome_of, lambda: store.write("a/one", bytes(LARGE)))
            assert proxy.has_held.wait(DEADLINE)
            place.server.stop()
            proxy.pass_through()
            outcome = writing.result(DEADLINE)
        assert isinstance(outcome, PayloadError)
        assert not isinstance(outcome, PayloadNotFoundError)
        place.server.start()
        place.server.make_bucket(place.name)
        store.end_pause()
        assert [*store.list("a")] == []
        store.write("a/one", b"whole")
        assert store.read("a/one") == b"whole"

    def test_an_upload_that_is_cut_is_made_again_or_is_an_error(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy
    ) -> None:
        store = open_store()
        content = os.urandom(LARGE)
        proxy.cut_upload_after(LARGE // 3)
        outcome = outcome_of(lambda: store.write("a/one", content))
        assert outcome is None
        assert sound.read("a/one") == content
        assert sorted(found.path for found in sound.list("a")) == ["a/old", "a/one"]

    def test_an_upload_that_never_gets_through_leaves_nothing_to_be_seen(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy
    ) -> None:
        store = open_store()
        proxy.hold_upload_after(LARGE // 3)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(outcome_of, lambda: store.write("a/one", bytes(LARGE)))
            assert proxy.has_held.wait(DEADLINE)
            proxy.reset()
            assert isinstance(writing.result(DEADLINE), PayloadError)
        assert [found.path for found in sound.list("a")] == ["a/old"]
        with pytest.raises(PayloadNotFoundError):
            sound.read("a/one")

    @pytest.mark.parametrize("byte_size", [1_000_000, LARGE])
    def test_a_download_that_is_cut_is_made_again(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy, byte_size: int
    ) -> None:
        content = os.urandom(byte_size)
        sound.write("a/one", content)
        store = open_store()
        for part in (3, 2):
            proxy.cut_after(byte_size // part)
            assert store.read("a/one") == content

    def test_what_was_done_though_its_answer_was_lost_is_done(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy
    ) -> None:
        store = open_store()
        for number in range(5):
            proxy.cut_after(0)
            store.write(f"a/{number}", b"%d" % number)
            assert sound.read(f"a/{number}") == b"%d" % number
            proxy.cut_after(0)
            store.delete(f"a/{number}")
        assert [found.path for found in sound.list("a")] == ["a/old"]

    def test_after_a_lost_answer_another_s_object_is_still_not_ours(
        self, open_store: OpenStore, sound: PayloadStore, proxy: HTTPProxy
    ) -> None:
        store = open_store()
        proxy.cut_after(0)
        with pytest.raises(PayloadError, match="taken"):
            store.write("a/old", b"new")
        assert sound.read("a/old") == b"old"

    def test_a_backend_whose_upload_is_cut_off_keeps_what_it_had(
        self, memory: DuckDBLTMBackend, proxy: HTTPProxy
    ) -> None:
        proxy.hold_upload_after(LARGE // 3)
        with ThreadPoolExecutor(1) as pool:
            storing = pool.submit(memory.store, "old", "x" * LARGE)
            assert proxy.has_held.wait(DEADLINE)
            proxy.reset()
            answer = storing.result(DEADLINE)
        assert (answer["success"], answer["error_type"]) == (False, "storage_error")
        for key in ("old", "absent"):
            proxy.reset()
            found = memory.retrieve(key)
            if key == "absent":
                assert found["found"] is False
            else:
                assert found["error_type"] == "storage_error"
        proxy.pass_through()
        memory.payloads.end_pause()
        assert memory.retrieve("old")["value"] == text_of("old")
        assert memory.store("old", text_of("new"))["success"]
        assert memory.gc(grace=0)["success"]
        assert memory.retrieve("old")["value"] == text_of("new")
        assert memory.verify()["problems"] == []

    def test_a_backend_behind_a_busy_server_answers_rightly(
        self, memory: DuckDBLTMBackend, proxy: HTTPProxy
    ) -> None:
        self.refuse_one_in(3, proxy)
        values = {f"k{number}": text_of(str(number)) for number in range(8)}
        stored = memory.store_batch([{"key": key, "value": text} for key, text in values.items()])
        assert stored["success"], stored
        entries = memory.retrieve_batch(values)["entries"]
        assert {key: entry["value"] for key, entry in entries.items()} == values
        assert memory.delete("old")["success"]
        assert memory.verify()["problems"] == []
        assert memory.gc(grace=0)["success"]

    def test_a_batch_that_fails_is_as_if_it_had_not_been(
        self, memory: DuckDBLTMBackend, proxy: HTTPProxy
    ) -> None:
        proxy.reset()
        entries = [{"key": key, "value": text_of(key + "!")} for key in ("old", "k1", "k2", "k3")]
        answer = memory.store_batch(entries, atomic=True)
        assert (answer["success"], answer["error_type"]) == (False, "storage_error")
        proxy.pass_through()
        memory.payloads.end_pause()
        assert memory.retrieve("old")["value"] == text_of("old")
        assert memory.retrieve_batch(["k1", "k2", "k3"])["entries"] == {}
        assert memory.verify()["problems"] == []


def text_of(word: str) -> str:
    """Return a value that goes to an object."""
    return word * 5_000


def sleep_briefly(seconds: float) -> None:
    """Make the pause before another attempt shorter."""
    time.sleep(min(seconds, 0.05))


def attempts_of(store: PayloadStore) -> list[Callable[[], object]]:
    """Return one call of each verb."""
    return [
        lambda: store.read("a/old"),
        lambda: store.write("a/new", b"new"),
        lambda: store.delete("a/none"),
        lambda: [*store.list("a")],
    ]


def outcome_of(attempt: Callable[[], Any]) -> Any:
    """Return what *attempt* returns, or the error of ltm that it raises."""
    try:
        return attempt()
    except LTMError as error:
        return error


def assert_fails_in_time(attempt: Callable[[], object]) -> None:
    begun = time.monotonic()
    outcome = outcome_of(attempt)
    assert time.monotonic() - begun < DEADLINE
    assert isinstance(outcome, PayloadError)
    assert not isinstance(outcome, PayloadNotFoundError)
