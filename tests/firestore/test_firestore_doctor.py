"""What is wrong with a Firestore catalog is told apart."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from firestore_place import FirestorePlace
from test_firestore_setup import Index, defined_indexes, record_indexes

from ltm.catalog.firestore_access import Place
from ltm.catalog.firestore_client import FirestoreClient
from ltm.catalog.firestore_diagnosis import missing_indexes
from ltm.catalog.firestore_session import Collections
from ltm.catalog.firestore_setup import index_definitions
from ltm.clock import utc_now
from ltm.doctor import diagnose
from ltm.finding import Finding
from tests.services.processes import free_port


def examine(project: str | None, place: FirestorePlace, **options: Any) -> dict[str, Finding]:
    catalog = {"type": "firestore", "timeout": 3, "index_directory": str(place.directory)}
    if project is not None:
        catalog["project"] = project
    found = diagnose({"catalog": catalog, "storage": str(place.storage)}, **options)
    return {each.check: each for each in found if each.state != "ok" or each.check == "clock"}


def test_a_healthy_catalog_has_no_problem_and_the_emulator_is_named(place: FirestorePlace) -> None:
    found = examine(place.project, place)
    assert {name: each.state for name, each in found.items()} == {
        "catalog": "warning",
        "indexes": "skipped",
        "clock": "ok",
    }
    assert "keeps all in memory" in found["catalog"].message
    assert "asks for no indexes" in found["indexes"].message


def test_looking_leaves_no_document(place: FirestorePlace) -> None:
    examine(place.project, place)
    assert all(place.documents(each) == {} for each in Collections.of(""))


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, "ok"), (20, "warning"), (-20, "warning"), (90, "problem")]
)
def test_a_clock_that_differs_from_firestores_is_told(
    place: FirestorePlace, seconds: float, state: str
) -> None:
    def clock() -> datetime:
        return utc_now() + timedelta(seconds=seconds)

    assert examine(place.project, place, clock=clock)["clock"].state == state


def test_a_server_that_is_not_there_is_one_plain_finding(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    found = examine(place.project, place)
    assert found["catalog"].state == "problem"
    assert found["catalog"].error_type == "catalog_unavailable"
    assert found["catalog"].message == f"nobody answers for firestore://{place.project}/(default)"
    assert found["round_trip"].state == "skipped"


def test_credentials_that_are_missing_are_told(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(place.directory))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    found = examine("some-project", place)
    assert found["catalog"].state == "problem"
    assert "no credentials" in found["catalog"].message
    assert "application-default login" in str(found["catalog"].remedy)


def test_every_index_is_asked_for_once_and_nothing_else(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Index] = []
    record_indexes(monkeypatch, asked.append)
    client = FirestoreClient(Place(place.project, "(default)", None))
    try:
        assert missing_indexes(client, "", utc_now()) == []
    finally:
        client.close()
    defined = defined_indexes()
    assert not [each for each in asked if each.is_automatic]
    numbers = Counter(defined[each] for each in asked)
    assert numbers == Counter(range(len(index_definitions()["indexes"])))
