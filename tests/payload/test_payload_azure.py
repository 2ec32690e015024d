"""Payloads on Azure: what every store does, and what only a real server shows."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from payload_objects import ObjectSuite, OpenStore
from payload_outages import OutageSuite
from payload_requests import RequestSuite

from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.payload.base import PayloadStore
from ltm.payload.store import open_payload_store
from ltm.testing.payload_suite import PayloadStoreSuite
from tests.services.azure import KEY
from tests.services.object_server import ObjectPlace

WRONG_KEY = base64.b64encode(b"not the key of this account").decode()


class TestAzure(PayloadStoreSuite):
    @pytest.fixture(autouse=True)
    def container(self, azure_place: ObjectPlace) -> None:
        self.place = azure_place

    def make_store(self, tmp_path: Path) -> PayloadStore:
        return open_payload_store(self.place.uri, storage_options=self.place.options)


class TestAzureObjects(ObjectSuite):
    @pytest.fixture
    def place(self, azure_place: ObjectPlace) -> ObjectPlace:
        return azure_place

    def test_a_wrong_key_is_an_error_that_does_not_show_it(
        self, place: ObjectPlace, open_store: OpenStore
    ) -> None:
        wrong = place.options["connection_string"].replace(KEY, WRONG_KEY)
        store = open_store(options={"connection_string": wrong})
        for attempt in (lambda: store.write("a/one", b"1"), lambda: store.read("a/one")):
            with pytest.raises(PayloadError) as caught:
                attempt()
            assert not isinstance(caught.value, PayloadNotFoundError)
            assert WRONG_KEY not in str(caught.value)
        assert [*open_store().list("a")] == []


class TestAzureRequests(RequestSuite):
    of_listing = 2  # the driver asks first whether the directory is an object

    @pytest.fixture
    def place(self, azure_place: ObjectPlace) -> ObjectPlace:
        return azure_place


class TestAzureOutages(OutageSuite):
    busy_body = b"<Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>"

    @pytest.fixture
    def place(self, azure_place: ObjectPlace) -> ObjectPlace:
        return azure_place
