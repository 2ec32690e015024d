"""What the exceptions of drivers mean, told by the drivers' own classes."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from payload_unreliable import SECRET, Unreliable

from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.payload.failures import HiddenError, is_bucket_missing, is_name_taken, meaning_of

botocore = pytest.importorskip("botocore.exceptions")
s3fs = pytest.importorskip("s3fs.errors")
aiohttp = pytest.importorskip("aiohttp")
http_exceptions = pytest.importorskip("aiohttp.http_exceptions")
ConnectionKey = pytest.importorskip("aiohttp.client_reqrep").ConnectionKey
gcsfs = pytest.importorskip("gcsfs.retry")
google = pytest.importorskip("google.auth.exceptions")
azure = pytest.importorskip("azure.core.exceptions")


class Answer:
    """As much of an HTTP answer as azure's exceptions look at."""

    reason = "reason"

    def __init__(self, status: int) -> None:
        self.status_code = status
        self.headers: dict[str, str] = {}


KEY = ConnectionKey("x", 80, False, True, None, None, None)


def s3_error(status: int, code: str, **more: str) -> Exception:
    """Return what s3fs makes of an error answer."""
    response = {
        "Error": {"Code": code, "Message": code, **more},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return s3fs.translate_boto_error(botocore.ClientError(response, "PutObject"))


def gcs_error(status: int, message: str = "no") -> Exception:
    """Return what gcsfs makes of an error answer."""
    try:
        gcsfs.validate_response(status, message.encode(), "b/x/o/y")
    except Exception as error:  # noqa: BLE001 it is what is asked for
        return error
    raise AssertionError(f"status {status} is no error")


def azure_error(status: int, code: str = "") -> Exception:
    error = azure.HttpResponseError("no", response=Answer(status))
    error.error_code = code
    return error


def raised_from(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def certificate_error() -> Exception:
    return ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")


TRANSIENT: list[Any] = [
    TimeoutError(),
    socket.gaierror(-3, "Temporary failure in name resolution"),
    BrokenPipeError("pipe"),
    botocore.EndpointConnectionError(endpoint_url="http://x"),
    botocore.ConnectTimeoutError(endpoint_url="http://x"),
    botocore.ConnectionClosedError(endpoint_url="http://x"),
    botocore.ReadTimeoutError(endpoint_url="http://x"),
    botocore.ResponseStreamingError(error="broken"),
    botocore.HTTPClientError(error="broken"),
    *(s3_error(status, str(status)) for status in (429, 500, 502, 503, 504)),
    s3_error(503, "SlowDown"),
    s3_error(400, "RequestTimeout"),
    s3_error(409, "ConditionalRequestConflict"),
    aiohttp.ClientPayloadError("broken"),
    raised_from(
        aiohttp.ClientPayloadError("broken"), http_exceptions.ContentLengthError("too short")
    ),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ServerTimeoutError(),
    aiohttp.ClientOSError(104, "reset"),
    aiohttp.ClientConnectorError(KEY, OSError(111, "refused")),
    *(gcs_error(status) for status in (408, 429, 500, 502, 503, 504)),
    gcsfs.ChecksumError("differs"),
    google.TransportError("no answer"),
    azure.ServiceRequestError("no connection"),
    azure.ServiceResponseError("no answer"),
    azure.IncompleteReadError("broken"),
    *(azure_error(status) for status in (408, 429, 500, 503)),
]
ANSWERS: list[Any] = [
    s3_error(403, "AccessDenied"),
    s3_error(403, "InvalidAccessKeyId"),
    s3_error(403, "SignatureDoesNotMatch"),
    s3_error(404, "NoSuchBucket"),
    s3_error(404, "NoSuchKey"),
    s3_error(301, "PermanentRedirect"),
    s3_error(501, "NotImplemented"),
    gcs_error(400),
    gcs_error(401, "Invalid Credentials"),
    gcs_error(403),
    gcs_error(404),
    gcs_error(412),
    azure_error(400),
    azure_error(403),
    azure_error(404),
    azure_error(409, "BlobImmutableDueToPolicy"),
]
NEITHER: list[Any] = [
    botocore.NoCredentialsError(),
    botocore.ParamValidationError(report="bad"),
    botocore.SSLError(endpoint_url="https://x", error=certificate_error()),
    certificate_error(),
    google.DefaultCredentialsError("none"),
    ValueError("unable to connect to account"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_may_pass_is_known_whoever_says_it(error: Exception, unreliable: Unreliable) -> None:
    assert meaning_of(error) == "transient"
    unreliable.faults[:] = [error]
    unreliable.store.write("a/one", b"1")
    assert unreliable.calls == ["pipe_file"] * 2


@pytest.mark.parametrize("error", ANSWERS, ids=repr)
def test_an_answer_stays_what_it_is(error: Exception, unreliable: Unreliable) -> None:
    assert meaning_of(error) == "answer"
    unreliable.faults[:] = [error]
    with pytest.raises(PayloadError):
        unreliable.store.write("a/one", b"1")
    assert unreliable.calls == ["pipe_file"]


@pytest.mark.parametrize("error", NEITHER, ids=repr)
def test_a_mistake_is_neither(error: Exception, unreliable: Unreliable) -> None:
    assert meaning_of(error) == "unknown"
    unreliable.faults[:] = [error]
    with pytest.raises(PayloadError):
        unreliable.store.write("a/one", b"1")
    assert unreliable.calls == ["pipe_file"]


@pytest.mark.parametrize(
    "error",
    [
        FileExistsError("taken"),
        s3_error(412, "PreconditionFailed", Condition="If-None-Match"),
        s3_error(412, "PreconditionFailed"),
        gcs_error(412),
    ],
    ids=repr,
)
def test_a_name_that_is_taken_is_called_so(error: Exception, unreliable: Unreliable) -> None:
    assert is_name_taken(error)
    unreliable.faults[:] = [error]
    with pytest.raises(PayloadError, match="the name is taken"):
        unreliable.store.write("a/one", b"1")


@pytest.mark.parametrize(
    "error",
    [
        s3_error(404, "NoSuchBucket"),
        raised_from(FileNotFoundError(2, "none"), azure_error(404, "ContainerNotFound")),
    ],
    ids=repr,
)
def test_a_missing_bucket_is_no_missing_object(error: Exception, unreliable: Unreliable) -> None:
    assert is_bucket_missing(error)
    for attempt in (
        lambda: unreliable.store.write("a/one", b"1"),
        lambda: unreliable.store.read("a/one"),
        lambda: unreliable.store.delete("a/one"),
        lambda: [*unreliable.store.list("a")],
    ):
        unreliable.faults[:] = [error]
        with pytest.raises(PayloadError, match="no such bucket") as caught:
            attempt()
        assert not isinstance(caught.value, PayloadNotFoundError)


@pytest.mark.parametrize(
    "error",
    [
        s3_error(404, "NoSuchKey"),
        s3_error(404, "404"),
        raised_from(FileNotFoundError(2, "none"), azure_error(404, "BlobNotFound")),
    ],
    ids=repr,
)
def test_a_missing_object_is_no_missing_bucket(error: Exception, unreliable: Unreliable) -> None:
    assert not is_bucket_missing(error)
    unreliable.faults[:] = [error]
    with pytest.raises(PayloadNotFoundError):
        unreliable.store.read("a/one")


def texts_of(error: BaseException | None) -> list[str]:
    """Return all that a traceback or a log of *error* could show."""
    if error is None:
        return []
    return [
        str(error),
        repr(error),
        *texts_of(error.__cause__),
        *(texts_of(error.__context__) if error.__context__ is not error.__cause__ else []),
    ]


@pytest.mark.parametrize(
    "told",
    [
        f"403 for {SECRET}",
        f"403 for {SECRET}-2",
        "403 for unreliable://user:hunter2@root",
        "403 for https://x/y?sv=1&sig=hunter2&se=2",
    ],
)
@pytest.mark.parametrize("kind", [PermissionError, ConnectionResetError, ValueError])
def test_no_secret_is_told_by_an_error_or_by_what_caused_it(
    unreliable: Unreliable, told: str, kind: type[Exception]
) -> None:
    for cause in (None, RuntimeError(told)):
        error = raised_from(kind("403" if cause else told), cause) if cause else kind(told)
        unreliable.faults[:] = [error] * 4
        with pytest.raises(PayloadError, match="403") as caught:
            unreliable.store.read("a/one")
        assert isinstance(caught.value.__cause__, HiddenError)
        for text in texts_of(caught.value):
            assert "hunter2" not in text
            assert SECRET not in text
            assert "-2" not in text
        unreliable.store.end_pause()


def test_an_error_without_a_secret_stays_the_cause(unreliable: Unreliable) -> None:
    error = PermissionError("403")
    unreliable.faults[:] = [error]
    with pytest.raises(PayloadError) as caught:
        unreliable.store.read("a/one")
    assert caught.value.__cause__ is error


def test_parts_of_a_connection_string_are_secrets_too(unreliable: Unreliable) -> None:
    text = "DefaultEndpointsProtocol=https;AccountName=ltm;AccountKey=c2VjcmV0+/==;"
    store = unreliable.open(storage_options={"connection_string": text})
    for told in ("c2VjcmV0+/==", "c2VjcmV0%2B%2F%3D%3D", text):
        unreliable.faults[:] = [PermissionError(f"403 {told}")]
        with pytest.raises(PayloadError, match="403") as caught:
            store.read("a/one")
        assert not any("c2VjcmV0" in each for each in texts_of(caught.value))
    unreliable.faults[:] = [PermissionError("403 for ltm")]
    with pytest.raises(PayloadError, match="403 for ltm"):
        store.read("a/one")


def test_telling_errors_apart_imports_no_driver(run_python) -> None:
    ended = run_python("""
import sys
from ltm.payload.failures import meaning_of
assert meaning_of(ConnectionResetError()) == "transient"
assert meaning_of(ValueError()) == "unknown"
found = {"s3fs", "botocore", "gcsfs", "aiohttp", "adlfs", "azure", "fsspec"} & set(sys.modules)
assert not found, found
""")
    assert ended.returncode == 0, ended.stderr


def test_a_local_store_imports_neither_fsspec_nor_what_only_remote_stores_need(
    run_python, tmp_path
) -> None:
    ended = run_python(
        """
import sys
from ltm.payload.store import open_payload_store
store = open_payload_store(sys.argv[1])
store.write("a/one", b"1")
assert store.read("a/one") == b"1"
store.delete("a/one")
found = {"fsspec", "tenacity", "asyncio", "concurrent.futures", "inspect",
    "ltm.payload.remote"} & set(sys.modules)
assert not found, found
""",
        str(tmp_path / "data"),
    )
    assert ended.returncode == 0, ended.stderr


def test_no_secret_is_told_by_what_caused_a_missing_object(unreliable: Unreliable) -> None:
    unreliable.faults[:] = [FileNotFoundError(f"https://x/y?key={SECRET}")]
    with pytest.raises(PayloadNotFoundError) as caught:
        unreliable.store.read("a/one")
    assert not any(SECRET in text for text in texts_of(caught.value))
