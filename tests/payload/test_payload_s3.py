"""Payloads on S3: what every store does, and what only a real server shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from payload_objects import ObjectSuite, OpenStore
from payload_outages import OutageSuite
from payload_requests import RequestSuite

from ltm.config import parse_settings
from ltm.factory import create_ltm_from_settings
from ltm.payload.base import PayloadStore
from ltm.payload.store import open_payload_store
from ltm.testing.payload_suite import PayloadStoreSuite
from tests.services.fixtures import MakeHTTPProxy
from tests.services.object_server import ObjectPlace
from tests.services.s3 import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY


class TestS3(PayloadStoreSuite):
    @pytest.fixture(autouse=True)
    def bucket(self, s3_place: ObjectPlace) -> None:
        self.place = s3_place

    def make_store(self, tmp_path: Path) -> PayloadStore:
        return open_payload_store(self.place.uri, storage_options=self.place.options)


class TestS3Objects(ObjectSuite):
    @pytest.fixture
    def place(self, s3_place: ObjectPlace) -> ObjectPlace:
        return s3_place

    def test_requests_are_signed_for_the_region_and_key_that_settings_name(
        self, place: ObjectPlace, make_http_proxy: MakeHTTPProxy, tmp_path: Path
    ) -> None:
        proxy = make_http_proxy(place)
        settings = parse_settings(
            {
                "catalog": {"type": "sqlite", "path": f"{tmp_path}/catalog.db"},
                "storage": {
                    "uri": place.uri,
                    "s3_region": "eu-north-1",
                    "s3_endpoint": f"http://{proxy.host}:{proxy.port}",
                    "s3_access_key_id": "${ID}",
                    "s3_secret_access_key": "${SECRET}",
                },
            },
            environ={"ID": "AKIAFROMSETTINGS", "SECRET": SECRET_ACCESS_KEY},
        )
        with create_ltm_from_settings(settings) as memory:
            assert memory.store("k", "x" * 10_000)["success"]
            assert memory.retrieve("k")["value"] == "x" * 10_000
        assert {request.method for request in proxy.requests} == {"PUT", "GET"}
        for request in proxy.requests:
            assert "Credential=AKIAFROMSETTINGS/" in request.field("authorization")
            assert "/eu-north-1/s3/aws4_request" in request.field("authorization")

    def test_requests_are_signed_for_the_region_and_key_of_the_environment(
        self,
        place: ObjectPlace,
        open_store: OpenStore,
        make_http_proxy: MakeHTTPProxy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        proxy = make_http_proxy(place)
        for name, value in place.through(proxy).environment.items():
            monkeypatch.setenv(name, value)
        open_store(options={}).write("a/one", b"1")
        (request,) = proxy.requests
        assert f"Credential={ACCESS_KEY_ID}/" in request.field("authorization")
        assert f"/{REGION}/s3/aws4_request" in request.field("authorization")


class TestS3Requests(RequestSuite):
    @pytest.fixture
    def place(self, s3_place: ObjectPlace) -> ObjectPlace:
        return s3_place


class TestS3Outages(OutageSuite):
    busy_body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"

    @pytest.fixture
    def place(self, s3_place: ObjectPlace) -> ObjectPlace:
        return s3_place
