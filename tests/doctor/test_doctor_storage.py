"""What is wrong with a storage is told apart: on a local disk, and on a server of S3."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from findings import Findings, clock_ahead

from ltm.payload.diagnosis import describe_space
from ltm.payload.store import open_payload_store
from tests.services.object_server import ObjectPlace
from tests.services.processes import free_port
from tests.services.s3 import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

Examine = Callable[..., Findings]

MEMORY = {"type": "sqlite", "path": ":memory:"}


def storage(place: ObjectPlace, **more: Any) -> dict[str, Any]:
    return {"uri": place.uri, "options": place.options, **more}


@pytest.fixture(params=["s3", "gcs", "azure"])
def place(request: pytest.FixtureRequest) -> ObjectPlace:
    """A bucket or container on each kind of server in turn."""
    found: ObjectPlace = request.getfixturevalue(f"{request.param}_place")
    return found


def test_a_healthy_bucket_has_neither_problems_nor_warnings(
    examine: Examine, place: ObjectPlace
) -> None:
    found = examine(MEMORY, storage(place))
    assert (found.problems, found.warnings) == ([], [])
    assert found.states("storage") == found.states("clock") == ["ok"]
    assert "disk" not in [each.check for each in found.all]


def test_a_bucket_that_is_missing_is_told(examine: Examine, place: ObjectPlace) -> None:
    missing = f"{place.server.protocol}://no-such-bucket/payloads"
    found = examine(MEMORY, storage(place) | {"uri": missing})
    assert found.problems == ["storage"]
    assert "there is no such bucket" in found.only("storage").message
    assert found.only("storage").error_type == "storage_error"
    # The catalog is used all the same, as far as it can be without.
    assert found.states("round_trip") == ["ok"]


def test_a_bucket_that_refuses_writes_is_told(examine: Examine, s3_place: ObjectPlace) -> None:
    import boto3

    client = boto3.client(
        "s3",
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        endpoint_url=s3_place.options["endpoint_url"],
        region_name=REGION,
    )
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{s3_place.name}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    with closing(client):
        client.put_bucket_policy(Bucket=s3_place.name, Policy=json.dumps(policy))
    found = examine(MEMORY, storage(s3_place))
    assert found.problems == ["storage"]
    assert "access is denied" in found.only("storage").message
    assert SECRET_ACCESS_KEY not in found.text


def test_an_endpoint_that_does_not_answer_is_told(examine: Examine, s3_place: ObjectPlace) -> None:
    options = s3_place.options | {"endpoint_url": f"http://127.0.0.1:{free_port()}"}
    found = examine(MEMORY, {"uri": s3_place.uri, "options": options, "timeout": 5})
    assert found.problems == ["storage"]
    assert "the endpoint does not answer" in found.only("storage").message


def test_a_storage_that_is_silent_is_given_up(examine: Examine, s3_place: ObjectPlace) -> None:
    s3_place.server.pause()
    found = examine(MEMORY, storage(s3_place, timeout=2))
    assert found.problems == ["storage"]
    assert "the endpoint does not answer" in found.only("storage").message


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, "ok"), (20, "warning"), (-20, "warning"), (90, "problem")]
)
def test_a_clock_that_differs_from_the_storages_is_told(
    examine: Examine, s3_place: ObjectPlace, seconds: float, state: str
) -> None:
    found = examine(MEMORY, storage(s3_place), clock_ahead(seconds))
    assert found.only("clock").state == state


def test_a_file_in_the_way_of_the_directory_is_told(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "payloads").write_text("a file")
    found = examine(MEMORY)
    assert found.problems == ["storage"]
    assert "no directory is in the way" in found.only("storage").message


ON_A_SMALL_DISK = """
import json, os, subprocess, sys
from dataclasses import asdict
from ltm import create_ltm_backend
from ltm.doctor import diagnose
disk, fault = sys.argv[1:]
settings = {"catalog": {"type": "sqlite", "path": f"{disk}/c.db"}, "storage": f"{disk}/payloads"}
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
with create_ltm_backend(catalog_config=settings["catalog"], storage_uri=settings["storage"]) as m:
    assert m.store("k", "x" * 5000)["success"]
if fault == "full":
    descriptor = os.open(f"{disk}/rest", os.O_CREAT | os.O_WRONLY)
    try:
        while os.write(descriptor, b"x" * 4096):
            pass
    except OSError:
        pass
else:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
print(json.dumps([asdict(each) for each in diagnose(settings)]))
"""


@pytest.mark.parametrize(
    ("fault", "words"), [("full", "the disk is full"), ("read-only", "is read-only")]
)
def test_a_disk_that_is_full_or_read_only_is_told_of_catalog_and_storage(
    tmp_path: Path, fault: str, words: str
) -> None:
    (tmp_path / "disk").mkdir()
    program = [sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path / "disk"), fault]
    alone = ["unshare", "--map-root-user", "--mount"]
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no unshare, or no leave to mount a disk of the test's own")
    done = subprocess.run(
        [*alone, *program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {each["check"]: each for each in json.loads(done.stdout) if each["state"] == "problem"}
    assert words in found["storage"]["message"]
    assert "nothing can be written" in found["writable"]["message"]
    # Even reading takes a shared memory beside the file.
    assert set(found) - {"catalog"} == {"storage", "writable"}


def test_a_disk_that_is_nearly_full_is_a_warning(tmp_path: Path) -> None:
    with closing(open_payload_store(tmp_path)) as store:
        enough, short = describe_space(store), describe_space(store, 2**62)
    assert enough is not None
    assert enough.state == "ok"
    assert short is not None
    assert short.state == "warning"
    assert "ltm gc" in str(short.remedy)


def test_payloads_in_one_duckdb_file_are_well(examine: Examine, tmp_path: Path) -> None:
    found = examine(MEMORY, str(tmp_path / "payloads.duckdb"))
    assert (found.problems, found.warnings) == ([], [])


def test_an_address_that_no_driver_knows_is_told(examine: Examine) -> None:
    found = examine(MEMORY, "nonsense://user:hidden@place/x")
    assert found.problems == ["storage", "round_trip"]
    assert "hidden" not in found.text
