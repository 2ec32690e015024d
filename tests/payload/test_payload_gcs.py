"""Payloads on GCS: what every store does, and what only a real server shows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from payload_objects import IN_PARTS, ObjectSuite, OpenStore
from payload_outages import OutageSuite
from payload_requests import RequestSuite

from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.payload.base import PayloadStore
from ltm.payload.store import open_payload_store
from ltm.testing.payload_suite import PayloadStoreSuite
from tests.services.fixtures import MakeHTTPProxy
from tests.services.object_server import ObjectPlace


class TestGCS(PayloadStoreSuite):
    @pytest.fixture(autouse=True)
    def bucket(self, gcs_place: ObjectPlace) -> None:
        self.place = gcs_place

    def make_store(self, tmp_path: Path) -> PayloadStore:
        return open_payload_store(self.place.uri, storage_options=self.place.options)


class TestGCSObjects(ObjectSuite):
    # The server here heeds no precondition of an upload in parts; the test below sees it sent.
    unguarded_bytes = IN_PARTS

    @pytest.fixture
    def place(self, gcs_place: ObjectPlace) -> ObjectPlace:
        return gcs_place

    @pytest.mark.parametrize("byte_size", [1, 1_000_000, IN_PARTS])
    def test_every_upload_requires_that_there_is_no_such_object(
        self,
        place: ObjectPlace,
        open_store: OpenStore,
        make_http_proxy: MakeHTTPProxy,
        byte_size: int,
    ) -> None:
        proxy = make_http_proxy(place)
        open_store(place.through(proxy)).write("a/one", bytes(byte_size))
        (first, *_) = proxy.requests
        assert "ifGenerationMatch=0" in first.target

    def test_a_service_account_s_key_file_is_enough(
        self,
        place: ObjectPlace,
        open_store: OpenStore,
        make_http_proxy: MakeHTTPProxy,
        token_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        proxy = make_http_proxy(place)
        write_key_file(tmp_path / "key.json", token_url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        for name, value in place.through(proxy).environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(options={"token": "google_default"})
        store.write("a/one", b"1")
        assert store.read("a/one") == b"1"
        assert {request.field("authorization") for request in proxy.requests} == {"Bearer of-tests"}

    def test_a_key_file_that_is_refused_is_an_error_of_the_store(
        self,
        place: ObjectPlace,
        open_store: OpenStore,
        token_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write_key_file(tmp_path / "key.json", f"{token_url}/refused")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(PayloadError) as caught:
            open_store(options={"token": "google_default"}).read("a/one")
        assert not isinstance(caught.value, PayloadNotFoundError)

    @pytest.fixture
    def token_url(self) -> Iterator[str]:
        """Where a signed assertion gets a token, as at Google's; below it, it gets none."""

        class Tokens(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/token":
                    status, answer = 200, {"access_token": "of-tests", "expires_in": 3600}
                else:
                    status, answer = 400, {"error": "invalid_grant"}
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        with HTTPServer(("127.0.0.1", 0), Tokens) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}/token"
            server.shutdown()
            thread.join()


class TestGCSRequests(RequestSuite):
    upload = "POST"
    of_absence = 1

    @pytest.fixture
    def place(self, gcs_place: ObjectPlace) -> ObjectPlace:
        return gcs_place


class TestGCSOutages(OutageSuite):
    busy_body = b'{"error": {"code": 503, "message": "We encountered an internal error."}}'
    busy_type = "application/json"

    @pytest.fixture
    def place(self, gcs_place: ObjectPlace) -> ObjectPlace:
        return gcs_place


def write_key_file(path: Path, token_url: str) -> None:
    """Write what Google gives out for a service account, but for where its tokens come from."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "project_id": "test",
        "private_key_id": "1",
        "private_key": text,
        "client_email": "ltm@test.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_url,
    }
    path.write_text(json.dumps(account), encoding="utf-8")
