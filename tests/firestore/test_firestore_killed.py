"""A client killed at any request leaves the old state or the new one, and nothing that stays.

``LTM_KILLS`` says how many random steps each verb is killed at: 1 if it is not set, and five times
as many for what takes several requests to commit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from firestore_place import FirestorePlace
from outcomes import succeed, wait_until
from starting import started

SCRIPT = Path(__file__).with_name("firestore_killing.py")
WORKERS = Path(__file__).with_name("firestore_workers.py")
KILLS = int(os.environ.get("LTM_KILLS", "1"))

CASES = {
    "staged batch": 5 * KILLS,
    "large over large": KILLS,
    "batch": KILLS,
    "delete": KILLS,
    "transaction": KILLS,
    "restore": KILLS,
    "snapshot": KILLS,
}


# Each by itself: the server may keep the locks of a client that was killed for a minute.
@pytest.mark.parametrize("name", CASES)
def test_what_is_killed_has_happened_whole_or_not_at_all(place: FirestorePlace, name: str) -> None:
    kills = CASES[name]
    command = [sys.executable, "-W", "error", SCRIPT, str(kills), place.project, place.directory]
    ended = subprocess.run(
        [*command, name], capture_output=True, text=True, timeout=110, check=False
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)[name]
    assert report["problems"] == []
    assert len(report["states"]) == kills
    assert set(report["states"]) <= {"old", "new"}


def test_a_writer_killed_amid_its_stores_leaves_each_key_with_a_value_it_stored(
    place: FirestorePlace,
) -> None:
    keys = [f"k{number}" for number in range(5)]
    with place.open() as memory:
        succeed(memory.store_batch([(key, "before".rjust(2000)) for key in keys]))
        with started(WORKERS, [("store_on", place.project, place.directory)]) as (worker,):
            wait_until(lambda: memory.retrieve("round")["value"] is not None, "nothing is stored")
            wait_until(lambda: memory.retrieve("round")["value"] >= 3, "nothing more is stored")
            worker.send_signal(signal.SIGKILL)
            worker.wait(30)
            last = memory.retrieve("round")["value"]
        found = memory.retrieve_batch(keys)
        assert found["errors"] == []
        for number, key in enumerate(keys):
            value = found["results"][key].strip()
            stored_in = {f"{last}/{number}", f"{last + 1}/{number}"}
            assert value in stored_in, value
        verified = memory.verify()
        assert verified["problems"] == []
        assert verified["unreferenced"] <= 2
        assert succeed(memory.gc(grace=0))["errors"] == []
        assert memory.verify()["unreferenced"] == 0
    assert place.faults() == []
    assert place.files() == place.referenced()
