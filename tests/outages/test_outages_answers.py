"""What an agent is answered while the catalog is unavailable, and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cut import LARGE, Cut, is_outage, is_stale

from ltm import CatalogUnavailableError, ValidationError, create_ltm_from_settings

VALUES = [None, False, 0, "", [], {}, -0.0, 1.0, 2**80, "\ud800\0", {"": [{"__x__": 1e16}]}, LARGE]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_was_read_lately_is_answered_as_stale_type_for_type(cut: Cut, value: Any) -> None:
    cut.memory.store("k", value, {"type": "note", "n": 1.0})
    fresh: dict[str, Any] = {**cut.memory.retrieve("k")}
    assert "stale" not in fresh
    stale = cut.stale("k")
    assert repr(stale) == repr(fresh | {"stale": True})


def test_without_the_option_nothing_is_answered_from_memory(tmp_path: Path) -> None:
    with Cut(tmp_path, stale_reads=False) as cut:
        cut.remember("k", 1)
        assert is_outage(cut.stale("k"))
        cut.fail()
        assert is_outage(cut.memory.retrieve_batch(["k"]))


def test_what_was_never_read_is_unavailable_and_not_absent(cut: Cut) -> None:
    cut.memory.store("written", 1)
    cut.memory.retrieve("absent")
    for key in ("written", "absent", "unheard of"):
        assert is_outage(cut.stale(key))


def test_a_batch_is_answered_as_far_as_it_is_known_and_nothing_is_missing(cut: Cut) -> None:
    cut.memory.store_batch([("a", 1), ("b", LARGE), ("c", 3)])
    fresh = cut.memory.retrieve_batch(["b", "a", "absent"])
    assert "stale" not in fresh
    cut.fail()
    whole = cut.memory.retrieve_batch(["b", "a"])
    assert whole == {
        "success": True,
        "results": fresh["results"],
        "entries": fresh["entries"],
        "missing": [],
        "found": 2,
        "errors": [],
        "stale": True,
    }
    assert list(whole["results"]) == ["b", "a"]
    part = cut.memory.retrieve_batch(["absent", "a", "c"])
    assert (part["success"], part["error_type"]) == (False, "catalog_unavailable")
    assert (part["results"], part["missing"], part["stale"]) == ({"a": 1}, [], True)
    assert [(each["key"], each["error_type"]) for each in part["errors"]] == [
        ("absent", "catalog_unavailable"),
        ("c", "catalog_unavailable"),
    ]
    assert is_outage(cut.memory.retrieve_batch(["absent", "c"]))
    assert is_stale(cut.memory.retrieve("b"), LARGE)


def test_no_write_succeeds_and_nothing_but_reads_of_keys_is_stale(cut: Cut) -> None:
    cut.memory.create_snapshot("s")
    cut.remember("k", "tea")
    cut.fail()
    memory = cut.memory
    assert is_outage(memory.search("tea"))
    assert is_outage(memory.search())
    assert is_outage(memory.retrieve("k", snapshot="s"))
    assert is_outage(memory.stats())
    for raising in (
        memory.iterate_all,
        lambda: memory.changes(None),
        lambda: [memory.diff("s", "s")],
    ):
        with pytest.raises(CatalogUnavailableError):
            list(raising())
    with pytest.raises(CatalogUnavailableError):
        memory.query("SELECT key FROM entries")
    assert is_stale(memory.retrieve("k"), "tea")
    assert is_outage(memory.update("k", lambda value: value + "!"))
    assert is_outage(memory.store("k", "coffee"))
    assert is_outage(memory.delete("k"))
    assert memory.store_batch([("k", 1)])["stored"] == 0
    assert is_outage(memory.restore("s"))
    assert is_outage(memory.create_snapshot("t"))
    assert memory.health_check()["catalog"]["error_type"] == "catalog_unavailable"
    cut.heal()
    assert memory.retrieve("k")["value"] == "tea"


def test_an_answer_that_is_changed_by_its_receiver_changes_no_other(cut: Cut) -> None:
    cut.memory.store("k", {"list": [1]}, {"tags": ["a"]})
    for answer in (cut.memory.retrieve("k"), cut.stale("k"), cut.stale("k")):
        assert (answer["value"], answer["metadata"]) == ({"list": [1]}, {"tags": ["a"]})
        answer["value"]["list"].append(2)
        answer["metadata"]["tags"].clear()
    cut.fail()
    entry = cut.memory.retrieve_batch(["k"])["entries"]["k"]
    assert (entry["value"], entry["metadata"]) == ({"list": [1]}, {"tags": ["a"]})


def test_after_the_outage_reads_are_fresh_without_a_restart(cut: Cut) -> None:
    cut.remember("k", 1)
    cut.fail()
    cut.elsewhere.store("k", 2)
    assert is_stale(cut.memory.retrieve("k"), 1)
    cut.heal()
    answer = cut.memory.retrieve("k")
    assert (answer["value"], "stale" in answer) == (2, False)
    assert cut.memory.store("k", 3)["success"]


def test_raised_errors_stay_raised_for_what_is_not_kept(tmp_path: Path) -> None:
    with Cut(tmp_path, raise_errors=True) as cut:
        cut.remember("k", 1)
        cut.fail()
        assert is_stale(cut.memory.retrieve("k"), 1)
        with pytest.raises(CatalogUnavailableError):
            cut.memory.retrieve("other")
        with pytest.raises(CatalogUnavailableError):
            cut.memory.retrieve_batch(["k", "other"])


def test_a_transaction_reads_nothing_stale(cut: Cut) -> None:
    cut.remember("k", 1)
    with cut.memory.transaction() as block:
        cut.fail()
        with pytest.raises(CatalogUnavailableError):
            block.retrieve("k")
        cut.heal()
    cut.fail()
    assert is_stale(cut.memory.retrieve("k"), 1)


@pytest.mark.parametrize("bound", ["stale_reads_entries", "stale_reads_bytes"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "1"])
def test_bounds_below_one_are_refused(tmp_path: Path, bound: str, wrong: Any) -> None:
    with pytest.raises(ValidationError, match=bound):
        Cut(tmp_path, **{bound: wrong})


def test_at_most_so_many_entries_are_kept_and_those_read_last(tmp_path: Path) -> None:
    with Cut(tmp_path, stale_reads_entries=3) as cut:
        cut.memory.store_batch([(key, key) for key in "abcd"])
        cut.memory.retrieve_batch(list("abc"))
        cut.memory.retrieve("a")
        cut.memory.retrieve("d")
        cut.fail()
        served = [key for key in "abcd" if cut.memory.retrieve(key)["success"]]
        assert served == ["a", "c", "d"]


def test_what_is_answered_in_an_outage_is_kept_longer_than_what_is_not(tmp_path: Path) -> None:
    with Cut(tmp_path, stale_reads_entries=2) as cut:
        for key in "ab":
            cut.remember(key, key)
        assert is_stale(cut.stale("a"), "a")
        cut.remember("c", "c")
        assert is_stale(cut.stale("a"), "a")
        assert is_outage(cut.stale("b"))


def test_at_most_so_many_bytes_of_text_are_kept(tmp_path: Path) -> None:
    with Cut(tmp_path, stale_reads_bytes=10_000) as cut:
        text = "x" * 2996  # in its quotes, and with {} of metadata, 3,000 bytes
        for number in range(5):
            cut.remember(f"k{number}", text)
        for _ in range(5):
            cut.memory.retrieve("k4")  # what is kept once counts once
        cut.memory.store("too large", "y" * 10_000)
        cut.memory.retrieve("too large")
        cut.memory.store("too large by metadata", 1, {"note": "z" * 10_000})
        cut.memory.retrieve("too large by metadata")
        cut.fail()
        served = [key for number in range(5) if cut.memory.retrieve(key := f"k{number}")["success"]]
        assert served == ["k2", "k3", "k4"]
        assert is_outage(cut.memory.retrieve("too large"))
        assert is_outage(cut.memory.retrieve("too large by metadata"))


def test_settings_ask_for_stale_reads(tmp_path: Path) -> None:
    settings = {
        "catalog": {"type": "sqlite", "path": str(tmp_path / "catalog.db")},
        "storage": str(tmp_path / "payloads"),
        "stale_reads": True,
        "stale_reads_entries": 10,
        "stale_reads_bytes": 1000,
    }
    with create_ltm_from_settings(settings) as memory:
        assert memory.store("k", 1)["success"]
    with pytest.raises(ValidationError, match="stale_reads_entries"):
        create_ltm_from_settings(settings | {"stale_reads_entries": 0})
