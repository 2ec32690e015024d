"""The servers of objects, and the proxy before them, are what tests of payloads rely on."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ltm.errors import PayloadError
from ltm.payload.store import open_payload_store
from tests.services.azure import VERSION, AzureServer
from tests.services.fixtures import running
from tests.services.http_proxy import HTTPProxy
from tests.services.object_server import ObjectPlace, ObjectServer
from tests.services.processes import ServiceDirectory, ServiceUnavailableError

ROOT = Path(__file__).resolve().parents[2]

SERVICES = ["s3", "gcs", "azure"]

ABANDONING = """
import os, signal, sys
from tests.services.{module} import {name}

server = {name}()
server.start()
print(server.port, server.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

BODY = bytes(range(256)) * 4000


@pytest.fixture(params=SERVICES)
def place(request: pytest.FixtureRequest) -> ObjectPlace:
    """An empty bucket or container, on one server after the other."""
    found: ObjectPlace = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture
def server(place: ObjectPlace) -> ObjectServer:
    return place.server


def test_the_server_keeps_objects(place: ObjectPlace) -> None:
    with closing(open_payload_store(place.uri, storage_options=place.options)) as store:
        store.write("a/one", b"1")
        assert store.read("a/one") == b"1"


def test_places_share_nothing(place: ObjectPlace, server: ObjectServer) -> None:
    other = server.make_place()
    with (
        closing(open_payload_store(place.uri, storage_options=place.options)) as one,
        closing(open_payload_store(other.uri, storage_options=other.options)) as two,
    ):
        one.write("a/one", b"1")
        assert [*two.list("a")] == []


def test_a_stopped_server_comes_back_empty_on_its_port(
    place: ObjectPlace, server: ObjectServer
) -> None:
    port = server.port
    with closing(open_payload_store(place.uri, storage_options=place.options)) as store:
        store.write("a/one", b"1")
        server.stop()
        assert not server.is_running
        with pytest.raises(ConnectionRefusedError):
            server.ask("GET", "/")
        server.start()
        assert server.port == port
        with pytest.raises(PayloadError):  # the bucket has gone, too
            store.read("a/one")


def test_a_paused_server_is_silent_until_it_goes_on(server: ObjectServer) -> None:
    server.pause()
    with closing(HTTPConnection(server.host, server.port, timeout=0.1)) as connection:
        connection.request("GET", "/")
        with pytest.raises(TimeoutError):
            connection.getresponse()
    server.start()
    assert server.ask("GET", "/") > 0


@pytest.mark.parametrize(
    ("module", "name"), [("s3", "S3Server"), ("gcs", "GCSServer"), ("azure", "AzureServer")]
)
def test_a_new_server_sweeps_away_what_a_killed_run_left(
    request: pytest.FixtureRequest, module: str, name: str
) -> None:
    server: ObjectServer = request.getfixturevalue(f"{module}_server")
    server.start()
    script = ABANDONING.format(module=module, name=name)
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    port, left = run.stdout.split()
    socket.create_connection(("127.0.0.1", int(port))).close()
    ServiceDirectory("sweeping").remove()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))
    assert not Path(left).exists()
    assert server.ask("GET", "/") > 0


def test_azurite_that_is_missing_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is missing, which is said first")
    monkeypatch.setenv("LTM_AZURITE", str(tmp_path))
    with pytest.raises(ServiceUnavailableError, match=rf"npm install .*azurite@{VERSION}"):
        AzureServer().start()


def test_azurite_is_found_where_the_variable_says(
    azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = azure_server.command()[1]
    assert isinstance(found, Path)
    (tmp_path / "elsewhere").symlink_to(found.parents[3])
    monkeypatch.setenv("LTM_AZURITE", str(tmp_path / "elsewhere"))
    with running(AzureServer()) as other:
        assert other.ask("GET", "/") > 0


class Recording(BaseHTTPRequestHandler):
    """Answers a request with its body, and notes how much of it arrived."""

    protocol_version = "HTTP/1.1"
    arrived: list[int]

    def do_PUT(self) -> None:
        expected = int(self.headers["Content-Length"])
        body = self.rfile.read(expected)
        self.arrived.append(len(body))
        if len(body) < expected:
            return
        self.send_response(200)
        host, port = self.server.server_address[:2]
        self.send_header("Location", f"http://{host}:{port}/next")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def recording() -> Iterator[ThreadingHTTPServer]:
    class Handler(Recording):
        arrived: list[int] = []  # noqa: RUF012 of this test alone

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(recording: ThreadingHTTPServer) -> Iterator[HTTPProxy]:
    with HTTPProxy("127.0.0.1", recording.server_port) as proxy:
        yield proxy


def put(proxy: HTTPProxy, times: int = 1, body: bytes = BODY) -> list[int]:
    """Send *body* so often over one connection, as far as it goes; return the statuses."""
    statuses = []
    connection = HTTPConnection(proxy.host, proxy.port, timeout=30)
    with closing(connection):
        for number in range(times):
            connection.request("PUT", f"/{number}", body)
            answer = connection.getresponse()
            content = answer.read()
            assert content == body or answer.status != 200
            statuses.append(answer.status)
    return statuses


def test_the_proxy_notes_every_request_in_order(proxy: HTTPProxy) -> None:
    assert put(proxy, times=3) == [200] * 3
    noted = [(request.method, request.target) for request in proxy.requests]
    assert noted == [("PUT", "/0"), ("PUT", "/1"), ("PUT", "/2")]
    assert proxy.requests[0].field("content-length") == str(len(BODY))
    proxy.forget()
    assert proxy.requests == []


def test_the_proxy_answers_for_a_server_that_has_too_much_to_do(
    proxy: HTTPProxy, recording: ThreadingHTTPServer
) -> None:
    proxy.answer(503, b"busy", one_in=3, headers="Retry-After: 1\r\n")
    assert put(proxy, times=9) == [200, 200, 503] * 3
    assert len(recording.RequestHandlerClass.arrived) == 6  # type: ignore[attr-defined]
    proxy.answer(503, one_in=0)
    assert put(proxy, times=3) == [200] * 3


def test_the_proxy_takes_a_body_in_chunks(proxy: HTTPProxy) -> None:
    proxy.answer(429, one_in=1)
    with closing(HTTPConnection(proxy.host, proxy.port, timeout=30)) as connection:
        connection.request("PUT", "/", iter([BODY, BODY]), encode_chunked=True)
        assert connection.getresponse().status == 429


def test_an_upload_is_cut_after_exactly_so_many_bytes(
    proxy: HTTPProxy, recording: ThreadingHTTPServer
) -> None:
    proxy.cut_upload_after(100_000)
    with pytest.raises(OSError):  # noqa: PT011 whichever way the connection ends
        put(proxy)
    assert put(proxy) == [200]
    while len(recording.RequestHandlerClass.arrived) < 2:  # type: ignore[attr-defined]
        threading.Event().wait(0.01)
    assert sorted(recording.RequestHandlerClass.arrived) == [100_000, len(BODY)]  # type: ignore[attr-defined]


def test_an_upload_is_held_until_it_is_let_go(proxy: HTTPProxy) -> None:
    proxy.hold_upload_after(100_000)
    failures: list[OSError] = []

    def upload() -> None:
        try:
            put(proxy)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=upload)
    thread.start()
    assert proxy.has_held.wait(30)
    assert thread.is_alive()
    proxy.pass_through()
    thread.join(30)
    assert len(failures) == 1
    assert put(proxy) == [200]


def test_the_proxy_has_the_server_s_address_replaced_by_its_own(proxy: HTTPProxy) -> None:
    with closing(HTTPConnection(proxy.host, proxy.port, timeout=30)) as connection:
        connection.request("PUT", "/", b"")
        location = connection.getresponse().headers["Location"]
    assert location == f"http://{proxy.host}:{proxy.port}/next"
