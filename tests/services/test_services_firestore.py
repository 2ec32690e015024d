"""The Firestore emulator is what tests of documents rely on."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from google.api_core import exceptions
from google.cloud import firestore

from tests.services.firestore import FirestoreEmulator
from tests.services.fixtures import running
from tests.services.processes import ServiceDirectory, ServiceUnavailableError

ROOT = Path(__file__).resolve().parents[2]

ABANDONING = """
import os, signal
from tests.services.firestore import FirestoreEmulator

emulator = FirestoreEmulator()
emulator.start()
print(emulator.port, emulator.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def counter_in(project: str) -> firestore.DocumentReference:
    return firestore.Client(project=project).document("counters", "one")


@pytest.fixture
def document(firestore_project: str) -> firestore.DocumentReference:
    """A document of a project of the test's own."""
    return counter_in(firestore_project)


def read(document: firestore.DocumentReference, seconds: float = 30) -> object:
    """Return what the document holds, or raise the first error."""
    return document.get(retry=None, timeout=seconds).to_dict()


def test_the_emulator_answers(document: firestore.DocumentReference) -> None:
    document.set({"count": 7})
    assert read(document) == {"count": 7}


def test_projects_share_nothing(document: firestore.DocumentReference) -> None:
    document.set({"count": 7})
    assert read(counter_in("other-project")) is None


def test_a_stopped_emulator_comes_back_empty_on_its_port(
    firestore_emulator: FirestoreEmulator, document: firestore.DocumentReference
) -> None:
    port = firestore_emulator.port
    document.set({"count": 7})
    firestore_emulator.stop()
    assert not firestore_emulator.is_running
    with pytest.raises(exceptions.ServiceUnavailable):
        read(document)
    firestore_emulator.start()
    assert firestore_emulator.port == port
    while True:  # a client that was refused doesn't knock again at once
        try:
            assert read(document) is None
            break
        except exceptions.ServiceUnavailable:
            continue


def test_a_paused_emulator_is_silent_until_it_goes_on(
    firestore_emulator: FirestoreEmulator, document: firestore.DocumentReference
) -> None:
    document.set({"count": 7})
    firestore_emulator.pause()
    with pytest.raises(exceptions.DeadlineExceeded):
        read(document, seconds=0.2)
    firestore_emulator.resume()
    assert read(document) == {"count": 7}


def test_a_test_finds_the_emulator_at_work_whatever_became_of_it(
    firestore_emulator: FirestoreEmulator, request: pytest.FixtureRequest
) -> None:
    firestore_emulator.stop()
    project = request.getfixturevalue("firestore_project")
    assert read(counter_in(project)) is None
    firestore_emulator.pause()
    firestore_emulator.start()
    assert read(counter_in(project)) is None


def test_two_emulators_share_nothing(
    monkeypatch: pytest.MonkeyPatch, firestore_project: str, document: firestore.DocumentReference
) -> None:
    document.set({"count": 7})
    with running(FirestoreEmulator()) as other:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", other.address)
        assert read(counter_in(firestore_project)) is None
    assert read(document) == {"count": 7}


def test_commits_are_serializable(
    firestore_project: str, document: firestore.DocumentReference
) -> None:
    document.set({"count": 0})
    both_have_read = Barrier(2, timeout=30)

    @firestore.transactional
    def count_on(transaction: firestore.Transaction) -> None:
        count = document.get(transaction=transaction).get("count")
        both_have_read.wait()
        transaction.update(document, {"count": count + 1})

    def is_counted(client: firestore.Client) -> bool:
        try:
            count_on(client.transaction(max_attempts=1))
        except ValueError as error:
            if not isinstance(error.__cause__, exceptions.Aborted):
                raise
            return False
        return True

    client = firestore.Client(project=firestore_project)
    with ThreadPoolExecutor(2) as threads:
        counted = list(threads.map(is_counted, [client] * 2))
    # One waits for the other; that both give up in the same instant is rare and allowed.
    assert counted != [True, True]
    assert read(document) == {"count": sum(counted)}


def test_a_new_server_sweeps_away_the_emulator_of_a_killed_run(
    document: firestore.DocumentReference,
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", ABANDONING], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    port, left = run.stdout.split()
    socket.create_connection(("127.0.0.1", int(port))).close()
    ServiceDirectory("sweeping").remove()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))
    assert not Path(left).exists()
    assert read(document) is None


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"LTM_FIRESTORE_EMULATOR": "/nowhere/emulator.jar"}, "/nowhere/emulator.jar"),
        ({"JAVA_HOME": "/nowhere", "PATH": "/nowhere"}, "default-jre-headless"),
    ],
)
def test_what_the_emulator_misses_is_said(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], missing: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ServiceUnavailableError, match=missing):
        FirestoreEmulator().start()
